#include "exporter/http.h"

#include <arpa/inet.h>
#include <doctest/doctest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <zlib.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <functional>
#include <future>
#include <thread>

#include "base/fd.h"
#include "server/socket_address.h"

using namespace tcpvitals;
using namespace std::chrono_literals;

namespace {

constexpr MetricDesc kOne{"test_one", MetricType::kGauge, "One.", {"key"}};

class Fake final : public Collector {
 public:
  explicit Fake(
      std::string name, std::function<void()> before = [] {})
      : name_(std::move(name)), before_(std::move(before)) {}

  std::string_view name() const override { return name_; }
  std::span<const MetricDesc> metrics() const override { return {&kOne, 1}; }
  Result<void> collect(Sink& sink, TimePoint) override {
    before_();
    sink.add(kOne, {std::string(2000, 'a')}, 1);
    return {};
  }

 private:
  std::string name_;
  std::function<void()> before_;
};

// The whole answer to one request, as bytes. `bound` hears of our end before it connects.
std::string answer_to(
    const Endpoint& server, const std::string& request,
    const std::function<void(const Endpoint&)>& bound = [](const Endpoint&) {},
    const char* from = "127.0.0.1") {
  const Fd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  socklen_t size = sizeof address;
  address.sin_family = AF_INET;
  REQUIRE(::inet_pton(AF_INET, from, &address.sin_addr) == 1);
  REQUIRE(::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), size) == 0);
  REQUIRE(::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &size) == 0);
  bound({*parse_ip_address(from), ntohs(address.sin_port)});
  address.sin_port = htons(server.port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  REQUIRE(::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
  REQUIRE(::send(fd.get(), request.data(), request.size(), MSG_NOSIGNAL) ==
          static_cast<ssize_t>(request.size()));
  std::string answer;
  char chunk[4096];
  for (ssize_t n = 0; (n = ::recv(fd.get(), chunk, sizeof chunk, 0)) > 0;) {
    answer.append(chunk, static_cast<std::size_t>(n));
  }
  return answer;
}

// A server on a free port of loopback, and what it serves.
struct Fixture {
  explicit Fixture(
      HttpOptions options = {}, std::function<void()> before = [] {}, HttpContent content = {})
      : fake("fake", std::move(before)) {
    auto started = HttpServer::start(std::move(options));
    REQUIRE_MESSAGE(started.ok(), started.error().message);
    server = std::move(*started);
    content.facts.host = "<db-1>";
    server->serve(scrape, std::move(content));
  }

  std::string send(const std::string& request) const {
    return answer_to(server->endpoint(), request);
  }
  std::string get(const std::string& target, const std::string& headers = "") const {
    return send("GET " + target + " HTTP/1.1\r\nHost: x\r\n" + headers + "\r\n");
  }

  Fake fake;
  Collector* collectors[1] = {&fake};
  Scrape scrape{collectors, {.version = "1.2.3"}};
  std::unique_ptr<HttpServer> server;
};

bool contains(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}
bool has_status(const std::string& answer, int status) {
  return answer.rfind("HTTP/1.1 " + std::to_string(status) + " ", 0) == 0;
}
std::string body_of(const std::string& answer) {
  return answer.substr(answer.find("\r\n\r\n") + 4);
}

std::string gunzip(const std::string& packed) {
  z_stream stream{};
  REQUIRE(inflateInit2(&stream, 15 + 16) == Z_OK);
  std::string text(1 << 20, '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(packed.data()));
  stream.avail_in = static_cast<uInt>(packed.size());
  stream.next_out = reinterpret_cast<Bytef*>(text.data());
  stream.avail_out = static_cast<uInt>(text.size());
  CHECK(inflate(&stream, Z_FINISH) == Z_STREAM_END);
  text.resize(stream.total_out);
  inflateEnd(&stream);
  return text;
}

}  // namespace

TEST_CASE("/metrics has its content type, its length and every family") {
  const Fixture f;
  const std::string answer = f.get("/metrics");
  CHECK(has_status(answer, 200));
  CHECK(contains(answer, "\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"));
  CHECK(contains(answer, "\r\nContent-Length: " + std::to_string(body_of(answer).size()) + "\r\n"));
  CHECK_FALSE(contains(answer, "Content-Encoding"));
  CHECK(contains(body_of(answer), "\ntest_one{key=\"aaa"));
  CHECK(contains(body_of(answer), "\ntcpvitals_build_info{version=\"1.2.3\"} 1\n"));
}

TEST_CASE("gzip is used when the scraper takes it, and only then") {
  const Fixture f;
  const struct {
    const char* header;
    bool packed;
  } kTable[] = {
      {"gzip", true},         {"deflate, gzip;q=0.5", true},
      {"gzip; q=1.0", true},  {"gzip;q=0", false},
      {"gzip;q=0.00", false}, {"deflate", false},
      {"identity", false},    {"xgzip", false},
  };
  for (const auto& row : kTable) {
    CAPTURE(row.header);
    const std::string answer =
        f.get("/metrics", std::string("Accept-Encoding: ") + row.header + "\r\n");
    CHECK(contains(answer, "\r\nContent-Encoding: gzip\r\n") == row.packed);
    CHECK(contains(answer, "\r\nVary: Accept-Encoding\r\n"));
    const std::string text = row.packed ? gunzip(body_of(answer)) : body_of(answer);
    CHECK(contains(text, "\ntest_one{key=\"aaa"));
  }
}

TEST_CASE("whatever is answered, nobody keeps it, guesses its type or holds the connection") {
  const Fixture f;
  for (const char* path : {"/metrics", "/", "/-/ready", "/nope", "/api/v1/groups"}) {
    CAPTURE(path);
    const std::string answer = f.get(path);
    CHECK(contains(answer, "\r\nCache-Control: no-store\r\n"));
    CHECK(contains(answer, "\r\nX-Content-Type-Options: nosniff\r\n"));
    CHECK(contains(answer, "\r\nConnection: close\r\n"));
  }
}

TEST_CASE("HEAD has the headers of GET and no body") {
  const Fixture f;
  const std::string answer = f.send("HEAD /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n");
  CHECK(has_status(answer, 200));
  CHECK(contains(answer, "\r\nContent-Length: 8\r\n"));
  CHECK(body_of(answer) == "");
}

TEST_CASE("paths and methods that are not there are refused") {
  const Fixture f;
  for (const char* path : {"/nope", "/metrics/", "/metrics/x", "/-/", "/etc/passwd", "/..%2fetc"}) {
    CAPTURE(path);
    CHECK(has_status(f.get(path), 404));
  }
  for (const char* method : {"POST", "PUT", "DELETE", "OPTIONS"}) {
    CAPTURE(method);
    const std::string answer =
        f.send(std::string(method) + " /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
    CHECK(has_status(answer, 405));
    CHECK(contains(answer, "\r\nAllow: GET, HEAD\r\n"));
  }
  CHECK_FALSE(
      has_status(f.send("GET / HTTP/1.1\r\nX: " + std::string(17'000, 'a') + "\r\n\r\n"), 200));
}

TEST_CASE("collect[] and exclude[] select, plain or encoded; what is wrong is 400") {
  const Fixture f;
  const struct {
    const char* query;
    int status;
    const char* part;
  } kTable[] = {
      {"?collect[]=fake", 200, "test_one{"},
      {"?collect%5B%5D=f%61ke", 200, "test_one{"},
      {"?x=1&other", 200, "test_one{"},
      {"?exclude[]=fake", 200, "tcpvitals_build_info"},
      {"?collect[]=fake&collect[]=nope", 400, "unknown collector \"nope\"\n"},
      {"?collect[]", 400, "unknown collector \"\"\n"},
      {"?collect[]=fake&exclude[]=fake", 400, "cannot be used together"},
  };
  for (const auto& row : kTable) {
    CAPTURE(row.query);
    const std::string answer = f.get(std::string("/metrics") + row.query);
    CHECK(has_status(answer, row.status));
    CHECK(contains(body_of(answer), row.part));
  }
  CHECK_FALSE(contains(f.get("/metrics?exclude[]=fake"), "test_one"));
}

TEST_CASE("it is healthy at once and ready when it is told") {
  const Fixture f;
  CHECK(has_status(f.get("/-/healthy"), 200));
  CHECK(has_status(f.get("/-/ready"), 503));
  f.server->set_ready(true);
  CHECK(has_status(f.get("/-/ready"), 200));
  f.server->set_ready(false);
  CHECK(has_status(f.get("/-/ready"), 503));
}

TEST_CASE("POST /-/reload does what it is for, and is refused with a hint where it is not let") {
  const auto post = [](const Fixture& f) {
    return f.send("POST /-/reload HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
  };
  const Fixture off;
  CHECK(has_status(post(off), 403));
  CHECK(contains(body_of(post(off)), "--web.enable-lifecycle"));

  HttpContent content;
  std::atomic<int> reloads = 0;
  content.reload = [&]() -> Result<void> {
    if (++reloads == 1) return {};
    return Error{"t.yml:1:1: no"};
  };
  const Fixture on(
      {}, [] {}, content);
  CHECK(has_status(post(on), 200));
  const std::string failed = post(on);
  CHECK(has_status(failed, 500));
  CHECK(body_of(failed) == "t.yml:1:1: no\n");
  for (const char* method : {"GET", "HEAD", "PUT"}) {
    const std::string answer = on.send(std::string(method) + " /-/reload HTTP/1.1\r\nHost: x\r\n" +
                                       "Content-Length: 0\r\n\r\n");
    CHECK(has_status(answer, 405));
    CHECK(contains(answer, "\r\nAllow: POST\r\n"));
  }
  // A browser says from which page a POST comes; no page may.
  for (const char* origin : {"https://a.example", "null", "http://127.0.0.1:10077"}) {
    const std::string answer = on.send(std::string("POST /-/reload HTTP/1.1\r\nHost: x\r\n") +
                                       "Content-Length: 0\r\nOrigin: " + origin + "\r\n\r\n");
    CHECK(has_status(answer, 403));
    CHECK(contains(body_of(answer), "Origin"));
  }
  CHECK(reloads == 2);
}

TEST_CASE("over the limit of requests the answer is 503, and health still answers") {
  std::promise<void> gate;
  const std::shared_future<void> open = gate.get_future().share();
  HttpOptions options;
  options.max_requests = 2;
  const Fixture f(options, [open] { open.wait(); });
  std::vector<std::future<std::string>> requests;
  requests.reserve(3);
  for (int i = 0; i < 3; ++i) {
    requests.push_back(std::async(std::launch::async, [&] { return f.get("/metrics"); }));
  }
  const auto answered = [](const auto& r) { return r.wait_for(1ms) == std::future_status::ready; };
  auto refused = requests.end();
  while (refused == requests.end()) {
    refused = std::find_if(requests.begin(), requests.end(), answered);
  }
  const std::string refusal = refused->get();
  CHECK(has_status(refusal, 503));
  CHECK(contains(refusal, "2 requests are under way already\n"));
  CHECK(has_status(f.get("/-/healthy"), 200));
  requests.erase(refused);
  gate.set_value();
  for (auto& request : requests) CHECK(has_status(request.get(), 200));
}

TEST_CASE("a hanging collector delays the answer to a little before the scraper gives up") {
  std::promise<void> gate;
  const std::shared_future<void> open = gate.get_future().share();
  const Fixture f({}, [open] { open.wait(); });
  const TimePoint start = Clock::now();
  const std::string answer = f.get("/metrics", "X-Prometheus-Scrape-Timeout-Seconds: 0.2\r\n");
  CHECK(seconds_since(start) >= 0.18);
  CHECK(contains(answer, "tcpvitals_collector_success{collector=\"fake\"} 0\n"));
  gate.set_value();
}

TEST_CASE("the scrape's budget is the scraper's timeout less half a second or a tenth") {
  const struct {
    const char* header;
    double budget;
  } kTable[] = {
      {nullptr, 9.5}, {"10", 9.5},    {"15.000000", 14.5}, {"1", 0.9},        {" 2 ", 1.8},
      {"0", 9.5},     {"-1", 9.5},    {"nan", 9.5},        {"", 9.5},         {"10s", 9.5},
      {"inf", 119.5}, {"9e9", 119.5}, {"0.05", 0.045},     {"0.0001", 0.045}, {"1e-300", 0.045},
  };
  for (const auto& row : kTable) {
    CAPTURE(row.header);
    CHECK(seconds(scrape_budget(row.header)) == doctest::Approx(row.budget));
  }
}

TEST_CASE("a port in use is an error that says so") {
  Fixture f;
  HttpOptions options;
  options.listen = f.server->endpoint();
  const auto second = HttpServer::start(options);
  REQUIRE_FALSE(second.ok());
  CHECK(contains(second.error().message, "cannot bind to 127.0.0.1:"));
  CHECK(contains(second.error().message, "Address already in use"));
  options.listen = *parse_endpoint("[::1]:0");
  CHECK_FALSE(HttpServer::start(options).ok());
}

TEST_CASE("the API refuses what a proxy passed on, /metrics does not") {
  const Fixture f;
  const std::string host = " HTTP/1.1\r\nHost: 127.0.0.1\r\n";
  for (const char* header :
       {"X-Forwarded-For: 192.0.2.1", "forwarded: for=192.0.2.1", "VIA: 1.1 a"}) {
    CAPTURE(header);
    const auto with_header = [&](const std::string& path) {
      return f.send("GET " + path + host + header + "\r\n\r\n");
    };
    const std::string refusal = with_header("/api/v1/connections");
    CHECK(has_status(refusal, 403));
    CHECK(contains(refusal, "not through a proxy"));
    CHECK(has_status(with_header("/metrics"), 200));
  }
  HttpOptions options;
  options.api_remote = true;
  const Fixture open(options);
  CHECK(has_status(open.get("/api/v1/groups", "Via: 1.1 a\r\n"), 503));  // no groups here
}

TEST_CASE("no other page can be where the metrics are") {
  for (const char* path : {"/metrics", "/m", "/a/b", "/metrics/", "/apis/x", "/.metrics"}) {
    CAPTURE(path);
    CHECK(check_metrics_path(path).ok());
  }
  const struct {
    const char* path;
    const char* part;
  } kTable[] = {
      {"", "expected a path"},
      {"/", "expected a path"},
      {"metrics", "expected a path"},
      {"/a?b", "expected a path"},
      {"/a%2fb", "expected a path"},
      {"/-/ready", "/-/ has pages of its own"},
      {"/-/healthy", "/-/ has pages of its own"},
      {"/-/reload", "/-/ has pages of its own"},
      {"/-/other", "/-/ has pages of its own"},
      {"/api", "/api/ has pages of its own"},
      {"/api/v1/groups", "/api/ has pages of its own"},
      {"//metrics", "no request has this path"},
      {"/-/../metrics", "no request has this path"},
      {"/a/.", "no request has this path"},
  };
  for (const auto& row : kTable) {
    CAPTURE(row.path);
    const auto checked = check_metrics_path(row.path);
    REQUIRE_FALSE(checked.ok());
    CHECK(contains(checked.error().message, row.part));
  }
}

TEST_CASE("the API is there, as JSON, for whoever names an address") {
  HttpContent content;
  content.api.find_connections = [](const SearchRequest& query, TimePoint) {
    SearchResult list;
    list.matched = query.top;
    return Result<SearchResult>(list);
  };
  const std::string target = "/api/v1/connections?top=7";
  const std::string by_address = "GET " + target + " HTTP/1.1\r\nHost: 127.0.0.1:80\r\n\r\n";
  const std::string by_name = "GET " + target + " HTTP/1.1\r\nHost: a.example\r\n\r\n";
  {
    const Fixture f(
        {}, [] {}, content);
    const std::string answer = f.send(by_address);
    CHECK(has_status(answer, 200));
    CHECK(contains(answer, "\r\nContent-Type: application/json\r\n"));
    CHECK_FALSE(contains(answer, "Access-Control"));
    CHECK(body_of(answer) == "{\"version\":1,\"matched\":7,\"returned\":0,\"connections\":[]}\n");
    CHECK(has_status(f.send(by_name), 403));
    CHECK(has_status(f.send("GET " + target + " HTTP/1.0\r\n\r\n"), 403));
    CHECK(has_status(f.send("POST /api/v1/groups HTTP/1.1\r\nHost: ::1\r\n"
                            "Content-Length: 0\r\n\r\n"),
                     405));
    CHECK(has_status(f.get("/api/v1/"), 404));
    const std::string packed =
        f.send("GET " + target + " HTTP/1.1\r\nHost: [::1]\r\nAccept-Encoding: gzip\r\n\r\n");
    CHECK(gunzip(body_of(packed)) == body_of(answer));
  }
  HttpOptions options;
  options.api_remote = true;
  const Fixture open(
      options, [] {}, content);
  CHECK(has_status(open.send(by_name), 200));
}

TEST_CASE("behind relays only their connections are answered, each as its true client") {
  RelayTable relays;
  HttpOptions options;
  options.relays = &relays;
  const Fixture f(options);
  const std::string request = "GET /api/v1/groups HTTP/1.1\r\nHost: localhost\r\n\r\n";
  const Fd stranger(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  SocketAddress address(f.server->endpoint());
  CHECK(::connect(stranger.get(), address.get(), address.length) == -1);
  CHECK(errno == EINPROGRESS);
  const auto as = [&](const char* client) {
    return [&relays, client](const Endpoint& relay) {
      relays.add(relay, {*parse_endpoint(client), ""});
    };
  };
  // The API answers loopback only, and no groups are here: 403 and 503 tell who was seen.
  CHECK(has_status(answer_to(f.server->endpoint(), request, as("[::1]:5000")), 503));
  const std::string far = answer_to(f.server->endpoint(), request, as("[2001:db8::1]:5000"));
  CHECK(has_status(far, 403));
  CHECK(contains(far, "not from 2001:db8::1: the API answers on loopback"));
  CHECK(has_status(
      answer_to(f.server->endpoint(), "GET /metrics HTTP/1.1\r\n\r\n", as("192.0.2.1:1")), 200));
  pollfd connected{stranger.get(), POLLOUT, 0};
  CHECK(::poll(&connected, 1, 0) == 0);  // and never will be

  // Where the kernel takes no filter.
  relays.unguard();
  const std::string refused = f.send(request);
  CHECK(has_status(refused, 403));
  CHECK(body_of(refused) == "not here: connect to --web.listen-address\n");
  // The port of a relay on another address is another's.
  const auto elsewhere = [&](const Endpoint& bound) {
    relays.add({*parse_ip_address("127.0.0.1"), bound.port}, {*parse_endpoint("[::1]:1"), ""});
  };
  CHECK(has_status(answer_to(f.server->endpoint(), request, elsewhere, "127.0.0.2"), 403));
}

TEST_CASE("requests wait for what they are to be answered with") {
  Fake fake("fake");
  Collector* const collectors[] = {&fake};
  Scrape scrape(collectors, {});
  auto server = HttpServer::start({});
  REQUIRE(server.ok());
  const auto ask = [&] {
    return std::async(std::launch::async, [endpoint = (*server)->endpoint()] {
      return answer_to(endpoint, "GET /metrics HTTP/1.1\r\n\r\n");
    });
  };
  auto early = ask();
  CHECK(early.wait_for(50ms) == std::future_status::timeout);
  (*server)->serve(scrape);
  CHECK(has_status(early.get(), 200));

  server = HttpServer::start({});
  REQUIRE(server.ok());
  auto vain = ask();
  CHECK(vain.wait_for(50ms) == std::future_status::timeout);
  server->reset();  // which does not wait for what never comes
  const std::string answer = vain.get();
  CHECK((answer.empty() || has_status(answer, 503)));
}

TEST_CASE("the telemetry path moves, and the page links to it") {
  HttpOptions options;
  options.metrics_path = "/m";
  const Fixture f(options);
  CHECK(has_status(f.get("/m"), 200));
  CHECK(has_status(f.get("/metrics"), 404));
  const std::string page = f.get("/");
  CHECK(contains(page, "\r\nContent-Type: text/html; charset=utf-8\r\n"));
  CHECK(contains(page,
                 "\r\nContent-Security-Policy: default-src 'none'; style-src 'unsafe-inline'\r\n"));
  CHECK(contains(page, "<a href=\"/m\">"));
  CHECK(contains(page, "<h1>&lt;db-1&gt;</h1>"));
}
