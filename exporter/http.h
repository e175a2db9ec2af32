// HttpServer: /metrics, the page at /, the API below /api/v1, /-/healthy and /-/ready;
// POST /-/reload, if it is let. It stands behind the door (door.h), and answers nobody else.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/ip.h"
#include "base/result.h"
#include "exporter/api.h"
#include "exporter/page.h"
#include "exporter/scrape.h"
#include "server/relay_table.h"

namespace tcpvitals {

struct HttpOptions {
  Endpoint listen = *parse_endpoint("127.0.0.1:0");  // IPv4; port 0: any

  // Whose connections are answered, and who their clients are; must outlive the server. It guards
  // the listening socket, so that nobody else can connect, and would be answered 403. Null:
  // everyone is answered, as the client it is.
  RelayTable* relays = nullptr;
  std::string metrics_path = "/metrics";  // by check_metrics_path()
  unsigned max_requests = 40;  // of all that takes a while at once; one more is answered 503
  bool api_remote = false;     // the API answers other hosts too
};

// How many requests have a thread: two more, to say 503, and that we live, while all others scrape.
constexpr unsigned http_threads(unsigned max_requests) { return max_requests + 2; }

// What is served beside the metrics; must outlive the server.
struct HttpContent {
  ApiSources api;
  std::function<Result<void>()> reload;  // any thread, many at a time; empty: not over HTTP
  PageFacts facts;
};

// Threads: a fixed pool, one thread per request at a time, and no keep-alive, so an idle client
// holds none. Bounds: 16 KiB of request line and headers, 5 s to send them. Failure: start() when
// the address cannot be listened on.
class HttpServer {
 public:
  // Listens; requests wait for serve().
  static Result<std::unique_ptr<HttpServer>> start(HttpOptions options);
  // Stops accepting, waits for the answers under way.
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  // Where it listens, with the port it was given.
  const Endpoint& endpoint() const { return options_.listen; }

  // Once: answers from now on. `scrape` must outlive the server.
  void serve(Scrape& scrape, HttpContent content = {});

  // What /-/ready says: false at first.
  void set_ready(bool ready) { ready_ = ready; }

 private:
  struct Civet;  // the HTTP library, which only http.cc knows
  struct Request;
  struct Reply;
  struct Route;

  enum class State : std::uint8_t { kWaiting, kServing, kStopping };

  explicit HttpServer(HttpOptions options);
  Result<void> listen();
  void enter(State state);
  std::optional<RelayTable::Client> client_of(const Endpoint& peer) const;
  Reply answer(const Request& request);
  Reply answer_metrics(const Request& request);
  Reply answer_page(const Request& request);
  Reply answer_healthy(const Request& request);
  Reply answer_ready(const Request& request);
  Reply answer_reload(const Request& request);
  template <ApiReply (Api::*call)(std::string_view, TimePoint) const>
  Reply answer_api(const Request& request);

  HttpOptions options_;
  HttpContent content_;  // this and the next two: from serve() on
  Scrape* scrape_ = nullptr;
  std::optional<Api> api_;
  std::vector<Route> routes_;
  std::atomic<State> state_ = State::kWaiting;
  std::atomic<bool> ready_ = false;
  std::atomic<unsigned> in_flight_ = 0;
  std::atomic<std::size_t> last_size_ = 0;  // of the rendered metrics
  RatioWindow window_;
  std::unique_ptr<Civet> civet_;  // last: its threads use everything above
};

// Whether the metrics may be at `path`: a path that requests can have and no other page has.
Result<void> check_metrics_path(std::string_view path);

// How long a scrape may take by the header X-Prometheus-Scrape-Timeout-Seconds (null: none came): a
// little less than the scraper waits, so that a late collector costs its own samples only. The
// scraper waits for 50 ms at least and 120 s at most.
Clock::duration scrape_budget(const char* timeout_header);

}  // namespace tcpvitals
