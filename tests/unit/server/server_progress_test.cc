// Progress is what the peer does, and what was received is handed on before a connection that ends
// in disorder is reset.
#include <doctest/doctest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <string>

#include "server/handler.h"
#include "tests/support/audited.h"
#include "tests/support/serving.h"
#include "tests/support/tls_peer.h"

using namespace tcpvitals;
using namespace tcpvitals::testing;

namespace {

class Volume final : public Handler {
 public:
  explicit Volume(const std::string& text, bool ends) : text_(text), ends_(ends) {}
  void on_open(Stream stream) override {
    stream.write(text_);
    if (ends_) stream.finish();
  }
  void on_data(Stream /*stream*/, std::string_view /*bytes*/) override {}

 private:
  const std::string& text_;
  const bool ends_;
};

// A listener that gives everybody `text`, which outlives it.
ListenerOptions volume(const std::string& text, bool ends) {
  ListenerOptions listener{.name = "volume", .handler = HandlerKind::kOwn};
  listener.max_output_bytes = static_cast<std::uint32_t>(text.size());
  listener.make_handler = [&text, ends] { return std::make_unique<Volume>(text, ends); };
  return listener;
}

ListenerOptions relay_to(const Endpoint& backend) {
  ListenerOptions listener{.name = "relay", .handler = HandlerKind::kRelay};
  listener.backend = backend;
  return listener;
}

// A backend that does what the test says.
struct Backend {
  explicit Backend(int receive_buffer = 0) {
    SocketAddress any(Endpoint{*parse_ip_address("127.0.0.1"), 0});
    if (receive_buffer > 0) set_option(listening, SOL_SOCKET, SO_RCVBUF, receive_buffer);
    REQUIRE(::bind(listening.get(), any.get(), any.length) == 0);
    REQUIRE(::listen(listening.get(), 10) == 0);
  }
  Endpoint endpoint() const { return local_endpoint(listening); }
  Fd accept() const {
    Fd fd(::accept(listening.get(), nullptr, nullptr));
    REQUIRE(fd.valid());
    const timeval patience{10, 0};
    ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    return fd;
  }

  Fd listening{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
};

// All that comes, slowly, and how it ended: 0 for the end of the stream, else errno.
struct Received {
  std::string bytes;
  int error = 0;
};
Received read_slowly(const Fd& fd, std::size_t piece, Clock::duration pause) {
  Received received;
  std::string buffer(piece, '\0');
  for (;;) {
    const ssize_t n = ::recv(fd.get(), buffer.data(), buffer.size(), 0);
    if (n < 0) received.error = errno;
    if (n <= 0) return received;
    received.bytes.append(buffer, 0, static_cast<std::size_t>(n));
    std::this_thread::sleep_for(pause);
  }
}

bool all_acknowledged(const Fd& fd) {
  for (int i = 0; i < 5000 && unacknowledged(fd) > 0; ++i) std::this_thread::sleep_for(2ms);
  return unacknowledged(fd) == 0;
}

}  // namespace

TEST_CASE("a steady slow reader is served to the end, however much the kernel holds for it") {
  // The socket tells of room only when a third of its buffer is free: here after some eight
  // seconds.
  const std::string text = pattern(4 << 20);
  TlsFiles files;
  auto backend = start_one(volume(text, false));
  ListenerOptions plain = volume(text, true);
  ListenerOptions secure = volume(text, true);
  secure.tls = files.options;
  ListenerOptions relay = relay_to(backend->endpoint());
  for (ListenerOptions* options : {&plain, &secure, &relay}) options->deadlines.write_stall = 2s;
  relay.deadlines.idle = 2s;
  at_once(std::array{plain, secure, relay}, [&](const ListenerOptions& options) {
    Audited audited;
    auto server = start_one(options, audited.log.get());
    Client client;
    client.small_receive_buffer();
    client.connect(server->endpoint());
    const bool encrypted = options.tls.enabled();
    std::size_t received = 0;
    const TimePoint slow_until = Clock::now() + 5s;
    if (encrypted) {
      TlsPeer peer(std::move(client));
      REQUIRE(peer.handshake());
      while (received < text.size()) {
        const std::string bytes = peer.socket.receive(8 << 10);
        if (bytes.empty()) break;
        peer.tls.give(bytes);
        received += peer.tls.read().size();
        if (Clock::now() < slow_until) std::this_thread::sleep_for(100ms);
      }
    } else {
      while (received < text.size()) {
        const std::string bytes =
            client.receive(std::min<std::size_t>(8 << 10, text.size() - received));
        if (bytes.empty()) break;
        received += bytes.size();
        if (Clock::now() < slow_until) std::this_thread::sleep_for(100ms);
      }
      client.close();
    }
    CHECK(received == text.size());
    statistics_when_idle(*server);
    const auto closes = audited.lines("close");
    REQUIRE(closes.size() == 1);
    CHECK(closes[0]["sent_bytes"] == text.size());
  });
}

TEST_CASE("a reader that stopped is cut when its time is over, and the log says what it took") {
  const std::string text = pattern(16 << 20);
  constexpr auto kStall = 4s;
  auto backend = start_one(volume(text, false));
  ListenerOptions own = volume(text, true);
  ListenerOptions relay = relay_to(backend->endpoint());
  own.deadlines.write_stall = relay.deadlines.write_stall = kStall;
  at_once(std::array{own, relay}, [&](const ListenerOptions& options) {
    Audited audited;
    auto server = start_one(options, audited.log.get());
    Client client;
    client.small_receive_buffer();
    client.connect(server->endpoint());
    const TimePoint began = Clock::now();
    std::string received = client.receive(100'000);  // and no more
    const TimePoint stopped = Clock::now();
    CHECK(closed_when_idle(*server, CloseCause::kWriteStall) == 1);
    CHECK(Clock::now() - began >= kStall);
    CHECK(Clock::now() - stopped < 2 * kStall);
    received += client.receive(text.size());
    const auto closes = audited.lines("close");
    REQUIRE(closes.size() == 1);
    CHECK(closes[0]["sent_bytes"] == received.size());
  });
}

TEST_CASE("a handshake or a PROXY header slower than the idle deadline leaves that in force") {
  TlsFiles files;
  ListenerOptions secure{.name = "secure", .tls = files.options};
  ListenerOptions proxied{.name = "proxied"};
  proxied.proxy_from = {*parse_ip_prefix("127.0.0.0/8")};
  secure.deadlines = proxied.deadlines = {.proxy_header = 30s, .handshake = 30s, .idle = 2s};
  at_once(std::array{secure, proxied}, [](const ListenerOptions& options) {
    auto server = start_one(options);
    Client client = Client::to(server->endpoint());
    std::this_thread::sleep_for(4s);
    if (options.tls.enabled()) {
      TlsPeer peer(std::move(client));
      REQUIRE(peer.handshake());
      CHECK(peer.ask("hello") == "hello");
      client = std::move(peer.socket);
    } else {
      CHECK(client.send("PROXY TCP4 198.51.100.7 192.0.2.9 40000 443\r\n"));
      CHECK(client.echoes("hello"));
    }
    CHECK(closed_when_idle(*server, CloseCause::kIdleTimeout) == 1);
  });
}

TEST_CASE("a client whose backend takes its bytes slowly is not idle") {
  Backend backend(4096);
  ListenerOptions listener = relay_to(backend.endpoint());
  listener.deadlines.idle = 1s;
  listener.max_output_bytes = 4096;
  auto relay = start_one(listener);
  Client client = Client::to(relay->endpoint());
  const Fd accepted = backend.accept();
  std::thread writer([&] { client.send(pattern(8 << 20)); });
  std::this_thread::sleep_for(4s);  // nothing is read of the client meanwhile
  CHECK(statistics(*relay).live() == 1);
  ::shutdown(accepted.get(), SHUT_RDWR);
  relay->stop();
  writer.join();
}

TEST_CASE("an early answer of a backend that breaks off reaches the client") {
  Backend backend;
  auto relay = start_one(relay_to(backend.endpoint()));
  for (int i = 0; i < 10; ++i) {
    Client client = Client::to(relay->endpoint());
    Fd accepted = backend.accept();
    std::thread answer([&] {
      std::this_thread::sleep_for(20ms);
      ::send(accepted.get(), "413 too large\n", 14, MSG_NOSIGNAL);
      accepted.reset();  // with bytes unread: a reset
    });
    CHECK_FALSE(client.send(pattern(16 << 20)));
    CHECK(client.receive(14) == "413 too large\n");
    answer.join();
  }
  CHECK(closed_when_idle(*relay, CloseCause::kBackend) == 10);
}

TEST_CASE("what a backend sent before its reset reaches a client that reads late") {
  const std::string text = pattern(300'000);
  Backend backend;
  ListenerOptions listener = relay_to(backend.endpoint());
  listener.max_output_bytes = 1 << 20;
  auto relay = start_one(listener);
  Client client;
  client.small_receive_buffer();
  client.connect(relay->endpoint());
  Fd accepted = backend.accept();
  std::string_view rest = text;
  for (ssize_t n; !rest.empty(); rest.remove_prefix(static_cast<std::size_t>(n))) {
    n = ::send(accepted.get(), rest.data(), rest.size(), MSG_NOSIGNAL);
    REQUIRE(n > 0);
  }
  CHECK(all_acknowledged(accepted));
  reset_on_close(accepted);
  accepted.reset();
  std::this_thread::sleep_for(100ms);
  CHECK((client.receive(text.size()) == text));
  CHECK_FALSE(client.at_end());
  CHECK(errno == ECONNRESET);
  CHECK(closed_when_idle(*relay, CloseCause::kBackend) == 1);
}

TEST_CASE("what a client sent before its reset reaches a backend that reads slowly") {
  const std::string text = pattern(60'000);
  Backend backend(4096);
  ListenerOptions listener = relay_to(backend.endpoint());
  listener.max_output_bytes = 10'000;
  listener.send_buffer = 4096;  // so that most of it waits before the relay
  auto relay = start_one(listener);
  Client client = Client::to(relay->endpoint());
  const Fd accepted = backend.accept();
  CHECK(client.send(text));
  CHECK(all_acknowledged(client.fd()));
  client.reset();
  const Received received = read_slowly(accepted, 2000, 1ms);
  CHECK((received.bytes == text));
  CHECK(received.error == ECONNRESET);
  CHECK(closed_when_idle(*relay, CloseCause::kPeerRst) == 1);
}

TEST_CASE(
    "TLS: what came before an end without close_notify reaches a slow backend, then a reset") {
  const std::string text = pattern(1 << 20);
  TlsFiles files;
  Backend backend(16'384);
  ListenerOptions listener = relay_to(backend.endpoint());
  listener.tls = files.options;
  auto relay = start_one(listener);
  TlsPeer peer(relay->endpoint());
  REQUIRE(peer.handshake());
  const Fd accepted = backend.accept();
  std::thread writer([&] {
    peer.tls.write(text);
    peer.socket.send(peer.tls.take());
    peer.socket.end_stream();
  });
  const Received received = read_slowly(accepted, 8192, 1ms);
  writer.join();
  CHECK((received.bytes == text));
  CHECK(received.error == ECONNRESET);
  CHECK(closed_when_idle(*relay, CloseCause::kTruncated) == 1);
}

TEST_CASE("TLS: a peer that resets has what it sent before handed on") {
  const std::string text = pattern(40'000);
  TlsFiles files;
  Backend backend(4096);
  ListenerOptions listener = relay_to(backend.endpoint());
  listener.tls = files.options;
  listener.max_output_bytes = 10'000;
  listener.send_buffer = 4096;
  auto relay = start_one(listener);
  TlsPeer peer(relay->endpoint());
  REQUIRE(peer.handshake());
  const Fd accepted = backend.accept();
  peer.tls.write(text);
  CHECK(peer.socket.send(peer.tls.take()));
  CHECK(all_acknowledged(peer.socket.fd()));
  peer.socket.reset();
  const Received received = read_slowly(accepted, 2000, 1ms);
  CHECK((received.bytes == text));
  CHECK(received.error == ECONNRESET);
  CHECK(closed_when_idle(*relay, CloseCause::kPeerRst) == 1);
}

TEST_CASE("TLS: close_notify leaves however full the socket is") {
  constexpr std::size_t kSizes = 40;
  TlsFiles files;
  std::array<std::string, kSizes> texts;
  for (std::size_t i = 0; i < kSizes; ++i) texts[i] = pattern(16'000 + i * 1237);
  ServerOptions options{.listeners = {}, .workers = 1};
  for (std::size_t i = 0; i < kSizes; ++i) {
    ListenerOptions listener = volume(texts[i], true);
    listener.name += std::to_string(i);
    listener.tls = files.options;
    listener.send_buffer = 4096;
    options.listeners.push_back(std::move(listener));
  }
  auto server = start(std::move(options));
  std::vector<std::unique_ptr<TlsPeer>> peers;
  for (std::size_t i = 0; i < kSizes; ++i) {
    Client client;
    client.small_receive_buffer();
    client.connect(server->endpoint(i));
    peers.push_back(std::make_unique<TlsPeer>(std::move(client)));
    REQUIRE(peers.back()->handshake());
  }
  for (std::size_t i = 0; i < kSizes; ++i) {
    CAPTURE(texts[i].size());
    std::size_t received = 0;
    do received += peers[i]->tls.read().size();
    while (peers[i]->exchange());
    CHECK(received == texts[i].size());
    CHECK(peers[i]->tls.notified());
  }
}

TEST_CASE("TLS: a peer that updates keys and reads no answer is cut like any that does not read") {
  TlsFiles files;
  ListenerOptions listener{.name = "secure", .tls = files.options};
  listener.send_buffer = listener.receive_buffer = 4096;
  listener.deadlines.write_stall = 1s;
  auto server = start_one(listener);
  Client client;
  client.small_receive_buffer();
  client.small_send_buffer();
  client.connect(server->endpoint());
  TlsPeer peer(std::move(client), {.version = 0x0304});
  REQUIRE(peer.handshake());
  bool taken = true;
  for (int i = 0; i < 100'000 && taken; ++i) {
    peer.tls.update_keys();
    taken = peer.socket.send(peer.tls.take());
  }
  CHECK_FALSE(taken);
  CHECK(closed_when_idle(*server, CloseCause::kWriteStall) == 1);
}

TEST_CASE("a connection to a backend has the options of its listener") {
  Backend backend;
  ListenerOptions options;
  options.keepalive = {.idle = 20s, .interval = 3s, .count = 4};
  options.user_timeout = 5s;
  options.receive_buffer = 10'000;
  options.send_buffer = 12'000;
  const Fd fd = open_socket(backend.endpoint());
  REQUIRE(set_connection_options(fd, options).ok());
  const auto option = [&](int level, int name) {
    int value = 0;
    socklen_t length = sizeof value;
    CHECK(::getsockopt(fd.get(), level, name, &value, &length) == 0);
    return value;
  };
  CHECK(option(SOL_SOCKET, SO_KEEPALIVE) == 1);
  CHECK(option(IPPROTO_TCP, TCP_KEEPIDLE) == 20);
  CHECK(option(IPPROTO_TCP, TCP_KEEPINTVL) == 3);
  CHECK(option(IPPROTO_TCP, TCP_KEEPCNT) == 4);
  CHECK(option(IPPROTO_TCP, TCP_USER_TIMEOUT) == 5000);
  CHECK(option(IPPROTO_TCP, TCP_NODELAY) == 1);
  CHECK(option(SOL_SOCKET, SO_RCVBUF) == 20'000);  // the kernel doubles them
  CHECK(option(SOL_SOCKET, SO_SNDBUF) == 24'000);

  options.congestion_control = "none-of-that-name";
  const auto refused = set_connection_options(fd, options);
  REQUIRE_FALSE(refused.ok());
  CHECK(refused.error().message.find("TCP_CONGESTION none-of-that-name") == 0);
}
