// Listeners that change under live connections.
#include <doctest/doctest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include <algorithm>
#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "base/log.h"
#include "server/server.h"
#include "tests/fixtures/descriptors.h"
#include "tests/support/audited.h"
#include "tests/support/serving.h"
#include "tests/support/tls_testing.h"

using namespace tcpvitals;
using namespace tcpvitals::testing;

namespace {

using Listeners = std::vector<ListenerOptions>;

Endpoint any_port(const char* address = "127.0.0.1") { return {*parse_ip_address(address), 0}; }

ListenerOptions listener(const std::string& name, HandlerKind handler = HandlerKind::kEcho) {
  ListenerOptions options{.name = name};
  options.endpoint = any_port();
  options.handler = handler;
  return options;
}

std::unique_ptr<Server> serve(Listeners listeners, unsigned workers = 2) {
  return start({.listeners = std::move(listeners), .workers = workers, .sweep_interval = kNever});
}

void reload(Server& server, Listeners listeners, std::chrono::seconds drain = 60s) {
  auto change = server.prepare(std::move(listeners), drain);
  if (!change) FAIL(change.error().message);
  (*change)();
}

std::string error_of(Server& server, Listeners listeners) {
  const auto change = server.prepare(std::move(listeners), 60s);
  return change ? "none" : change.error().message;
}

ListenerReport report_of(Server& server, const std::string& name) {
  for (const ListenerReport& report : snapshot(server).listeners) {
    if (report.name == name) return report;
  }
  return {};
}

bool eventually(const std::function<bool()>& holds) {
  const TimePoint give_up = Clock::now() + 10s;
  while (!holds() && Clock::now() < give_up) std::this_thread::sleep_for(2ms);
  return holds();
}

bool refuses(const Endpoint& endpoint) {
  Client client(endpoint.address.is_v4() ? AF_INET : AF_INET6);
  return !client.can_connect(endpoint);
}

// Says its name to whoever comes, and keeps its streams open when the server drains.
class Named final : public Handler {
 public:
  explicit Named(std::string name) : name_(std::move(name)) {}
  void on_open(Stream stream) override { stream.write(name_); }
  void on_data(Stream stream, std::string_view bytes) override { stream.write(bytes); }
  void on_drain(Stream /*stream*/) override {}

 private:
  const std::string name_;
};

ListenerOptions named(const std::string& name) {
  ListenerOptions options = listener(name, HandlerKind::kOwn);
  options.make_handler = [name] { return std::make_unique<Named>(name); };
  return options;
}

ListenerOptions relay_to(const Endpoint& backend) {
  ListenerOptions options = listener("relay", HandlerKind::kRelay);
  options.backend = backend;
  return options;
}

int option_of(Server& server, int level, int option) {
  int value = -1;
  socklen_t length = sizeof value;
  const auto sockets = server.listening_sockets();
  ::getsockopt(sockets.at(0).second->get(), level, option, &value, &length);
  return value;
}

std::string subject_at(const Endpoint& endpoint) {
  Client client = Client::to(endpoint);
  TlsClient tls;
  while (!tls.handshake()) {
    if (!client.send(tls.take())) return "cut";
    const std::string bytes = client.receive_some();
    if (bytes.empty()) return "cut";
    tls.give(bytes);
  }
  X509* const certificate = SSL_get1_peer_certificate(tls.get());
  char name[64] = {};
  X509_NAME_get_text_by_NID(X509_get_subject_name(certificate), NID_commonName, name, sizeof name);
  X509_free(certificate);
  return name;
}

}  // namespace

TEST_CASE("a live connection goes on through a reload, and its listener's totals do") {
  auto server = serve({listener("echo")});
  Client client = Client::to(server->endpoint());
  CHECK(client.echoes("before"));
  ListenerOptions other = listener("echo");
  other.max_connections = 5;
  other.max_output_bytes = 4096;
  other.keepalive = {.idle = 60s, .interval = 10s, .count = 3};
  other.deadlines.lifetime = 1h;
  other.per_peer.max_connections = 3;
  reload(*server, {other});
  CHECK(client.echoes("after"));
  CHECK(Client::to(server->endpoint()).echoes("new"));
  const ListenerReport report = report_of(*server, "echo");
  CHECK(report.statistics.accepted == 2);
  CHECK(report.gauges.limit == 5);
  CHECK(report.gauges.limited_peers == 1);
  client.end_stream();
  CHECK(client.at_end());
  CHECK(closed_when_idle(*server, CloseCause::kPeerFin) == 2);
}

TEST_CASE("fewer connections at once: the next waits; more: who waits is let in") {
  auto server = serve({listener("echo")}, 1);
  Client first = Client::to(server->endpoint());
  CHECK(first.echoes("x"));
  ListenerOptions one = listener("echo");
  one.max_connections = 1;
  reload(*server, {one});
  Client second = Client::to(server->endpoint());
  second.send("y");
  statistics_when(*server, [](const auto& s) { return pauses(s, PauseReason::kLimit) > 0; });
  CHECK_FALSE(second.answered_within(150));
  CHECK(first.echoes("x"));
  one.max_connections = 2;
  reload(*server, {one});
  CHECK(second.receive(1) == "y");
}

TEST_CASE("new limits of each peer count who is here already, and who goes") {
  auto server = serve({listener("echo")});
  std::vector<Client> clients;
  for (int i = 0; i < 3; ++i) {
    clients.push_back(Client::to(server->endpoint()));
    CHECK(clients.back().echoes("x"));
  }
  ListenerOptions limited = listener("echo");
  limited.per_peer.max_connections = 3;
  reload(*server, {limited});
  CHECK_FALSE(Client::to(server->endpoint()).echoes("x"));
  for (Client& client : clients) CHECK(client.echoes("y"));
  limited.per_peer.ipv4_length = 8;
  reload(*server, {limited});
  clients.pop_back();
  CHECK(eventually([&] { return statistics(*server).live() == 2; }));
  CHECK(Client::to(server->endpoint()).echoes("z"));
  clients.clear();
  statistics_when_idle(*server);
  limited.per_peer = {};
  reload(*server, {limited});
  CHECK_FALSE(report_of(*server, "echo").gauges.limited_peers.has_value());
}

TEST_CASE("the accept rate is another one at once, for all workers") {
  auto server = serve({listener("echo")});
  ListenerOptions slow = listener("echo");
  slow.accept_rate = {.soft = 1, .hard = 1};
  reload(*server, {slow});
  int refused = 0;
  for (int i = 0; i < 20; ++i) refused += Client::to(server->endpoint()).echoes("x") ? 0 : 1;
  CHECK(refused > 0);
  reload(*server, {listener("echo")});
  for (int i = 0; i < 20; ++i) CHECK(Client::to(server->endpoint()).echoes("x"));
}

TEST_CASE("output is held up to the new bound") {
  auto server = serve({listener("echo")}, 1);
  ListenerOptions small = listener("echo");
  small.max_output_bytes = 2000;
  reload(*server, {small});
  Client client;
  client.small_receive_buffer();
  client.connect(server->endpoint());
  std::thread writer([&] { client.send(pattern(8 << 20)); });
  const auto blocked =
      statistics_when(*server, [](const auto& s) { return s.output_buffer_bytes > 0; });
  CHECK(blocked.output_buffer_bytes <= 2000);
  CHECK(client.receive(8 << 20) == pattern(8 << 20));
  writer.join();
}

TEST_CASE("clients that new lists refuse are closed, and nobody else") {
  Audited audited;
  auto server = start({.listeners = {listener("echo"), listener("other")},
                       .workers = 2,
                       .audit = audited.log.get()});
  Client denied = Client::to(server->endpoint(0));
  Client other = Client::to(server->endpoint(1));
  CHECK(denied.echoes("x"));
  CHECK(other.echoes("x"));
  ListenerOptions strict = listener("echo");
  strict.deny = {*parse_ip_prefix("127.0.0.1/32")};
  reload(*server, {strict, listener("other")});
  CHECK(denied.receive(1).empty());
  CHECK(other.echoes("y"));
  CHECK(eventually([&] { return closed(statistics(*server), CloseCause::kDenied) == 1; }));
  CHECK_FALSE(Client::to(server->endpoint(0)).echoes("x"));
  const auto lines = audited.lines("close");
  REQUIRE(lines.size() == 1);
  CHECK(lines[0]["cause"] == "denied");

  ListenerOptions chosen = listener("other");
  chosen.allow = {*parse_ip_prefix("192.0.2.0/24")};
  reload(*server, {strict, chosen});
  CHECK(other.receive(1).empty());
  CHECK(eventually([&] { return closed(statistics(*server, 1), CloseCause::kDenied) == 1; }));
  reload(*server, {listener("echo"), listener("other")});
  CHECK(Client::to(server->endpoint(0)).echoes("x"));
  CHECK(Client::to(server->endpoint(1)).echoes("x"));
}

TEST_CASE("behind a proxy new lists judge each client by its own address") {
  ListenerOptions proxied = listener("proxied");
  proxied.proxy_from = {*parse_ip_prefix("127.0.0.0/8")};
  auto server = serve({proxied}, 1);
  Client one = Client::to(server->endpoint());
  Client two = Client::to(server->endpoint());
  Client probe = Client::to(server->endpoint());
  Client silent = Client::to(server->endpoint());
  one.send("PROXY TCP4 192.0.2.1 192.0.2.9 4711 443\r\n");
  two.send("PROXY TCP4 192.0.2.2 192.0.2.9 4711 443\r\n");
  probe.send(std::string("\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00", 16));
  CHECK(one.echoes("x"));
  CHECK(two.echoes("x"));
  CHECK(probe.echoes("x"));
  proxied.deny = {*parse_ip_prefix("192.0.2.1/32"), *parse_ip_prefix("127.0.0.1/32")};
  reload(*server, {proxied});
  CHECK(one.receive(1).empty());
  CHECK(two.echoes("y"));
  CHECK(probe.echoes("y"));
  silent.send("PROXY TCP4 192.0.2.1 192.0.2.9 4711 443\r\n");
  CHECK(silent.receive(1).empty());
  CHECK(eventually([&] { return closed(statistics(*server), CloseCause::kDenied) == 2; }));
}

TEST_CASE("live connections have the new deadlines, shorter and longer ones") {
  ListenerOptions shorter = listener("shorter");
  ListenerOptions longer = listener("longer");
  longer.deadlines.idle = 2s;
  auto server = serve({shorter, longer});
  Client ends = Client::to(server->endpoint(0));
  Client stays = Client::to(server->endpoint(1));
  CHECK(ends.echoes("x"));
  CHECK(stays.echoes("x"));
  shorter.deadlines.idle = 1s;
  longer.deadlines.idle = 1h;
  reload(*server, {shorter, longer});
  CHECK(ends.at_end());
  CHECK(closed_when_idle(*server, CloseCause::kIdleTimeout) == 1);
  std::this_thread::sleep_for(3s);
  CHECK(stays.echoes("y"));
}

TEST_CASE("a relay's new clients go to its new backend, also of the other family") {
  const auto backends = serve({named("one"), named("two")});
  ListenerOptions six = named("six");
  six.endpoint = any_port("::1");
  const auto other = serve({six});
  ListenerOptions relay = relay_to(backends->endpoint(0));
  auto server = serve({relay});
  Client first = Client::to(server->endpoint());
  CHECK(first.receive(3) == "one");
  relay.backend = backends->endpoint(1);
  reload(*server, {relay});
  Client second = Client::to(server->endpoint());
  CHECK(second.receive(3) == "two");
  relay.backend = other->endpoint();
  relay.send_proxy = ProxyVersion::kV1;
  reload(*server, {relay});
  for (int i = 0; i < 5; ++i) {
    Client third = Client::to(server->endpoint());
    CHECK(third.receive(3) == "six");
    CHECK(third.receive(10) == "PROXY TCP4");  // which the backend says back
  }
  CHECK(first.echoes("x"));
  CHECK(second.echoes("y"));
  CHECK(statistics(*server).backend_failures == 0);
}

TEST_CASE("a client in its handshake goes to the backend that is in force after it") {
  const auto backends = serve({named("one"), named("two")});
  ListenerOptions six = named("six");
  six.endpoint = any_port("::1");
  const auto other = serve({six});
  ListenerOptions relay = relay_to(backends->endpoint(0));
  relay.proxy_from = {*parse_ip_prefix("127.0.0.0/8")};
  auto server = serve({relay}, 1);
  Client client = Client::to(server->endpoint());
  statistics_when(*server, [](const auto& s) { return s.accepted == 1; });
  relay.backend = other->endpoint();
  reload(*server, {relay});
  client.send("PROXY TCP4 192.0.2.1 192.0.2.9 4711 443\r\n");
  CHECK(client.receive(3) == "six");
}

TEST_CASE("new handshakes have the new certificate, and sessions the one they began with") {
  const Directory directory;
  const auto files = [&](const std::string& name) {
    const Identity identity = make_identity({.name = name});
    return TlsOptions{.certificate_file = directory.write(name + ".crt", identity.certificate),
                      .key_file = directory.write(name + ".key", identity.key)};
  };
  ListenerOptions secure = listener("secure");
  secure.tls = files("one");
  auto server = serve({secure});
  CHECK(subject_at(server->endpoint()) == "one");
  secure.tls = files("two");
  reload(*server, {secure});
  CHECK(subject_at(server->endpoint()) == "two");
  secure.tls = {};
  reload(*server, {secure});
  CHECK(Client::to(server->endpoint()).echoes("plain"));
  CHECK_FALSE(report_of(*server, "secure").gauges.tls.has_value());
  secure.tls = files("three");
  reload(*server, {secure});
  CHECK(subject_at(server->endpoint()) == "three");
}

TEST_CASE("a certificate that cannot be used closes its own listener until it can") {
  const Directory directory;
  const Identity identity = make_identity({});
  ListenerOptions secure = listener("secure");
  auto server = serve({secure, listener("echo")});
  Client live = Client::to(server->endpoint(0));
  CHECK(live.echoes("x"));
  const Endpoint before = server->endpoint(0);
  secure.tls = {.certificate_file = directory.path("crt"), .key_file = directory.path("key")};
  reload(*server, {secure, listener("echo")});
  CHECK_FALSE(server->is_open(0));
  CHECK(refuses(before));
  CHECK(live.echoes("y"));
  CHECK(Client::to(server->endpoint(1)).echoes("x"));
  CHECK(report_of(*server, "secure").gauges.tls->usable == false);
  directory.write("crt", identity.certificate);
  server->renew_tls();  // half of it
  CHECK(report_of(*server, "secure").gauges.tls->reload_failures == 1);
  reload(*server, {secure, listener("echo")});
  directory.write("key", identity.key);
  server->renew_tls();
  CHECK(server->is_open(0));
  CHECK(subject_at(server->endpoint(0)) == "server.test");
  secure.tls.certificate_file = directory.write("other", identity.certificate);
  reload(*server, {secure, listener("echo")});
  CHECK(report_of(*server, "secure").gauges.tls->reload_failures == 1);  // it never falls
}

TEST_CASE("listeners come and go; one that comes back under its name counts on") {
  auto server = serve({listener("stays"), listener("goes")});
  Client stays = Client::to(server->endpoint(0));
  Client goes = Client::to(server->endpoint(1));
  CHECK(stays.echoes("x"));
  CHECK(goes.echoes("x"));
  const Endpoint gone = server->endpoint(1);
  reload(*server, {listener("stays"), listener("comes")});
  CHECK(refuses(gone));
  CHECK(Client::to(server->endpoint(1)).echoes("x"));
  CHECK(report_of(*server, "goes").statistics.live() == 1);  // it is told of while it drains
  CHECK(goes.at_end());                                      // as in a drain
  CHECK(stays.echoes("y"));
  goes.close();
  CHECK(eventually([&] { return report_of(*server, "goes").name.empty(); }));
  const auto sockets = server->listening_sockets();
  CHECK(std::none_of(sockets.begin(), sockets.end(),
                     [](const auto& socket) { return socket.first == "goes"; }));

  reload(*server, {listener("goes"), listener("stays")});
  CHECK(Client::to(server->endpoint(0)).echoes("x"));
  const auto back = report_of(*server, "goes").statistics;
  CHECK(back.accepted == 2);
  CHECK(closed(back, CloseCause::kDrain) == 1);
  CHECK(stays.echoes("z"));
  CHECK(report_of(*server, "stays").statistics.accepted == 1);
}

TEST_CASE("connections of a listener that is gone are closed when their time to drain is over") {
  auto server = serve({named("stubborn"), listener("echo")}, 1);
  Client client = Client::to(server->endpoint(0));
  CHECK(client.receive(8) == "stubborn");
  reload(*server, {listener("echo")}, 4s);
  CHECK(client.echoes("x"));
  CHECK(client.receive(1).empty());
  reload(*server, {listener("echo"), named("stubborn")});
  const auto statistics = report_of(*server, "stubborn").statistics;
  CHECK(closed(statistics, CloseCause::kShutdown) == 1);
  CHECK(statistics.live() == 0);
}

TEST_CASE("a listener that moves keeps its live connections") {
  auto server = serve({listener("echo")});
  Client client = Client::to(server->endpoint());
  CHECK(client.echoes("x"));
  const Endpoint before = server->endpoint();
  ListenerOptions moved = listener("echo");
  moved.endpoint = any_port("::1");
  reload(*server, {moved});
  CHECK(server->endpoint().address == *parse_ip_address("::1"));
  CHECK(refuses(before));
  CHECK(client.echoes("y"));
  CHECK(Client::to(server->endpoint()).echoes("z"));
  // The new settings are for those at the old address too.
  moved.deny = {*parse_ip_prefix("127.0.0.0/8")};
  reload(*server, {moved});
  CHECK(client.receive(1).empty());
  CHECK(Client::to(server->endpoint()).echoes("z"));
  CHECK(eventually([&] { return closed(statistics(*server), CloseCause::kDenied) == 1; }));
  CHECK(statistics(*server).accepted == 3);
}

TEST_CASE("a listener that is gone drains those too who came to where it was before") {
  auto server = serve({named("stubborn"), listener("echo")});
  Client client = Client::to(server->endpoint());
  CHECK(client.receive(8) == "stubborn");
  ListenerOptions moved = named("stubborn");
  moved.endpoint = any_port("::1");
  reload(*server, {moved, listener("echo")});
  Client later = Client::to(server->endpoint());
  CHECK(later.receive(8) == "stubborn");
  reload(*server, {listener("echo")}, 1s);
  CHECK(client.receive(1).empty());
  CHECK(later.receive(1).empty());
  CHECK(eventually([&] { return snapshot(*server).listeners.size() == 1; }));
}

TEST_CASE("another handler is for new connections: live ones keep theirs") {
  auto server = serve({listener("service")});
  Client echoed = Client::to(server->endpoint());
  CHECK(echoed.echoes("x"));
  reload(*server, {listener("service", HandlerKind::kDiscard)});
  Client discarded = Client::to(server->endpoint());
  discarded.send("y");
  CHECK_FALSE(discarded.answered_within(100));
  CHECK(echoed.echoes("z"));
  reload(*server, {listener("service")});
  CHECK(Client::to(server->endpoint()).echoes("w"));
  CHECK_FALSE(discarded.answered_within(50));
  CHECK(statistics(*server).accepted == 3);
}

TEST_CASE("an address goes from one listener to another with who waits there") {
  auto server = serve({listener("first")});
  ListenerOptions full = listener("first");
  full.endpoint = server->endpoint();
  reload(*server, {full});  // to where it is
  full.max_connections = 1;
  reload(*server, {full});
  Client one = Client::to(full.endpoint);
  CHECK(one.echoes("x"));
  Client waits = Client::to(full.endpoint);
  waits.send("y");
  CHECK_FALSE(waits.answered_within(50));
  ListenerOptions second = listener("second");
  second.endpoint = full.endpoint;
  reload(*server, {second});
  CHECK(waits.receive(1) == "y");
  CHECK(report_of(*server, "second").statistics.accepted == 1);
}

TEST_CASE("a listener may move to an address that its own is a part of, and back") {
  for (const unsigned workers : {1U, 2U}) {
    auto server = serve({listener("echo")}, workers);
    ListenerOptions narrow = listener("echo");
    narrow.endpoint = server->endpoint();
    ListenerOptions wide = narrow;
    wide.endpoint.address = *parse_ip_address("0.0.0.0");
    Client client = Client::to(narrow.endpoint);
    CHECK(client.echoes("x"));
    for (const ListenerOptions& next : {wide, narrow, wide}) {
      reload(*server, {next});
      CHECK(server->endpoint() == next.endpoint);
      CHECK(Client::to(narrow.endpoint).echoes("y"));
      CHECK(client.echoes("z"));
    }
    // Nobody else may join a port that has one worker's socket.
    CHECK(option_of(*server, SOL_SOCKET, SO_REUSEPORT) == (workers > 1 ? 1 : 0));
  }
}

TEST_CASE("a change of which one part fails changes nothing") {
  const auto other = serve({listener("other")});
  auto server = serve({listener("echo"), listener("goes")});
  Client client = Client::to(server->endpoint(0));
  Client goes = Client::to(server->endpoint(1));
  CHECK(client.echoes("x"));
  CHECK(goes.echoes("x"));
  const auto before = server->listening_sockets();
  const std::size_t descriptors = open_descriptors();
  ListenerOptions changed = listener("echo");
  changed.max_connections = 1;
  changed.deny = {*parse_ip_prefix("127.0.0.0/8")};
  ListenerOptions taken = listener("taken");
  taken.endpoint = other->endpoint();
  CHECK(error_of(*server, {changed, listener("fine"), taken}) ==
        "listener taken on " + to_string(taken.endpoint) + ": bind: Address already in use");
  ListenerOptions strange = listener("echo");
  strange.congestion_control = "no_such_thing";
  CHECK(error_of(*server, {strange, listener("fine")}) ==
        "listener echo: TCP_CONGESTION no_such_thing: No such file or directory");
  CHECK(error_of(*server, {listener("echo"), listener("echo")}) ==
        "listener echo: a second one of that name");
  CHECK(open_descriptors() == descriptors);
  CHECK(server->listening_sockets() == before);
  CHECK(client.echoes("y"));
  CHECK(goes.echoes("y"));
  CHECK(Client::to(server->endpoint(0)).echoes("z"));
  CHECK(Client::to(server->endpoint(1)).echoes("z"));
  {
    auto dropped = server->prepare({changed}, 60s);
    REQUIRE(dropped.ok());
  }
  CHECK(client.echoes("y"));
  CHECK(report_of(*server, "echo").gauges.limit > 1);
  CHECK(snapshot(*server).listeners.size() == 2);
  CHECK(server->drain(Clock::now() + 10ms) == false);
  CHECK(error_of(*server, {listener("echo")}) == "the server is ending");
}

TEST_CASE("sockets have the new options, or again what a new socket has") {
  auto server = serve({listener("echo")}, 1);
  const int fresh = option_of(*server, SOL_SOCKET, SO_RCVBUF);
  ListenerOptions tuned = listener("echo");
  tuned.receive_buffer = 8192;
  tuned.user_timeout = 30s;
  tuned.fast_open = 5;
  tuned.congestion_control = "reno";
  reload(*server, {tuned});
  CHECK(option_of(*server, SOL_SOCKET, SO_RCVBUF) == 2 * 8192);
  CHECK(option_of(*server, IPPROTO_TCP, TCP_USER_TIMEOUT) == 30'000);
  CHECK(option_of(*server, IPPROTO_TCP, TCP_FASTOPEN) == 5);
  reload(*server, {listener("echo")});
  CHECK(option_of(*server, SOL_SOCKET, SO_RCVBUF) == fresh);
  CHECK(option_of(*server, IPPROTO_TCP, TCP_USER_TIMEOUT) == 0);
  CHECK(option_of(*server, IPPROTO_TCP, TCP_FASTOPEN) == 0);
  // Its size is the kernel's again: who is accepted may have more than that in time.
  Client client = Client::to(server->endpoint());
  const std::string much = pattern(4 << 20);
  std::thread writer([&] { client.send(much); });
  CHECK((client.receive(much.size()) == much));
  writer.join();
}

TEST_CASE("a listener without a limit has its share of the descriptors as they are now") {
  auto server = serve({listener("echo")}, 1);
  const std::uint32_t before = report_of(*server, "echo").gauges.limit;
  ListenerOptions door = listener("door");
  door.essential = true;
  door.max_connections = 100;
  reload(*server, {listener("echo"), door});
  CHECK(report_of(*server, "echo").gauges.limit == before - 101);
  reload(*server, {listener("echo")});
  CHECK(report_of(*server, "echo").gauges.limit == before);
  CHECK(error_of(*server, {door, listener("echo"), listener("x"), listener("door")}) ==
        "listener door: a second one of that name");
}

TEST_CASE("names that come and go leave no more behind than as many listeners as there may be") {
  auto server = serve({listener("stays")}, 1);
  Client client = Client::to(server->endpoint());
  CHECK(client.echoes("x"));
  configure_log(LogLevel::kError, LogFormat::kLogfmt);  // two lines each
  for (std::size_t i = 0; i < kMostListeners + 50; ++i) {
    reload(*server, {listener("stays"), listener("n" + std::to_string(i))});
    if (i % 100 == 0) CHECK(Client::to(server->endpoint(1)).echoes("x"));
  }
  configure_log(LogLevel::kInfo, LogFormat::kLogfmt);
  CHECK(client.echoes("y"));
  CHECK(report_of(*server, "stays").statistics.accepted == 1);
  CHECK(snapshot(*server).listeners.size() == 2);
  Client last = Client::to(server->endpoint(1));
  CHECK(last.echoes("x"));
  CHECK(snapshot(*server).listeners[1].statistics.accepted == 1);
}

TEST_CASE("under load no change loses a connection, and no total falls") {
  const auto backends = serve({listener("one"), listener("two")});
  Listeners listeners{listener("echo"), relay_to(backends->endpoint(0))};
  listeners[0].endpoint = Endpoint{*parse_ip_address("127.0.0.1"), 0};
  auto server = serve(listeners);
  const Endpoint echo = server->endpoint(0);
  const Endpoint relay = server->endpoint(1);
  std::atomic<bool> done = false;
  std::atomic<int> lost = 0;
  std::atomic<int> calls = 0;
  std::vector<std::thread> threads;
  for (const Endpoint& to : {echo, relay, echo}) {
    threads.emplace_back([&, to] {
      Client lasting = Client::to(to);
      while (!done) {
        if (!lasting.echoes("lasting") || !Client::to(to).echoes("short")) ++lost;
        ++calls;
      }
    });
  }
  threads.emplace_back([&] {
    std::uint64_t accepted = 0;
    while (!done) {
      const std::uint64_t now = report_of(*server, "echo").statistics.accepted;
      if (now < accepted) ++lost;
      accepted = now;
      (void)server->listening_sockets();
      server->renew_tls();
    }
  });
  for (int i = 0; i < 60; ++i) {
    listeners[0].max_connections = i % 2 == 0 ? 500 : 0;
    listeners[0].per_peer.max_connections = i % 3 == 0 ? 100 : 0;
    listeners[0].deny.assign(i % 2 == 0 ? 1 : 0, *parse_ip_prefix("192.0.2.0/24"));
    listeners[0].deadlines.idle = std::chrono::seconds(60 + i);
    listeners[1].backend = backends->endpoint(i % 2 == 0 ? 1 : 0);
    listeners.resize(2);
    if (i % 2 == 0) listeners.push_back(listener("passing"));
    reload(*server, listeners);
    if (i % 2 == 0) CHECK(Client::to(server->endpoint(2)).echoes("x"));
  }
  done = true;
  for (std::thread& thread : threads) thread.join();
  CHECK(lost == 0);
  CHECK(calls > 0);
  CHECK(eventually([&] {
    return report_of(*server, "echo").statistics.live() == 0 &&
           report_of(*server, "relay").statistics.live() == 0;
  }));
  CHECK(report_of(*server, "relay").statistics.backend_failures == 0);
}
