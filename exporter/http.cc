#include "exporter/http.h"

#include <civetweb.h>
#include <fmt/format.h>
#include <pthread.h>
#include <sys/socket.h>
#include <zlib.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <charconv>
#include <optional>
#include <span>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "base/fd.h"
#include "base/log.h"
#include "base/log_limit.h"
#include "exporter/query_string.h"
#include "exporter/render.h"
#include "exporter/reply.h"
#include "server/socket_address.h"

namespace tcpvitals {
namespace {

using namespace std::chrono_literals;

constexpr std::chrono::duration<double> kDefaultTimeout = 10s;
constexpr std::chrono::duration<double> kMinTimeout = 50ms;
constexpr std::chrono::duration<double> kMaxTimeout = 120s;

constexpr char kHtml[] = "text/html; charset=utf-8";
constexpr char kJson[] = "application/json";

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  while (!text.empty() && text.back() == ' ') text.remove_suffix(1);
  return text;
}

// Calls use(piece) for each piece between separators.
template <typename Use>
void split(std::string_view text, char separator, Use use) {
  for (;;) {
    const auto end = text.find(separator);
    use(text.substr(0, end));
    if (end == std::string_view::npos) return;
    text.remove_prefix(end + 1);
  }
}

// Whether an Accept-Encoding header allows gzip: named and not with q=0.
bool accepts_gzip(const char* header) {
  bool accepted = false;
  split(header == nullptr ? "" : header, ',', [&](std::string_view coding) {
    const auto semicolon = coding.find(';');
    if (trimmed(coding.substr(0, semicolon)) != "gzip") return;
    const std::string_view weight =
        semicolon == std::string_view::npos ? "" : trimmed(coding.substr(semicolon + 1));
    // q=0, q=0.0 and so on: no. Any other digit makes it more than zero.
    accepted = weight.empty() || weight.find_first_not_of("q=0.") != std::string_view::npos;
  });
  return accepted;
}

// Level 1: on this text the higher ones cost almost three times as much for a few percent.
std::string gzip(std::string_view text) {
  z_stream stream{};
  constexpr int kGzipFormat = 15 + 16;
  if (deflateInit2(&stream, 1, Z_DEFLATED, kGzipFormat, 8, Z_DEFAULT_STRATEGY) != Z_OK) return {};
  std::string packed(deflateBound(&stream, text.size()), '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(packed.data());
  stream.avail_out = static_cast<uInt>(packed.size());
  deflate(&stream, Z_FINISH);
  packed.resize(stream.total_out);
  deflateEnd(&stream);
  return packed;
}

std::vector<std::string> values_of(const QueryParameters& parameters, std::string_view name) {
  std::vector<std::string> values;
  for (const auto& [key, value] : parameters) {
    if (key == name) values.push_back(value);
  }
  return values;
}

// Connects and goes away.
void knock(const Endpoint& endpoint) {
  const Fd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  SocketAddress address(endpoint);
  (void)::connect(fd.get(), address.get(), address.length);
}

// The library's socket that listens there, which it does not tell; -1: none.
int listening_socket(const Endpoint& endpoint) {
  // It took the lowest free number, and no more sockets than that are ever passed to us.
  constexpr int kHighest = 1 << 16;
  for (int fd = 0; fd < kHighest; ++fd) {
    int listens = 0;
    socklen_t size = sizeof listens;
    if (::getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) != 0 || listens == 0) continue;
    SocketAddress address;
    if (::getsockname(fd, address.get(), &address.length) != 0) continue;
    if (address.endpoint() == endpoint) return fd;
  }
  return -1;
}

// One of at most `limit` places, held while a scrape or page is made.
class Place {
 public:
  Place(std::atomic<unsigned>& taken, unsigned limit) : taken_(taken), ok_(++taken <= limit) {}
  ~Place() { --taken_; }
  Place(const Place&) = delete;
  Place& operator=(const Place&) = delete;
  bool ok() const { return ok_; }

 private:
  std::atomic<unsigned>& taken_;
  const bool ok_;
};

}  // namespace

struct HttpServer::Request {
  std::string_view method;
  std::string_view path;
  std::string_view query;
  RelayTable::Client client;
  std::string_view host;        // the header
  bool forwarded;               // a proxy's header is there
  bool from_page;               // a web page of another site sent it: the header Origin
  const char* scrape_timeout;   // the header; null: none
  const char* accept_encoding;  // the header; null: none
};

struct HttpServer::Reply {
  int status = 200;
  std::string body;
  const char* content_type = kPlainText;
  const char* headers = "";  // further ones, each with its line end
  bool may_pack = false;     // with gzip, for a client that takes it
};

struct HttpServer::Route {
  std::string path;
  bool takes_a_place;  // of max_requests
  Reply (HttpServer::*answer)(const Request&);
  bool is_post = false;  // changes something: POST, and nothing else
};

// The library keeps no exception out of its C: what it calls here must not throw, and out of memory
// ends the process.
struct HttpServer::Civet {
  explicit Civet(HttpServer& s) : server(s) { mg_init_library(MG_FEATURES_DEFAULT); }
  ~Civet() {
    if (context != nullptr) stop();
    mg_exit_library();
  }

  // The library's accepting thread looks at its stop flag every two seconds, or when a client
  // comes: so one comes. Where there is no thread for that (std::thread would throw) it waits.
  void stop() {
    if (server.options_.relays != nullptr) server.options_.relays->unguard();  // the knocks come in
    pthread_t knocking{};
    const bool knocks = ::pthread_create(&knocking, nullptr, knock_until_stopped, this) == 0;
    mg_stop(context);
    stopped = true;
    if (knocks) ::pthread_join(knocking, nullptr);
  }

  static void* knock_until_stopped(void* civet) {
    const Civet& self = *static_cast<Civet*>(civet);
    while (!self.stopped) {
      knock(self.server.endpoint());
      std::this_thread::sleep_for(5ms);
    }
    return nullptr;
  }

  static Civet& of(const mg_connection* connection) {
    return *static_cast<Civet*>(mg_get_user_data(mg_get_context(connection)));
  }

  static int on_message(const mg_connection* connection, const char* message) noexcept {
    Civet& civet = of(connection);
    const std::lock_guard lock(civet.mutex);
    if (civet.first_message.empty()) civet.first_message = message;
    if (civet.message_line.admits()) log_debug("http", {{"message", message}});
    return 1;
  }

  static int on_request(mg_connection* connection) noexcept {
    const mg_request_info& info = *mg_get_request_info(connection);
    HttpServer& server = of(connection).server;
    auto address = parse_ip_address(info.remote_addr);
    auto client = server.client_of(
        {address ? *address : IpAddress{}, static_cast<std::uint16_t>(info.remote_port)});
    const auto text = [](const char* t) { return std::string_view(t == nullptr ? "" : t); };
    const std::span received(info.http_headers, static_cast<std::size_t>(info.num_headers));
    const Request request{
        info.request_method,
        info.local_uri,
        text(info.query_string),
        client.value_or(RelayTable::Client{}),
        text(mg_get_header(connection, "Host")),
        std::any_of(received.begin(), received.end(),
                    [](const mg_header& header) { return is_proxy_header(header.name); }),
        mg_get_header(connection, "Origin") != nullptr,
        mg_get_header(connection, "X-Prometheus-Scrape-Timeout-Seconds"),
        mg_get_header(connection, "Accept-Encoding")};
    Reply reply = client
                      ? server.answer(request)
                      : Reply{.status = 403, .body = "not here: connect to --web.listen-address\n"};
    if (of(connection).request_line.admits()) {
      log_debug("request", {{"client", to_string(request.client.endpoint)},
                            {"subject", request.client.tls_subject},
                            {"method", std::string(request.method)},
                            {"path", std::string(request.path)},
                            {"status", std::to_string(reply.status)}});
    }
    std::string headers = reply.headers;
    if (reply.may_pack) {
      headers += "Vary: Accept-Encoding\r\n";
      if (accepts_gzip(request.accept_encoding)) {
        headers += "Content-Encoding: gzip\r\n";
        reply.body = gzip(reply.body);
      }
    }
    const std::string head =
        reply_head(reply.status, reply.content_type, reply.body.size(), headers);
    if (request.method == "HEAD") reply.body.clear();
    mg_write(connection, head.data(), head.size());
    mg_write(connection, reply.body.data(), reply.body.size());
    return reply.status;
  }

  HttpServer& server;
  mg_context* context = nullptr;
  std::atomic<bool> stopped = false;  // the knocking may end
  std::mutex mutex;
  std::string first_message;  // what start-up complained about
  LogLimit request_line{LogLevel::kDebug, "request", 100, 1s};
  LogLimit message_line{LogLevel::kDebug, "http", 10, 1s};
};

HttpServer::HttpServer(HttpOptions options)
    : options_(std::move(options)),
      routes_{{options_.metrics_path, true, &HttpServer::answer_metrics},
              {"/", true, &HttpServer::answer_page},
              {Api::kConnections, true, &HttpServer::answer_api<&Api::connections>},
              {Api::kGroups, true, &HttpServer::answer_api<&Api::groups>},
              {Api::kServerConnections, true, &HttpServer::answer_api<&Api::server_connections>},
              {"/-/healthy", false, &HttpServer::answer_healthy},
              {"/-/ready", false, &HttpServer::answer_ready},
              {"/-/reload", true, &HttpServer::answer_reload, true}},
      civet_(std::make_unique<Civet>(*this)) {}

HttpServer::~HttpServer() {
  if (state_ == State::kWaiting) enter(State::kStopping);
}

Result<std::unique_ptr<HttpServer>> HttpServer::start(HttpOptions options) {
  std::unique_ptr<HttpServer> server(new HttpServer(std::move(options)));
  if (auto listening = server->listen(); !listening) return std::move(listening.error());
  return server;
}

Result<void> HttpServer::listen() {
  if (!options_.listen.address.is_v4()) return Error{"the metrics port speaks IPv4 only"};
  const std::string address = to_string(options_.listen);
  const std::string threads = std::to_string(http_threads(options_.max_requests));
  const std::array settings{"listening_ports",
                            address.c_str(),
                            "num_threads",
                            threads.c_str(),
                            "max_request_size",
                            "16384",  // more than the door lets through
                            "tcp_nodelay",
                            "1",
                            "enable_keep_alive",
                            "no",
                            "request_timeout_ms",
                            "5000",
                            static_cast<const char*>(nullptr)};
  mg_callbacks callbacks{};
  callbacks.log_message = Civet::on_message;
  callbacks.begin_request = Civet::on_request;
  civet_->context = mg_start(&callbacks, civet_.get(), const_cast<const char**>(settings.data()));
  if (civet_->context == nullptr) return Error{civet_->first_message};
  mg_server_port port{};
  if (mg_get_server_ports(civet_->context, 1, &port) == 1) {
    options_.listen.port = static_cast<std::uint16_t>(port.port);
  }
  if (options_.relays != nullptr) {
    auto guarded = options_.relays->guard(listening_socket(options_.listen));
    if (!guarded) {
      log_warn("local users can connect to the HTTP server, and keep its threads",
               {{"error", guarded.error().message}});
    }
  }
  return {};
}

void HttpServer::serve(Scrape& scrape, HttpContent content) {
  content_ = std::move(content);
  scrape_ = &scrape;
  api_.emplace(scrape, content_.api);
  enter(State::kServing);
}

void HttpServer::enter(State state) {
  state_ = state;
  state_.notify_all();
}

std::optional<RelayTable::Client> HttpServer::client_of(const Endpoint& peer) const {
  if (options_.relays == nullptr) return RelayTable::Client{peer, ""};
  return options_.relays->find(peer);
}

HttpServer::Reply HttpServer::answer(const Request& request) {
  state_.wait(State::kWaiting);
  if (state_ == State::kStopping) return {.status = 503, .body = "could not start\n"};
  const auto route = std::find_if(routes_.begin(), routes_.end(),
                                  [&](const Route& r) { return r.path == request.path; });
  if (route == routes_.end()) {
    return {.status = 404, .body = "not here: try / or " + options_.metrics_path + "\n"};
  }
  if (route->is_post && request.method != "POST") {
    return {.status = 405, .body = "only POST\n", .headers = "Allow: POST\r\n"};
  }
  if (!route->is_post && request.method != "GET" && request.method != "HEAD") {
    return {.status = 405, .body = "only GET and HEAD\n", .headers = "Allow: GET, HEAD\r\n"};
  }
  if (!route->takes_a_place) return (this->*route->answer)(request);
  const Place place(in_flight_, options_.max_requests);
  if (!place.ok()) {
    return {.status = 503,
            .body = fmt::format("{} requests are under way already\n", options_.max_requests)};
  }
  return (this->*route->answer)(request);
}

HttpServer::Reply HttpServer::answer_healthy(const Request&) { return {.body = "healthy\n"}; }

HttpServer::Reply HttpServer::answer_ready(const Request&) {
  if (ready_) return {.body = "ready\n"};
  return {.status = 503, .body = "not ready: starting or shutting down\n"};
}

HttpServer::Reply HttpServer::answer_reload(const Request& request) {
  // A browser says so of every POST, by whatever name it found this server.
  if (request.from_page) return {.status = 403, .body = "not from a web page (header Origin)\n"};
  if (!content_.reload) {
    return {.status = 403, .body = "off: start with --web.enable-lifecycle, or send SIGHUP\n"};
  }
  const auto reloaded = content_.reload();
  if (!reloaded) return {.status = 500, .body = reloaded.error().message + "\n"};
  return {.body = "reloaded\n"};
}

HttpServer::Reply HttpServer::answer_metrics(const Request& request) {
  const TimePoint deadline = Clock::now() + scrape_budget(request.scrape_timeout);
  const QueryParameters parameters = parse_query_string(request.query);
  const auto selection =
      scrape_->select(values_of(parameters, "collect[]"), values_of(parameters, "exclude[]"));
  if (!selection) return {.status = 400, .body = selection.error().message + "\n"};
  std::string text = render_text(scrape_->run(deadline, *selection).families, last_size_);
  last_size_ = text.size();
  return {.body = std::move(text), .content_type = kTextContentType, .may_pack = true};
}

template <ApiReply (Api::*call)(std::string_view, TimePoint) const>
HttpServer::Reply HttpServer::answer_api(const Request& request) {
  std::optional<ApiReply> reply;
  if (!options_.api_remote) {
    reply = refuse_remote(request.client.endpoint.address, request.host, request.forwarded);
  }
  const TimePoint deadline = Clock::now() + scrape_budget(request.scrape_timeout);
  if (!reply) reply = ((*api_).*call)(request.query, deadline);
  return {.status = reply->status,
          .body = std::move(reply->body),
          .content_type = kJson,
          .may_pack = true};
}

HttpServer::Reply HttpServer::answer_page(const Request&) {
  const ScrapeResult scrape = scrape_->run(Clock::now() + scrape_budget(nullptr));
  return {.body = render_page(content_.facts, options_.metrics_path, scrape,
                              window_.advance(Clock::now(), scrape)),
          .content_type = kHtml,
          .headers = "Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'\r\n"};
}

Result<void> check_metrics_path(std::string_view path) {
  constexpr std::string_view kExpected = "expected a path such as /metrics";
  const auto complaint = [&](std::string_view what) {
    return Error{fmt::format("\"{}\": {}{}", path, what, kExpected)};
  };
  if (path.size() < 2 || path.front() != '/' ||
      path.find_first_of(" ?#%\"<>\\") != std::string_view::npos) {
    return complaint("");
  }
  const std::string whole = fmt::format("{}{}", path, path.ends_with('/') ? "" : "/");
  for (const char* part : {"//", "/./", "/../"}) {  // the library takes them out of each request
    if (whole.find(part) != std::string::npos) return complaint("no request has this path; ");
  }
  for (const char* ours : {"/-/", "/api/"}) {
    if (whole.starts_with(ours)) return complaint(fmt::format("{} has pages of its own; ", ours));
  }
  return {};
}

Clock::duration scrape_budget(const char* timeout_header) {
  double timeout = kDefaultTimeout.count();
  if (timeout_header != nullptr) {
    const std::string_view text = trimmed(timeout_header);
    double asked = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), asked);
    if (error == std::errc() && end == text.data() + text.size() && asked > 0) {
      timeout = std::clamp(asked, kMinTimeout.count(), kMaxTimeout.count());
    }
  }
  const double budget = timeout - std::min(0.5, timeout / 10);
  return std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(budget));
}

}  // namespace tcpvitals
