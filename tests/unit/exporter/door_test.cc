#include "exporter/door.h"

#include <doctest/doctest.h>

#include <future>
#include <string>
#include <thread>

#include "exporter/http.h"
#include "tests/support/serving.h"

using namespace tcpvitals;
using namespace tcpvitals::testing;

namespace {

constexpr MetricDesc kOne{"test_one", MetricType::kGauge, "One.", {"key"}};

// Emits a value of so many bytes, when `gate` is open.
class Large final : public Collector {
 public:
  Large(std::size_t bytes, std::shared_future<void> gate) : bytes_(bytes), gate_(std::move(gate)) {}

  std::string_view name() const override { return "large"; }
  std::span<const MetricDesc> metrics() const override { return {&kOne, 1}; }
  Result<void> collect(Sink& sink, TimePoint) override {
    gate_.wait();
    sink.add(kOne, {std::string(bytes_, 'a')}, 1);
    return {};
  }

 private:
  const std::size_t bytes_;
  const std::shared_future<void> gate_;
};

std::shared_future<void> open_gate() {
  std::promise<void> promise;
  promise.set_value();
  return promise.get_future().share();
}

ListenerOptions web_of(Door& door) {
  ListenerOptions web{.name = "web", .handler = HandlerKind::kOwn};
  web.max_output_bytes = 1 << 20;
  web.send_buffer = 4608;
  web.make_handler = [&door, most = web.max_output_bytes] { return door.make_handler(most); };
  return web;
}

std::unique_ptr<Server> serve(Door& door) {
  return start({.listeners = {web_of(door)}, .workers = 1, .sweep_interval = kNever});
}

// A door, and the HTTP server behind it, whose /metrics has more than `bytes`.
struct Site {
  explicit Site(std::size_t bytes = 100, Door::Limits limits = {},
                std::shared_future<void> gate = open_gate())
      : large(bytes, std::move(gate)) {
    HttpOptions options;
    options.relays = &relays;
    auto started = HttpServer::start(options);
    REQUIRE(started.ok());
    http = std::move(*started);
    http->serve(scrape, {});
    door = std::make_unique<Door>(http->endpoint(), relays, limits);
    server = serve(*door);
  }

  Client client() const { return Client::to(server->endpoint(0)); }
  std::string answer_to(const std::string& request) const {
    Client asking = client();
    CHECK(asking.send(request));
    return asking.receive(16 << 20);
  }

  Large large;
  Collector* collectors[1] = {&large};
  Scrape scrape{collectors, {}};
  RelayTable relays;
  std::unique_ptr<HttpServer> http;
  std::unique_ptr<Door> door;
  std::unique_ptr<Server> server;
};

// A backend that does this with each connection.
class Backend {
 public:
  explicit Backend(std::function<void(const Fd&)> serve) {
    SocketAddress any(Endpoint{*parse_ip_address("127.0.0.1"), 0});
    REQUIRE(::bind(fd_.get(), any.get(), any.length) == 0);
    REQUIRE(::listen(fd_.get(), 16) == 0);
    thread_ = std::thread([this, serve = std::move(serve)] {
      for (;;) {
        const Fd accepted(::accept4(fd_.get(), nullptr, nullptr, SOCK_CLOEXEC));
        if (!accepted.valid()) return;
        serve(accepted);
      }
    });
  }
  ~Backend() {
    ::shutdown(fd_.get(), SHUT_RDWR);
    thread_.join();
  }
  Backend(const Backend&) = delete;
  Backend& operator=(const Backend&) = delete;

  Endpoint endpoint() const { return local_endpoint(fd_); }

 private:
  Fd fd_{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  std::thread thread_;
};

void take_head(const Fd& fd) {
  char head[1000];
  (void)::recv(fd.get(), head, sizeof head, 0);
}

bool contains(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}
bool has_status(const std::string& answer, int status) {
  return answer.starts_with("HTTP/1.1 " + std::to_string(status) + " ");
}
// Whether the body is as long as the head says.
bool is_whole(const std::string& answer) {
  const auto end = answer.find("\r\n\r\n");
  const auto length = answer.find("Content-Length: ");
  return end != std::string::npos && length < end &&
         std::stoul(answer.substr(length + 16)) == answer.size() - end - 4;
}

const std::string kMetrics = "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";

}  // namespace

TEST_CASE("a request goes through the door, whole or byte by byte, and so does a half-close") {
  const Site site;
  const std::string whole = site.answer_to(kMetrics);
  CHECK(has_status(whole, 200));
  CHECK(is_whole(whole));
  CHECK(contains(whole, "test_one{key=\"aaa"));

  Client slow = site.client();
  for (const char byte : kMetrics) CHECK(slow.send({&byte, 1}));
  slow.end_stream();
  const std::string dripped = slow.receive(1 << 20);
  CHECK(has_status(dripped, 200));
  CHECK(is_whole(dripped));

  CHECK(has_status(site.answer_to(kMetrics + kMetrics), 200));  // one answer, and the end
  CHECK(has_status(site.answer_to("POST /-/reload HTTP/1.1\r\nContent-Length: 0\r\n\r\n"), 403));
  const auto s = statistics_when_idle(*site.server);
  CHECK(closed(s, CloseCause::kPeerFin) == 4);
  CHECK(s.backend_connections == 4);
  CHECK(site.relays.size() == 0);
}

TEST_CASE("the HTTP server is told who the client is") {
  const Site site;
  const std::string answer =
      site.answer_to("GET /api/v1/groups HTTP/1.1\r\nHost: localhost\r\n\r\n");
  CHECK(has_status(answer, 503));  // for 127.0.0.1, where no groups are
  CHECK(contains(answer, "the connections collector is not started"));
}

TEST_CASE("the door answers what no request is, and the HTTP server never sees it") {
  const Site site;
  const struct {
    std::string request;
    int status;
  } kTable[] = {
      {"SSH-2.0-OpenSSH_9.2\r\n", 400},
      {"GET / HTTP/2.0\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\nX: " + std::string(8192, 'a') + "\r\n\r\n", 431},
      {"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n", 413},
      {"POST /-/reload HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", 413},
  };
  for (const auto& row : kTable) {
    CAPTURE(row.request);
    const std::string answer = site.answer_to(row.request);
    CHECK(has_status(answer, row.status));
    CHECK(is_whole(answer));
    CHECK(contains(answer, "\r\nConnection: close\r\n"));
  }
  Client breaks_off = site.client();
  breaks_off.send("GET / HTTP/1.1\r\n");
  breaks_off.end_stream();
  CHECK(has_status(breaks_off.receive(1 << 20), 400));
  Client says_nothing = site.client();
  says_nothing.end_stream();
  CHECK(says_nothing.receive(1) == "");
  CHECK(statistics(*site.server).backend_connections == 0);
}

TEST_CASE("a head that does not come in time is answered 408, and the connection ends") {
  const Site site(100, {.head = 1s, .farewell = 1s});
  Client silent = site.client();
  Client drips = site.client();
  drips.send("GET / HTTP/1.1\r\nX: ");
  while (!drips.answered_within(100)) drips.send("a");
  CHECK(has_status(drips.receive_some(), 408));
  CHECK(has_status(silent.receive(1 << 20), 408));
  while (drips.send("a")) std::this_thread::sleep_for(10ms);  // goes on until it is cut off
  const auto s = statistics_when(
      *site.server, [](const auto& now) { return closed(now, CloseCause::kLifetime) == 2; });
  CHECK(closed(s, CloseCause::kLifetime) == 2);
  CHECK(s.backend_connections == 0);
}

TEST_CASE("a client that does not read keeps its answer waiting, and nothing of the HTTP server") {
  const Site site(900'000);
  std::vector<Client> clients;
  for (int i = 0; i < 3; ++i) {
    Client& client = clients.emplace_back();
    client.small_receive_buffer();
    client.connect(site.server->endpoint(0));
    client.send(kMetrics);
  }
  for (Client& client : clients) CHECK(client.answered_within(10'000));
  const TimePoint give_up = Clock::now() + 10s;
  while (site.relays.size() > 0 && Clock::now() < give_up) std::this_thread::sleep_for(2ms);
  CHECK(site.relays.size() == 0);
  CHECK(statistics(*site.server).output_buffer_bytes > 2'000'000);
  for (Client& client : clients) {
    const std::string answer = client.receive(16 << 20);
    CHECK(has_status(answer, 200));
    CHECK(is_whole(answer));
  }
}

TEST_CASE("an answer larger than the door's buffer comes whole, at the client's pace") {
  const Site site(6'000'000);
  Client client;
  client.small_receive_buffer();
  client.connect(site.server->endpoint(0));
  client.send(kMetrics);
  CHECK(client.answered_within(10'000));
  CHECK(statistics(*site.server).output_buffer_bytes <= 1 << 20);
  CHECK(is_whole(client.receive(16 << 20)));
}

TEST_CASE("an answer that nobody reads has an end") {
  const Site site(6'000'000, {.answer = 1s});
  Client client;
  client.small_receive_buffer();
  client.connect(site.server->endpoint(0));
  client.send(kMetrics);
  const auto s = statistics_when_idle(*site.server);
  CHECK(s.live() == 0);
  CHECK(closed(s, CloseCause::kLifetime) == 1);
  CHECK(site.relays.size() == 0);
}

TEST_CASE("where the HTTP server gives no answer the door says so") {
  RelayTable relays;
  Endpoint nobody;
  {
    const Backend gone([](const Fd&) {});
    nobody = gone.endpoint();
  }
  const Backend silent(take_head);
  const Backend resets([](const Fd& fd) {
    take_head(fd);
    reset_on_close(fd);
  });
  for (const Endpoint& http : {nobody, silent.endpoint(), resets.endpoint()}) {
    CAPTURE(to_string(http));
    Door door(http, relays);
    const auto server = serve(door);
    Client client = Client::to(server->endpoint(0));
    client.send(kMetrics);
    const std::string answer = client.receive(1 << 20);
    CHECK(has_status(answer, 502));
    CHECK(is_whole(answer));
    CHECK(statistics(*server).backend_failures == (http == nobody ? 1 : 0));
    CHECK(relays.size() == 0);
  }
}

TEST_CASE("half an answer is not taken for a whole one") {
  RelayTable relays;
  const Backend breaks_off([](const Fd& fd) {
    take_head(fd);
    const std::string_view part = "HTTP/1.1 200 OK\r\n\r\nhalf";
    (void)::send(fd.get(), part.data(), part.size(), MSG_NOSIGNAL);
    reset_on_close(fd);
  });
  Door door(breaks_off.endpoint(), relays);
  const auto server = serve(door);
  Client client = Client::to(server->endpoint(0));
  client.send(kMetrics);
  CHECK(client.receive_some() == "HTTP/1.1 200 OK\r\n\r\nhalf");
  CHECK_FALSE(client.at_end());  // but a reset
  CHECK(closed(statistics_when_idle(*server), CloseCause::kBackend) == 1);
}

TEST_CASE("a client that leaves takes its request with it") {
  RelayTable relays;
  const Backend waits([&](const Fd& fd) {
    char bytes[1000];
    while (::recv(fd.get(), bytes, sizeof bytes, 0) > 0) {
    }
  });
  Door door(waits.endpoint(), relays);
  const auto server = serve(door);
  Client client = Client::to(server->endpoint(0));
  client.send(kMetrics);
  statistics_when(*server, [](const auto& s) { return s.backend_connections == 1; });
  client.reset();
  CHECK(closed(statistics_when_idle(*server), CloseCause::kPeerRst) == 1);
  CHECK(relays.size() == 0);
}

TEST_CASE("while the server drains, who has asked is answered, and who has not is sent away") {
  std::promise<void> gate;
  const Site site(100, {}, gate.get_future().share());
  Client asks = site.client();
  Client idle = site.client();
  asks.send(kMetrics);
  statistics_when(*site.server, [](const auto& s) { return s.backend_connections == 1; });
  auto drained =
      std::async(std::launch::async, [&] { return site.server->drain(Clock::now() + 30s); });
  CHECK(has_status(idle.receive(1 << 20), 503));
  idle.end_stream();
  gate.set_value();
  CHECK(has_status(asks.receive(1 << 20), 200));
  asks.end_stream();
  CHECK(drained.get());
}
