// The server under a kernel that refuses: each system call it makes while it serves every kind of
// traffic fails in turn, once, with each error that fits; and each it makes while it starts.
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include "tests/fault/fault.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "exporter/door.h"
#include "server/audit/audit.h"
#include "server/relay_table.h"
#include "tests/fixtures/descriptors.h"
#include "tests/support/serving.h"
#include "tests/support/tls_testing.h"

using namespace tcpvitals;
using namespace tcpvitals::testing;
using fault::Call;

namespace {

constexpr std::string_view kHeader = "PROXY TCP4 192.0.2.1 192.0.2.9 4711 443\r\n";
constexpr std::size_t kMuch = 32 << 10;  // more than the socket buffers take, and less than we hold

struct CallName {
  Call call;
  std::string_view name;
  std::vector<int> errors;
};

// While it serves. No recv() is short or comes away empty (EAGAIN) that the kernel would not have:
// it tells so once, and the server believes it.
const CallName kServing[] = {
    {Call::kAccept, "accept4", {EMFILE, ENOMEM, EINTR, EAGAIN, ECONNABORTED}},
    {Call::kRecv, "recv", {ECONNRESET, EINTR, ENOMEM}},
    {Call::kSend, "send", {EPIPE, ECONNRESET, EINTR, EAGAIN, ENOBUFS, fault::kShort}},
    {Call::kEpollCtl, "epoll_ctl", {ENOMEM}},
    {Call::kEpollWait, "epoll_wait", {EINTR}},
    {Call::kTcpInfo, "getsockopt TCP_INFO", {ENOBUFS}},
    {Call::kSocketError, "getsockopt SO_ERROR", {ENOBUFS}},
    {Call::kSetsockopt, "setsockopt", {ENOBUFS}},
    {Call::kGetsockname, "getsockname", {ENOBUFS}},
    {Call::kShutdown, "shutdown", {ENOTCONN}},
    {Call::kSocket, "socket", {EMFILE, ENFILE, ENOBUFS}},
    {Call::kBind, "bind", {EADDRINUSE}},
    {Call::kConnect, "connect", {ECONNREFUSED, ENETUNREACH, EADDRNOTAVAIL}},
    {Call::kRead, "read", {EINTR, EAGAIN}},
    {Call::kWrite, "write", {ENOSPC, EIO, EINTR, fault::kShort}},
};

// While it starts: then an error is the answer.
const CallName kStarting[] = {
    {Call::kSocket, "socket", {EMFILE}},
    {Call::kSetsockopt, "setsockopt", {ENOBUFS}},
    {Call::kBind, "bind", {EADDRINUSE}},
    {Call::kListen, "listen", {EADDRINUSE}},
    {Call::kEpollCreate, "epoll_create1", {EMFILE}},
    {Call::kEventfd, "eventfd", {EMFILE}},
    {Call::kEpollCtl, "epoll_ctl", {ENOSPC}},
};

struct TlsFiles {
  Directory directory;
  Identity identity = make_identity({});
  TlsOptions options{.certificate_file = directory.write("crt", identity.certificate),
                     .key_file = directory.write("key", identity.key),
                     .max_handshakes = 1};
};

// The door's HTTP server: the same answer to whatever comes.
constexpr std::string_view kAnswer = "HTTP/1.0 200 OK\r\nContent-Length: 6\r\n\r\nhello\n";

class Answers final : public Handler {
 public:
  void on_data(Stream stream, std::string_view) override {
    stream.write(kAnswer);
    stream.finish();
  }
};

// One connection at a time on each listener, so that a place, a handshake or a peer's share that is
// not given back is missed by the next one.
ServerOptions options_with(const TlsFiles& files, AuditLog* audit) {
  ListenerOptions common;
  common.endpoint.port = 0;
  common.max_connections = 1;
  common.send_buffer = 4608;
  common.per_peer.max_connections = 1;

  const char* const names[] = {"echo", "secure", "proxied", "relay", "door", "http"};
  ServerOptions options{
      .listeners = {std::size(names), common}, .workers = 1, .sweep_interval = kNever};
  options.audit = audit;
  for (std::size_t i = 0; i < std::size(names); ++i) options.listeners[i].name = names[i];
  options.listeners[1].tls = files.options;
  options.listeners[2].proxy_from = {*parse_ip_prefix("127.0.0.0/8")};
  options.listeners[3].handler = HandlerKind::kRelay;
  options.listeners[3].send_proxy = ProxyVersion::kV2;
  options.listeners[4].handler = options.listeners[5].handler = HandlerKind::kOwn;
  options.listeners[4].make_handler = [] { return std::make_unique<Answers>(); };
  options.listeners[5].make_handler = [] { return std::make_unique<Answers>(); };
  return options;
}

struct Lab {
  Lab() {
    ServerOptions options = options_with(files(), audit.get());
    std::vector<PassedSocket> passed;
    options.listeners[3].backend = listen_for(options.listeners[2], passed);
    door.emplace(listen_for(options.listeners[5], passed), relays);
    options.listeners[4].make_handler = [this] { return door->make_handler(kMuch); };
    auto started = Server::start(std::move(options), std::move(passed));
    if (!started) FAIL(started.error().message);
    server = std::move(*started);
  }

  // Who connects to a listener has to know where it listens, and nobody may take that port
  // meanwhile.
  static Endpoint listen_for(const ListenerOptions& listener, std::vector<PassedSocket>& passed) {
    Fd socket(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    SocketAddress any(Endpoint{*parse_ip_address("127.0.0.1"), 0});
    REQUIRE(::bind(socket.get(), any.get(), any.length) == 0);
    REQUIRE(::listen(socket.get(), 16) == 0);
    const Endpoint endpoint = local_endpoint(socket);
    passed.push_back({listener.name, std::move(socket)});
    return endpoint;
  }

  static const TlsFiles& files() {
    static const TlsFiles made;
    return made;
  }

  Directory directory;
  std::unique_ptr<AuditLog> audit = std::move(*AuditLog::open({.path = directory.path("audit")}));
  RelayTable relays;
  std::optional<Door> door;
  std::unique_ptr<Server> server;
};

// Each says whether all went as it should.

bool ends(Client& client) {
  client.end_stream();
  return client.at_end();
}

bool echoes(const Endpoint& to, std::string_view before = {}) {
  Client client = Client::to(to);
  return client.send(before) && client.echoes(pattern(1000)) && ends(client);
}

// The answer does not fit into the sockets' buffers, and nobody reads it yet. With a small window
// of its own a client acknowledges without delay.
bool echoes_much(const Endpoint& to) {
  Client client;
  client.small_receive_buffer();
  client.connect(to);
  const std::string much = pattern(kMuch);
  return client.send(much) && client.receive(much.size()) == much && ends(client);
}

bool echoes_sealed(const Endpoint& to) {
  Client client;
  client.small_receive_buffer();
  client.connect(to);
  TlsClient tls;
  const auto exchange = [&] {
    const bool sent = client.send(tls.take());
    const std::string bytes = sent ? client.receive_some() : std::string();
    tls.give(bytes);
    return !bytes.empty();
  };
  while (!tls.handshake()) {
    if (!exchange()) return false;
  }
  const std::string sent = pattern(40'000);  // more than one record
  tls.write(sent);
  std::string received;
  do {
    received += tls.read();
  } while (received.size() < sent.size() && exchange());
  tls.notify();
  client.send(tls.take());
  client.end_stream();
  while (exchange()) {
  }
  return received == sent;
}

bool is_answered(const Endpoint& door, std::string_view request = "GET / HTTP/1.1\r\n\r\n") {
  Client client = Client::to(door);
  return client.send(request) && client.receive(1000) == kAnswer && ends(client);
}

// All that may go wrong here is one connection after the other.
void drive(Server& server) {
  snapshot(server);
  echoes(server.endpoint(0));
  echoes_much(server.endpoint(0));
  Client::to(server.endpoint(0)).reset();
  echoes_sealed(server.endpoint(1));
  echoes(server.endpoint(2), kHeader);
  {
    Client in_two = Client::to(server.endpoint(2));
    in_two.send(kHeader.substr(0, 10));
    std::this_thread::sleep_for(1ms);
    in_two.send(kHeader.substr(10));
    in_two.echoes("hello");
  }
  Client::to(server.endpoint(2)).close();  // a health check
  echoes(server.endpoint(3));
  echoes_much(server.endpoint(3));
  is_answered(server.endpoint(4));
  is_answered(server.endpoint(4), "nonsense\r\n\r\n");
}

bool wait_until_idle(Server& server) {
  const TimePoint give_up = Clock::now() + 4s;
  for (;;) {
    const auto now = snapshot(server).listeners;
    const bool idle =
        std::all_of(now.begin(), now.end(), [](const auto& l) { return l.statistics.live() == 0; });
    if (idle || Clock::now() > give_up) return idle;
    std::this_thread::sleep_for(1ms);
  }
}

void check_all_work(Server& server) {
  CHECK(wait_until_idle(server));
  CHECK(echoes(server.endpoint(0)));
  CHECK(wait_until_idle(server));
  CHECK(echoes_sealed(server.endpoint(1)));
  CHECK(echoes(server.endpoint(2), kHeader));
  CHECK(wait_until_idle(server));
  CHECK(echoes(server.endpoint(3)));
  CHECK(is_answered(server.endpoint(4)));
  CHECK(wait_until_idle(server));
}

// Every connection that was accepted was closed, in the counters and in the log.
void check_books(Lab& lab) {
  std::map<std::string, std::uint64_t> accepted;
  for (const auto& listener : snapshot(*lab.server).listeners) {
    CHECK(listener.statistics.live() == 0);
    CHECK(listener.statistics.output_buffer_bytes == 0);
    accepted[listener.name] = listener.statistics.accepted;
  }

  CHECK(lab.relays.size() == 0);

  REQUIRE(lab.audit->flush(Clock::now() + 10s));
  CHECK(lab.audit->statistics().lost == 0);
  std::map<std::string, std::uint64_t> opens;
  std::set<std::uint64_t> open;
  std::ifstream file(lab.directory.path("audit"));
  for (std::string line; std::getline(file, line);) {
    const auto record = nlohmann::json::parse(line);
    if (record["event"] == "open") {
      ++opens[record["listener"]];
      CHECK(open.insert(record["id"].get<std::uint64_t>()).second);
    } else if (record["event"] == "close") {
      CHECK(open.erase(record["id"].get<std::uint64_t>()) == 1);
    }
  }
  CHECK(opens == accepted);
  CHECK(open.empty());
}

std::uint64_t run_with_fault(const CallName& row, std::uint64_t k, int error) {
  const std::size_t descriptors = open_descriptors();
  std::uint64_t calls = 0;
  {
    Lab lab;
    fault::arm(row.call, k, error);
    drive(*lab.server);
    // The audit log writes behind.
    if (row.call == Call::kWrite) CHECK(lab.audit->flush(Clock::now() + 10s));
    calls = fault::disarm();
    check_all_work(*lab.server);
    lab.server->stop();
    check_books(lab);
  }
  CHECK(open_descriptors() == descriptors);
  return calls;
}

}  // namespace

TEST_CASE(
    "whatever call fails, once, nothing is leaked, every connection ends and the next one works") {
  const fault::Exempt driver;
  Lab::files();
  for (const CallName& row : kServing) {
    const TimePoint start = Clock::now();
    std::uint64_t runs = 0;
    for (const int error : row.errors) {
      CAPTURE(row.name);
      CAPTURE(error);  // an errno, or kShort
      std::uint64_t calls = 1;
      for (std::uint64_t k = 1; k <= calls; ++k) {
        CAPTURE(k);
        calls = run_with_fault(row, k, error);
        CHECK(calls > 0);
        ++runs;
      }
    }
    MESSAGE(row.name << ": " << runs << " runs, " << seconds_since(start) << " s");
  }
}

TEST_CASE("a server that cannot start says why, and leaves nothing behind") {
  const TlsFiles& files = Lab::files();
  for (const CallName& row : kStarting) {
    for (std::uint64_t k = 1;; ++k) {
      CAPTURE(row.name);
      CAPTURE(k);
      const std::size_t descriptors = open_descriptors();
      fault::arm(row.call, k, row.errors[0]);
      ServerOptions options = options_with(files, nullptr);
      options.listeners[3].backend = *parse_endpoint("127.0.0.1:9");
      auto server = Server::start(std::move(options));
      const bool struck = fault::disarm() >= k;
      CHECK(server.ok() == !struck);
      if (!struck) break;
      CHECK(server.error().message.find(std::strerror(row.errors[0])) != std::string::npos);
      CHECK(open_descriptors() == descriptors);
    }
  }
}

TEST_CASE("a reload that cannot be prepared says why, and leaves nothing behind") {
  ServerOptions options = options_with(Lab::files(), nullptr);
  options.listeners[3].backend = *parse_endpoint("127.0.0.1:9");
  const auto server = std::move(*Server::start(options));
  std::vector<ListenerOptions> wanted = options.listeners;
  wanted[0].nodelay = false;
  wanted[1].endpoint.address = *parse_ip_address("::1");
  wanted.push_back(wanted[3]);
  wanted.back().name = "more";
  for (const CallName& row : kStarting) {
    if (row.call == Call::kEpollCreate) break;  // the rest is for new workers
    for (std::uint64_t k = 1;; ++k) {
      CAPTURE(row.name);
      CAPTURE(k);
      const std::size_t descriptors = open_descriptors();
      fault::arm(row.call, k, row.errors[0]);
      auto change = std::make_optional(server->prepare(wanted, 60s));
      const bool struck = fault::disarm() >= k;
      CHECK(change->ok() == !struck);
      if (!struck) break;
      CHECK(change->error().message.find(std::strerror(row.errors[0])) != std::string::npos);
      change.reset();
      CHECK(open_descriptors() == descriptors);
      CHECK(echoes(server->endpoint(0)));
      CHECK(wait_until_idle(*server));
    }
  }
}
