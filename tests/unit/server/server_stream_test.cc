// What happens to a connection on its way: handlers, relay, PROXY, TLS, deadlines, limits, drain,
// and what the audit log says of it.
#include <doctest/doctest.h>
#include <fcntl.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cctype>
#include <cerrno>
#include <map>
#include <set>
#include <string>

#include "server/handler.h"
#include "tests/support/audited.h"
#include "tests/support/serving.h"
#include "tests/support/tls_peer.h"
#include "tests/support/tls_testing.h"

using namespace tcpvitals;
using namespace tcpvitals::testing;

namespace {

std::uint64_t rejected(const ListenerStatistics& s, RejectReason reason) {
  return s.rejected[static_cast<std::size_t>(reason)];
}

std::string v1(const std::string& client, const std::string& server = "192.0.2.9 443") {
  const auto space = client.find(' ');
  const auto other = server.find(' ');
  return "PROXY TCP4 " + client.substr(0, space) + " " + server.substr(0, other) +
         client.substr(space) + server.substr(other) + "\r\n";
}

std::vector<IpPrefix> prefixes(std::initializer_list<const char*> texts) {
  std::vector<IpPrefix> parsed;
  for (const char* text : texts) parsed.push_back(*parse_ip_prefix(text));
  return parsed;
}

}  // namespace

TEST_CASE("discard takes everything and answers nothing") {
  auto server = start_one({.name = "sink", .handler = HandlerKind::kDiscard});
  Client client = Client::to(server->endpoint());
  CHECK(client.send(pattern(1 << 20)));
  client.end_stream();
  CHECK(client.at_end());
  CHECK(closed_when_idle(*server, CloseCause::kPeerFin) == 1);
  CHECK(statistics(*server).tcp.received_bytes == 1 << 20);
  CHECK(statistics(*server).tcp.sent_bytes == 0);
}

namespace {

// Says what it was called with, and answers in capitals.
class Shout final : public Handler {
 public:
  explicit Shout(std::atomic<int>& open) : open_(open) {}

  void on_open(Stream stream) override {
    ++open_;
    stream.set_context(this);
    stream.write("welcome\n");
  }
  void on_data(Stream stream, std::string_view bytes) override {
    CHECK(stream.context() == this);
    CHECK_FALSE(stream.is_outbound());
    std::string text(bytes);
    if (text == "abort") return stream.abort();
    if (text == "bye") {
      stream.write("farewell");
      return stream.finish();
    }
    if (text == "flood") {
      stream.write(std::string(64 << 20, 'x'));
      return;
    }
    for (char& c : text) c = static_cast<char>(std::toupper(c));
    stream.write(text);
  }
  void on_close(Stream /*stream*/, CloseCause /*cause*/) override { --open_; }

 private:
  std::atomic<int>& open_;
};

}  // namespace

TEST_CASE("a handler of one's own greets, answers, finishes, aborts, and is told of every end") {
  std::atomic<int> open{0};
  ListenerOptions listener{.name = "shout", .handler = HandlerKind::kOwn};
  listener.make_handler = [&] { return std::make_unique<Shout>(open); };
  auto server = start_one(listener);
  Client talker = Client::to(server->endpoint());
  CHECK(talker.receive(8) == "welcome\n");
  CHECK(talker.send("hello"));
  CHECK(talker.receive(5) == "HELLO");
  CHECK(open == 1);

  Client leaver = Client::to(server->endpoint());
  CHECK(leaver.receive(8) == "welcome\n");
  CHECK(leaver.send("bye"));
  CHECK(leaver.receive(9) == "farewell");  // and the end of the stream
  CHECK(open == 2);                        // its own end did not come yet
  leaver.close();

  Client aborted = Client::to(server->endpoint());
  CHECK(aborted.receive(8) == "welcome\n");
  CHECK(aborted.send("abort"));
  CHECK_FALSE(aborted.at_end());  // but a reset

  // More than may wait: cut off, at a bound.
  Client flooded = Client::to(server->endpoint());
  CHECK(flooded.receive(8) == "welcome\n");
  CHECK(flooded.send("flood"));
  const auto s = statistics_when(
      *server, [](const auto& now) { return closed(now, CloseCause::kHandler) == 2; });
  CHECK(closed(s, CloseCause::kHandler) == 2);
  CHECK(s.output_buffer_bytes == 0);
  talker.close();
  statistics_when_idle(*server);
  CHECK(open == 0);
}

namespace {

// Echoes; a connection that says "hold" keeps the worker until it is let go.
class Held final : public Handler {
 public:
  Held(std::atomic<bool>& holds, std::atomic<bool>& go) : holds_(holds), go_(go) {}

  void on_data(Stream stream, std::string_view bytes) override {
    stream.write(bytes);
    if (bytes != "hold") return;
    holds_ = true;
    while (!go_) std::this_thread::sleep_for(1ms);
  }

 private:
  std::atomic<bool>& holds_;
  std::atomic<bool>& go_;
};

}  // namespace

TEST_CASE("what comes before the server looks once is read to its end, whatever it is") {
  std::atomic<bool> holds{false};
  std::atomic<bool> go{false};
  ListenerOptions listener{.name = "held", .handler = HandlerKind::kOwn};
  listener.max_output_bytes = 4096;
  listener.make_handler = [&] { return std::make_unique<Held>(holds, go); };
  auto server = start_one(listener);
  const auto connected = [&] {
    Client client = Client::to(server->endpoint());
    CHECK(client.echoes("hello"));
    return client;
  };
  Client much = connected();
  Client ended = connected();
  Client urgent = connected();
  Client reset = connected();
  Client holder = connected();
  CHECK(holder.send("hold"));
  while (!holds) std::this_thread::sleep_for(1ms);

  const std::string more = pattern(2 * 4096 + 1);  // than the server reads at once
  CHECK(much.send(more));
  CHECK(ended.send("last words"));
  ended.end_stream();
  CHECK(urgent.send("before"));
  CHECK(urgent.send_urgent('!'));
  CHECK(urgent.send("after"));
  CHECK(reset.send("last words"));
  reset.reset();
  go = true;

  CHECK((much.receive(more.size()) == more));
  CHECK(much.echoes("still there"));
  CHECK(ended.receive(10) == "last words");
  CHECK(ended.at_end());
  CHECK(urgent.receive(11) == "beforeafter");  // the urgent byte is out of band
  CHECK(urgent.echoes("still there"));
  const auto s = statistics_when(
      *server, [](const auto& now) { return closed(now, CloseCause::kPeerRst) == 1; });
  CHECK(closed(s, CloseCause::kPeerRst) == 1);
  CHECK(s.live() == 3);
}

TEST_CASE("a relay carries both directions, each to its own end") {
  auto backend = start_one({.name = "echo"});
  ListenerOptions listener{.name = "relay", .handler = HandlerKind::kRelay};
  listener.backend = backend->endpoint();
  listener.max_output_bytes = 20'000;
  auto relay = start_one(listener);

  Client client = Client::to(relay->endpoint());
  CHECK(client.echoes("hello"));
  // More than all buffers on the way hold, read late: backpressure through both servers.
  const std::string sent = pattern(24 << 20);
  std::thread writer([&] {
    client.send(sent);
    client.end_stream();  // the way back stays open
  });
  std::this_thread::sleep_for(100ms);
  CHECK(statistics(*relay).output_buffer_bytes <= 2 * 20'000);
  const std::string received = client.receive(sent.size());
  writer.join();
  CHECK((received == sent));
  CHECK(client.at_end());
  CHECK(closed_when_idle(*relay, CloseCause::kPeerFin) == 1);
  CHECK(statistics(*relay).backend_connections == 1);
  statistics_when_idle(*backend);
}

TEST_CASE("a relay resets its client when the backend is not there, or breaks off") {
  Endpoint nobody;
  {
    auto gone = start_one({.name = "gone"});
    nobody = gone->endpoint();
  }
  ListenerOptions listener{.name = "relay", .handler = HandlerKind::kRelay};
  listener.backend = nobody;
  auto relay = start_one(listener);
  Client client = Client::to(relay->endpoint());
  CHECK_FALSE(client.at_end());
  CHECK(closed_when_idle(*relay, CloseCause::kBackend) == 1);
  CHECK(statistics(*relay).backend_failures == 1);

  auto backend = start_one({.name = "echo"});
  listener.backend = backend->endpoint();
  auto second = start_one(listener);
  // One whose client breaks off: the backend sees a reset.
  Client breaks = Client::to(second->endpoint());
  CHECK(breaks.echoes("hello"));
  breaks.reset();
  const auto at_backend = statistics_when(
      *backend, [](const auto& now) { return closed(now, CloseCause::kPeerRst) == 1; });
  CHECK(closed(at_backend, CloseCause::kPeerRst) == 1);

  // And one whose backend does.
  const Fd listening(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  SocketAddress any(Endpoint{*parse_ip_address("127.0.0.1"), 0});
  REQUIRE(::bind(listening.get(), any.get(), any.length) == 0);
  REQUIRE(::listen(listening.get(), 1) == 0);
  listener.backend = local_endpoint(listening);
  auto third = start_one(listener);
  Client cut = Client::to(third->endpoint());
  CHECK(cut.send("hello"));
  Fd accepted(::accept(listening.get(), nullptr, nullptr));
  REQUIRE(accepted.valid());
  const linger abort{1, 0};
  ::setsockopt(accepted.get(), SOL_SOCKET, SO_LINGER, &abort, sizeof abort);
  accepted.reset();
  CHECK_FALSE(cut.at_end());
  CHECK(errno == ECONNRESET);
  CHECK(closed_when_idle(*third, CloseCause::kBackend) == 1);
}

TEST_CASE("a relay that ends a connection itself resets both sides") {
  struct Row {
    const char* what;
    CloseCause cause;
    void (*set)(ListenerOptions&);
  };
  const std::vector<Row> rows{
      {"idle", CloseCause::kIdleTimeout, [](auto& l) { l.deadlines.idle = 1s; }},
      {"lifetime", CloseCause::kLifetime, [](auto& l) { l.deadlines.lifetime = 1s; }},
      {"stop", CloseCause::kShutdown, [](auto&) {}},
  };
  at_once(rows, [](const Row& row) {
    CAPTURE(row.what);
    auto backend = start_one({.name = "echo"});
    ListenerOptions listener{.name = "relay", .handler = HandlerKind::kRelay};
    listener.backend = backend->endpoint();
    row.set(listener);
    auto relay = start_one(listener);
    Client client = Client::to(relay->endpoint());
    CHECK(client.echoes("hello"));
    if (row.cause == CloseCause::kShutdown) relay->stop();
    CHECK_FALSE(client.at_end());
    CHECK(closed_when_idle(*relay, row.cause) == 1);
    CHECK(closed_when_idle(*backend, CloseCause::kPeerRst) == 1);
  });
}

TEST_CASE("a relay that drains hands on all that a client sent before its end") {
  Endpoint somewhere{*parse_ip_address("127.0.0.1"), 0};
  SocketAddress address(somewhere);
  const Fd listening(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  REQUIRE(::bind(listening.get(), address.get(), address.length) == 0);
  REQUIRE(::listen(listening.get(), 1) == 0);
  ListenerOptions listener{.name = "relay", .handler = HandlerKind::kRelay};
  listener.backend = local_endpoint(listening);
  auto relay = start_one(listener);
  Client client = Client::to(relay->endpoint());
  const Fd backend(::accept(listening.get(), nullptr, nullptr));
  CHECK_FALSE(relay->drain(Clock::now() + 300ms));
  const std::string sent = pattern(1 << 20);  // more than the backend's socket takes unread
  CHECK(client.send(sent));
  client.end_stream();
  ::shutdown(backend.get(), SHUT_WR);
  CHECK(client.at_end());
  client.close();
  CHECK(closed_when_idle(*relay, CloseCause::kDrain) == 1);
  std::string received;
  std::string piece(1 << 20, '\0');
  ssize_t n;
  while ((n = ::recv(backend.get(), piece.data(), piece.size(), 0)) > 0) {
    received.append(piece, 0, static_cast<std::size_t>(n));
  }
  CHECK(n == 0);  // the end, not a reset
  CHECK((received == sent));
  CHECK(relay->drain(Clock::now() + 10s));
}

TEST_CASE("a relay tells its backend who the client is") {
  Audited audited;
  ListenerOptions behind{.name = "behind"};
  behind.proxy_from = prefixes({"127.0.0.0/8"});
  auto backend = start_one(behind, audited.log.get());
  for (const ProxyVersion version : {ProxyVersion::kV1, ProxyVersion::kV2}) {
    ListenerOptions listener{.name = "relay", .handler = HandlerKind::kRelay};
    listener.backend = backend->endpoint();
    listener.send_proxy = version;
    auto relay = start_one(listener);
    Client client = Client::to(relay->endpoint());
    CHECK(client.echoes("hello"));
    client.close();
    statistics_when_idle(*relay);
  }
  statistics_when_idle(*backend);
  const auto opens = audited.lines("open");
  REQUIRE(opens.size() == 2);
  for (const Json& open : opens) {
    CHECK(open["peer"] != open["via"]);
    CHECK(open["probe"] == false);
  }
}

TEST_CASE("a relay behind a proxy passes the PROXY header on to its backend") {
  const std::string_view kLocal("\r\n\r\n\0\r\nQUIT\n\x20\0\0\3xyz", 19);
  const std::string_view kUnknown = "PROXY UNKNOWN\r\n";
  auto backend = start_one({.name = "echo"});  // the header comes back
  struct Row {
    ProxyVersion version;
    std::string_view came;
    std::string_view goes_on;
  };
  for (const Row& row :
       {Row{ProxyVersion::kV2, kLocal, kLocal}, Row{ProxyVersion::kV1, kLocal, kUnknown},
        Row{ProxyVersion::kV1, kUnknown, kUnknown}}) {
    ListenerOptions listener{.name = "relay", .handler = HandlerKind::kRelay};
    listener.backend = backend->endpoint();
    listener.send_proxy = row.version;
    listener.proxy_from = prefixes({"127.0.0.0/8"});
    auto relay = start_one(listener);
    Client proxy = Client::to(relay->endpoint());
    CHECK(proxy.send(std::string(row.came) + "data"));
    CHECK(proxy.receive(row.goes_on.size() + 4) == std::string(row.goes_on) + "data");
  }
}

TEST_CASE("a PROXY header names the client, in one piece or byte by byte") {
  Audited audited;
  ListenerOptions listener{.name = "proxied"};
  listener.proxy_from = prefixes({"127.0.0.0/8"});
  listener.deny = prefixes({"198.51.100.13"});
  auto server = start_one(listener, audited.log.get());

  Client whole = Client::to(server->endpoint());
  CHECK(whole.send(v1("198.51.100.7 40000") + "data"));
  CHECK(whole.receive(4) == "data");
  Client dripped = Client::to(server->endpoint());
  for (const char byte : v1("198.51.100.8 40001")) {
    CHECK(dripped.send(std::string(1, byte)));
    std::this_thread::sleep_for(200us);
  }
  CHECK(dripped.echoes("data"));

  Client denied = Client::to(server->endpoint());
  CHECK(denied.send(v1("198.51.100.13 40002") + "data"));
  CHECK(denied.receive(1).empty());
  Client garbage = Client::to(server->endpoint());
  CHECK(garbage.send("GET / HTTP/1.1\r\n\r\n"));
  CHECK(garbage.receive(1).empty());
  Client half = Client::to(server->endpoint());
  CHECK(half.send("PROXY TCP4 198.51"));
  half.end_stream();
  CHECK(half.receive(1).empty());
  Client silent = Client::to(server->endpoint());  // a health check
  silent.close();
  whole.close();
  dripped.close();

  const auto s = statistics_when_idle(*server);
  CHECK(s.accepted == 6);
  CHECK(closed(s, CloseCause::kPeerFin) == 3);
  CHECK(closed(s, CloseCause::kProxyError) == 2);
  CHECK(closed(s, CloseCause::kDenied) == 1);
  CHECK(rejected(s, RejectReason::kAccess) == 1);

  std::map<std::string, Json> by_peer;
  for (const Json& open : audited.lines("open")) by_peer[open["peer"]] = open;
  REQUIRE(by_peer.count("198.51.100.7:40000") == 1);
  CHECK(by_peer["198.51.100.7:40000"]["local"] == "192.0.2.9:443");
  CHECK(by_peer.count("198.51.100.8:40001") == 1);
  const auto denies = audited.lines("deny");
  REQUIRE(denies.size() == 1);
  CHECK(denies[0]["peer"] == "198.51.100.13:40002");
  CHECK(denies[0]["why"] == "access");
  const auto closes = audited.lines("close");
  CHECK(closes.size() == 6);
  CHECK(std::count_if(closes.begin(), closes.end(),
                      [](const Json& close) { return close["probe"] == true; }) == 1);
}

TEST_CASE("a proxy's health checks are told apart, and no limit of clients is theirs") {
  Audited audited;
  ListenerOptions listener{.name = "proxied"};
  listener.proxy_from = prefixes({"127.0.0.0/8"});
  listener.allow = prefixes({"198.51.100.0/24"});
  auto server = start_one(listener, audited.log.get());

  Client v1_check = Client::to(server->endpoint());
  const std::string own_port = std::to_string(v1_check.local().port);
  CHECK(v1_check.send(v1("127.0.0.1 " + own_port)));
  CHECK(v1_check.echoes("data"));
  Client v2_check = Client::to(server->endpoint());  // LOCAL
  CHECK(v2_check.send(std::string("\r\n\r\n\0\r\nQUIT\n\x20\0\0\0", 16)));
  CHECK(v2_check.echoes("data"));
  Client connects_only = Client::to(server->endpoint());
  connects_only.close();
  Client resets = Client::to(server->endpoint());
  resets.reset();
  Client client = Client::to(server->endpoint());
  CHECK(client.send(v1("198.51.100.7 " + own_port)));
  CHECK(client.echoes("data"));
  for (Client* open : {&v1_check, &v2_check, &client}) open->close();

  statistics_when_idle(*server);
  const auto closes = audited.lines("close");
  REQUIRE(closes.size() == 5);
  for (const Json& close : closes) {
    CAPTURE(close.dump());
    CHECK(close["probe"] == (close["peer"] != "198.51.100.7:" + own_port));
  }
}

TEST_CASE("who is no trusted proxy is refused, whatever it says") {
  ListenerOptions listener{.name = "proxied"};
  listener.proxy_from = prefixes({"192.0.2.0/24"});
  auto server = start_one(listener);
  Client spoofer = Client::to(server->endpoint());
  spoofer.send(v1("198.51.100.7 40000") + "data");
  CHECK(spoofer.receive(1).empty());
  const auto s = statistics_when(
      *server, [](const auto& now) { return rejected(now, RejectReason::kUntrustedProxy) == 1; });
  CHECK(rejected(s, RejectReason::kUntrustedProxy) == 1);
  CHECK(s.accepted == 0);
}

TEST_CASE("limits of a peer: at once, in time, and given back") {
  ListenerOptions listener{.name = "limited"};
  listener.per_peer.max_connections = 2;
  auto server = start_one(listener);
  Client first = Client::to(server->endpoint());
  Client second = Client::to(server->endpoint());
  CHECK(first.echoes("a"));
  CHECK(second.echoes("b"));
  Client third = Client::to(server->endpoint());
  CHECK(third.receive(1).empty());
  first.close();
  statistics_when(*server, [](const auto& now) { return now.live() == 1; });
  Client fourth = Client::to(server->endpoint());
  CHECK(fourth.echoes("c"));
  CHECK(rejected(statistics(*server), RejectReason::kPeerConnections) == 1);

  listener.per_peer = {.rate = 0.001, .burst = 3};
  auto slow = start_one(listener);
  for (int i = 0; i < 5; ++i) Client::to(slow->endpoint()).close();
  const auto s = statistics_when(
      *slow, [](const auto& now) { return rejected(now, RejectReason::kPeerRate) == 2; });
  CHECK(rejected(s, RejectReason::kPeerRate) == 2);
  CHECK(s.accepted == 3);

  listener.per_peer = {};
  listener.accept_rate = {.soft = 1, .hard = 4};
  auto hard = start_one(listener);
  for (int i = 0; i < 50; ++i) Client::to(hard->endpoint()).close();
  const auto h = statistics_when(*hard, [](const auto& now) {
    return now.accepted + rejected(now, RejectReason::kAcceptRate) == 50;
  });
  CHECK(rejected(h, RejectReason::kAcceptRate) >= 40);  // 4 in each second that it took
  CHECK(h.accepted >= 4);
  CHECK(snapshot(*hard).listeners[0].gauges.accept_peak >= 25);
  CHECK(snapshot(*hard).listeners[0].gauges.accept_soft_limit_seconds >= 1);

  listener.accept_rate = {};
  listener.deny = prefixes({"127.0.0.0/8"});
  auto closed_shop = start_one(listener);
  Client denied = Client::to(closed_shop->endpoint());
  CHECK(denied.receive(1).empty());
  CHECK(statistics(*closed_shop).accepted == 0);
}

namespace {

class Farewell final : public Handler {
 public:
  void on_open(Stream stream) override { stream.finish(); }
  void on_data(Stream /*stream*/, std::string_view /*bytes*/) override {}
};

}  // namespace

TEST_CASE("who stays after our end of the stream is let go, unless he goes on sending") {
  ListenerOptions listener{.name = "farewell", .handler = HandlerKind::kOwn};
  listener.make_handler = [] { return std::make_unique<Farewell>(); };
  listener.deadlines.half_closed = 1s;
  auto server = start_one(listener);
  Client stays = Client::to(server->endpoint());
  const TimePoint start = Clock::now();
  Client talks = Client::to(server->endpoint());
  CHECK(stays.at_end());
  CHECK(talks.at_end());
  for (int i = 0; i < 25; ++i) {
    CHECK(talks.send("more"));
    std::this_thread::sleep_for(100ms);
  }
  const auto s = statistics(*server);
  CHECK(closed(s, CloseCause::kIdleTimeout) == 1);
  CHECK(s.live() == 1);
  CHECK(closed_when_idle(*server, CloseCause::kIdleTimeout) == 2);
  CHECK(Clock::now() - start >= 3500ms);
}

namespace {

class Volume final : public Handler {
 public:
  explicit Volume(const std::string& text) : text_(text) {}
  void on_open(Stream stream) override {
    stream.write(text_);
    stream.finish();
  }
  void on_data(Stream /*stream*/, std::string_view /*bytes*/) override {}

 private:
  const std::string& text_;
};

}  // namespace

TEST_CASE("after our end of the stream a slow reader gets all of it, one that stopped is let go") {
  const std::string text = pattern(400'000);
  ListenerOptions volume{.name = "volume", .handler = HandlerKind::kOwn};
  volume.make_handler = [&] { return std::make_unique<Volume>(text); };
  volume.max_output_bytes = 1 << 20;
  auto backend = start_one(volume);
  // All of it is soon the kernel's.
  ListenerOptions relay{.name = "relay", .handler = HandlerKind::kRelay};
  relay.backend = backend->endpoint();
  relay.send_buffer = 1 << 20;
  relay.deadlines.half_closed = 1s;
  const std::function<void()> both[] = {
      [&] {
        auto server = start_one(relay);
        Client slow;
        slow.small_receive_buffer();
        slow.connect(server->endpoint());
        std::string received;
        while (received.size() < text.size()) {
          const std::string more = slow.receive(20'000);
          if (more.empty()) break;
          received += more;
          std::this_thread::sleep_for(200ms);  // 4 s in all
        }
        CHECK((received == text));
        CHECK(slow.at_end());
        slow.close();
        CHECK(closed_when_idle(*server, CloseCause::kPeerFin) == 1);
      },
      [&] {
        auto server = start_one(relay);
        Client stopped;
        stopped.small_receive_buffer();
        stopped.connect(server->endpoint());
        CHECK(stopped.receive(1).size() == 1);
        CHECK(closed_when_idle(*server, CloseCause::kIdleTimeout) == 1);
      },
  };
  at_once(both, [](const auto& reader) { reader(); });
}

TEST_CASE("each deadline closes what is late, with its cause, and spares what is not") {
  struct Row {
    const char* what;
    CloseCause cause;
    std::function<void(ListenerOptions&)> set;
    std::function<void(Client&)> be_late;
  };
  const auto nothing = [](Client&) {};
  Directory directory;
  const Identity identity = make_identity({});
  const TlsOptions tls{.certificate_file = directory.write("crt", identity.certificate),
                       .key_file = directory.write("key", identity.key)};
  const std::vector<Row> rows{
      {"idle", CloseCause::kIdleTimeout, [](auto& l) { l.deadlines.idle = 1s; },
       [](Client& c) { CHECK(c.echoes("a")); }},
      {"lifetime", CloseCause::kLifetime, [](auto& l) { l.deadlines.lifetime = 1s; },
       [](Client& c) { CHECK(c.echoes("a")); }},
      {"handshake", CloseCause::kHandshakeTimeout,
       [&](auto& l) {
         l.tls = tls;
         l.deadlines.handshake = 1s;
       },
       nothing},
      {"half a handshake", CloseCause::kHandshakeTimeout,
       [&](auto& l) {
         l.tls = tls;
         l.deadlines.handshake = 1s;
       },
       [](Client& c) { c.send("\x16\x03\x01"); }},
      {"proxy", CloseCause::kProxyTimeout,
       [](auto& l) {
         l.proxy_from = prefixes({"127.0.0.1"});
         l.deadlines.proxy_header = 1s;
       },
       [](Client& c) { c.send("PROXY"); }},
      {"write", CloseCause::kWriteStall, [](auto& l) { l.deadlines.write_stall = 1s; },
       [](Client& c) { std::thread([&] { c.send(pattern(24 << 20)); }).join(); }},
      // All of the answer is in the kernel, and none of it waits in the server.
      {"user", CloseCause::kUserTimeout, [](auto& l) { l.user_timeout = 1s; },
       [](Client& c) { c.send(pattern(30'000)); }},
  };
  at_once(rows, [](const Row& row) {
    CAPTURE(row.what);
    ListenerOptions listener{.name = "late"};
    row.set(listener);
    auto server = start_one(listener);
    Client client;
    const bool window_closes =
        row.cause == CloseCause::kWriteStall || row.cause == CloseCause::kUserTimeout;
    if (window_closes) client.small_receive_buffer();
    client.connect(server->endpoint());
    const TimePoint start = Clock::now();
    row.be_late(client);
    if (!window_closes) CHECK_FALSE(client.answered_within(900));
    CHECK(closed_when_idle(*server, row.cause) == 1);
    CHECK(Clock::now() - start >= 1s);
    CHECK(Clock::now() - start < 8s);
    if (row.cause == CloseCause::kHandshakeTimeout) {
      CHECK(statistics(*server).handshakes[static_cast<std::size_t>(TlsOutcome::kTimeout)] == 1);
    }
  });
}

TEST_CASE("who goes on talking is not idle") {
  ListenerOptions listener{.name = "busy"};
  listener.deadlines.idle = 1s;
  auto server = start_one(listener);
  Client busy = Client::to(server->endpoint());
  for (int i = 0; i < 25; ++i) {
    CHECK(busy.echoes("a"));
    std::this_thread::sleep_for(100ms);
  }
  CHECK(statistics(*server).live() == 1);
}

TEST_CASE("TLS: small and large messages, orderly ends, and a line in the audit log") {
  Audited audited;
  TlsFiles files;
  auto server = start_one({.name = "secure", .tls = files.options}, audited.log.get());
  TlsPeer peer(server->endpoint());
  REQUIRE(peer.handshake());
  CHECK(peer.ask("hello") == "hello");
  const std::string large = pattern(300'000);
  CHECK((peer.ask(large) == large));
  peer.tls.notify();
  peer.socket.send(peer.tls.take());
  peer.socket.end_stream();
  while (peer.exchange()) {
  }
  peer.tls.read();
  CHECK(peer.tls.notified());
  CHECK(closed_when_idle(*server, CloseCause::kPeerFin) == 1);
  const auto closes = audited.lines("close");
  REQUIRE(closes.size() == 1);
  CHECK(closes[0]["tls_version"] == "TLSv1.3");
  CHECK(closes[0]["tls_cipher"] == "TLS_AES_256_GCM_SHA384");
  CHECK(closes[0]["received_bytes"] == 300'005);
  CHECK(statistics(*server).handshakes[static_cast<std::size_t>(TlsOutcome::kOk)] == 1);

  Client plain = Client::to(server->endpoint());
  plain.send("GET / HTTP/1.1\r\n\r\n");
  while (!plain.receive_some().empty()) {
  }
  CHECK(closed_when_idle(*server, CloseCause::kTlsError) == 1);
  CHECK(statistics(*server).handshakes[static_cast<std::size_t>(TlsOutcome::kProtocol)] == 1);
}

TEST_CASE("TLS: a stream that may be cut short has a cause of its own") {
  TlsFiles files;
  for (const HandlerKind handler : {HandlerKind::kEcho, HandlerKind::kDiscard}) {
    auto server = start_one({.name = "secure", .handler = handler, .tls = files.options});
    TlsPeer peer(server->endpoint());
    REQUIRE(peer.handshake());
    peer.socket.end_stream();  // without close_notify
    CHECK(closed_when_idle(*server, CloseCause::kTruncated) == 1);
  }
}

namespace {

// Reads to the end; whether that was in order.
class Reader final : public Handler {
 public:
  explicit Reader(std::atomic<int>& ends) : ends_(ends) {}
  void on_data(Stream stream, std::string_view bytes) override {
    if (bytes == "break off") stream.abort();
  }
  void on_end(Stream stream) override {
    ++ends_;
    stream.finish();
  }

 private:
  std::atomic<int>& ends_;
};

}  // namespace

TEST_CASE("TLS: a relay hands on an end in order, and anything else as a reset") {
  std::atomic<int> ends{0};
  ListenerOptions reader{.name = "reader", .handler = HandlerKind::kOwn};
  reader.make_handler = [&] { return std::make_unique<Reader>(ends); };
  auto backend = start_one(reader);
  TlsFiles files;
  ListenerOptions listener{.name = "relay", .handler = HandlerKind::kRelay, .tls = files.options};
  listener.backend = backend->endpoint();
  auto relay = start_one(listener);
  const auto ask = [&](const char* bytes) {
    auto peer = std::make_unique<TlsPeer>(relay->endpoint());
    REQUIRE(peer->handshake());
    peer->tls.write(bytes);
    peer->socket.send(peer->tls.take());
    return peer;
  };

  auto whole = ask("whole");
  whole->tls.notify();
  whole->socket.send(whole->tls.take());
  whole->socket.end_stream();
  CHECK(closed_when_idle(*relay, CloseCause::kPeerFin) == 1);
  CHECK(closed_when_idle(*backend, CloseCause::kPeerFin) == 1);
  CHECK(ends == 1);

  auto cut = ask("cut");
  cut->socket.end_stream();
  CHECK(closed_when_idle(*relay, CloseCause::kTruncated) == 1);
  CHECK(closed_when_idle(*backend, CloseCause::kPeerRst) == 1);
  CHECK(ends == 1);

  auto broken = ask("break off");
  CHECK_FALSE(broken->socket.at_end());  // but a reset, and no close_notify before it
  CHECK(closed_when_idle(*relay, CloseCause::kBackend) == 1);
}

TEST_CASE("TLS: handshakes at once are bounded, and a place comes free") {
  TlsFiles files;
  files.options.max_handshakes = 1;
  auto server = start_one({.name = "secure", .tls = files.options});
  Client holds = Client::to(server->endpoint());
  statistics_when(*server, [](const auto& now) { return now.accepted == 1; });
  Client refused = Client::to(server->endpoint());
  CHECK(refused.receive(1).empty());
  CHECK(rejected(statistics(*server), RejectReason::kHandshakes) == 1);
  holds.close();
  statistics_when_idle(*server);
  TlsPeer peer(server->endpoint());
  CHECK(peer.handshake());
  CHECK(peer.ask("a") == "a");
}

TEST_CASE("TLS: a reload changes what new connections see, and no connection") {
  TlsFiles files;
  auto server = start_one({.name = "secure", .tls = files.options});
  TlsPeer before(server->endpoint());
  REQUIRE(before.handshake());
  files.directory.write("crt", "nonsense");
  server->renew_tls();
  CHECK_FALSE(snapshot(*server).listeners[0].gauges.tls->usable);
  TlsPeer still(server->endpoint());
  CHECK(still.handshake());
  const Identity next = make_identity({.name = "next.test"});
  files.directory.write("crt", next.certificate);
  files.directory.write("key", next.key);
  server->renew_tls();
  CHECK(snapshot(*server).listeners[0].gauges.tls->usable);
  TlsPeer after(server->endpoint());
  CHECK(after.handshake());
  for (TlsPeer* peer : {&before, &still, &after}) CHECK(peer->ask("hello") == "hello");
  CHECK(snapshot(*server).listeners[0].gauges.tls->reload_failures == 1);
}

TEST_CASE(
    "TLS: a listener without a usable certificate is closed until it has one; others are open") {
  TlsFiles files;
  files.directory.write("crt", "nonsense");
  auto server = start(
      {.listeners = {{.name = "secure", .tls = files.options}, {.name = "echo"}}, .workers = 2});
  CHECK_FALSE(server->is_open(0));
  CHECK(Client::to(server->endpoint(1)).echoes("hello"));
  CHECK(server->listening_sockets().size() == 2);
  const Identity good = make_identity({});
  files.directory.write("crt", good.certificate);
  files.directory.write("key", good.key);
  server->renew_tls();
  REQUIRE(server->is_open(0));
  CHECK(server->listening_sockets().size() == 4);
  for (int i = 0; i < 4; ++i) {
    TlsPeer peer(server->endpoint(0));
    REQUIRE(peer.handshake());
    CHECK(peer.ask("a") == "a");
  }
}

TEST_CASE("a drain lets what is on its way arrive, refuses what is new, and ends") {
  auto server = start_one({.name = "echo", .send_buffer = 20'000});  // the rest waits in the server
  const Endpoint endpoint = server->endpoint();
  Client client = Client::to(endpoint);
  CHECK(client.echoes("before"));
  Client slow;
  slow.small_receive_buffer();
  slow.connect(endpoint);
  const std::string sent = pattern(1 << 20);
  std::thread writer([&] { slow.send(sent); });
  const auto waiting =
      statistics_when(*server, [](const auto& now) { return now.output_buffer_bytes > 0; });
  CHECK(waiting.output_buffer_bytes > 0);

  CHECK_FALSE(server->drain(Clock::now() + 50ms));
  CHECK(client.at_end());  // half-closed: what it still says is answered by no one
  client.close();
  std::string received = slow.receive(sent.size());
  writer.join();
  CHECK(sent.compare(0, received.size(), received) == 0);
  CHECK(received.size() > 0);
  slow.close();
  CHECK(server->drain(Clock::now() + 10s));
  Client late(AF_INET);
  CHECK_FALSE(late.can_connect(endpoint));
  const auto s = statistics(*server);
  CHECK(closed(s, CloseCause::kDrain) + closed(s, CloseCause::kPeerRst) == 2);
  CHECK(closed(s, CloseCause::kDrain) >= 1);
}

TEST_CASE("a server goes on with another's sockets, and nobody in their queues is lost") {
  auto first = start_one({.name = "echo"});
  std::vector<PassedSocket> passed;
  for (const auto& [name, fd] : first->listening_sockets()) {
    passed.push_back({name, Fd(::fcntl(fd->get(), F_DUPFD_CLOEXEC, 0))});
  }
  const Endpoint endpoint = first->endpoint();
  first->drain(Clock::now() + 1s);
  first.reset();
  Client queued = Client::to(endpoint);  // nobody accepts at this moment
  ListenerOptions listener{.name = "echo", .endpoint = endpoint};
  auto second = Server::start({.listeners = {listener}, .workers = 2}, std::move(passed));
  REQUIRE(second.ok());
  CHECK((*second)->endpoint() == endpoint);
  CHECK(queued.echoes("hello"));
  for (int i = 0; i < 20; ++i) CHECK(Client::to(endpoint).echoes("again"));
}

TEST_CASE(
    "a socket that a service manager opened is shared by all workers, and no other is opened") {
  SocketAddress any(Endpoint{*parse_ip_address("127.0.0.1"), 0});
  Fd opened(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  REQUIRE(::bind(opened.get(), any.get(), any.length) == 0);
  REQUIRE(::listen(opened.get(), 100) == 0);
  const Endpoint endpoint = local_endpoint(opened);
  const Fd kept(::fcntl(opened.get(), F_DUPFD_CLOEXEC, 0));
  std::vector<PassedSocket> passed;
  passed.push_back({"echo", std::move(opened)});
  ListenerOptions listener{.name = "echo", .endpoint = endpoint};
  auto server = Server::start({.listeners = {listener}, .workers = 3}, std::move(passed));
  REQUIRE_MESSAGE(server.ok(), server.error().message);
  CHECK((*server)->listening_sockets().size() == 3);
  for (int i = 0; i < 30; ++i) CHECK(Client::to(endpoint).echoes("hello"));
  server->reset();
  Client queued = Client::to(endpoint);  // in the queue that the service manager holds
  CHECK(Fd(::accept(kept.get(), nullptr, nullptr)).valid());
}

TEST_CASE("audit: ids rise from one server to the next, and a JSON reader keeps them exact") {
  Audited audited;
  constexpr int kServers = 3;
  for (int i = 0; i < kServers; ++i) {
    auto server = start_one({.name = "echo"}, audited.log.get());
    for (int n = 0; n < 10; ++n) CHECK(Client::to(server->endpoint()).echoes("hello"));
  }
  std::uint64_t last = 0;
  const auto opens = audited.lines("open");
  CHECK(opens.size() == 10 * kServers);
  for (const Json& open : opens) {
    const std::uint64_t id = open["id"];
    CHECK(id > last);
    CHECK(id < std::uint64_t{1} << 53);
    last = id;
  }
}

TEST_CASE("audit: an open and a close for each connection, in that order, ids unique") {
  Audited audited;
  auto server = start_one({.name = "echo"}, audited.log.get());
  constexpr int kConnections = 300;
  for (int i = 0; i < kConnections; ++i) {
    Client client = Client::to(server->endpoint());
    CHECK(client.echoes("hello"));
    if (i % 3 == 0) client.reset();
  }
  Client left_open = Client::to(server->endpoint());
  CHECK(left_open.echoes("a"));
  server->stop();
  const auto opens = audited.lines("open");
  const auto closes = audited.lines("close");
  CHECK(opens.size() == kConnections + 1);
  CHECK(closes.size() == kConnections + 1);
  std::set<std::uint64_t> ids;
  for (const Json& open : opens) CHECK(ids.insert(open["id"].get<std::uint64_t>()).second);
  std::map<std::string, int> causes;
  for (const Json& close : closes) {
    CHECK(ids.erase(close["id"].get<std::uint64_t>()) == 1);
    ++causes[close["cause"]];
  }
  CHECK(causes["peer_rst"] == kConnections / 3);
  CHECK(causes["peer_fin"] == kConnections - kConnections / 3);
  CHECK(causes["shutdown"] == 1);
}
