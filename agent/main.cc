// The program: builds every part, hands each what it needs, and waits for a signal.
#include <fmt/format.h>
#include <malloc.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <memory>
#include <string>
#include <vector>

#include "agent/config.h"
#include "agent/options.h"
#include "agent/reload.h"
#include "base/log.h"
#include "collectors/all.h"
#include "exporter/http.h"
#include "exporter/scrape.h"
#include "server/server.h"
#include "server/server_collector.h"
#include "version.h"

namespace {

using namespace tcpvitals;
using namespace std::chrono_literals;

constexpr auto kFirstScrape = 5s;
constexpr auto kReload = 10s;
constexpr auto kLastCollector = 2s;
constexpr char kOtherPort[] = "; choose another address or port, or stop what uses this one";

int refuse(const std::string& message) {
  fmt::print(stderr, "tcpvitals: {}\n", message);
  return 2;
}

std::string host_name() {
  char name[256] = {};
  return ::gethostname(name, sizeof name - 1) == 0 ? name : "localhost";
}

// Before the first thread, so that all inherit it and the signals wait for main.
sigset_t block_signals() {
  ::signal(SIGPIPE, SIG_IGN);
  sigset_t signals;
  ::sigemptyset(&signals);
  ::sigaddset(&signals, SIGTERM);
  ::sigaddset(&signals, SIGINT);
  ::sigaddset(&signals, SIGHUP);
  ::pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  return signals;
}

// The usual soft limit, 1024, is for programs that use select(); here a connection is a descriptor.
void raise_descriptor_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

// Null where none is wanted.
Result<std::unique_ptr<Server>> start_server(const Options& options) {
  if (!options.server_address) return std::unique_ptr<Server>();
  ListenerOptions echo;
  echo.endpoint = *options.server_address;
  return Server::start({.listeners = {echo}, .max_connection_series = options.connection_series});
}

HttpOptions http_options(const Options& options, const Collectors& collectors, const Server* server,
                         Reloader& reloader) {
  HttpOptions http;
  http.listen = options.web_address;
  http.metrics_path = options.metrics_path;
  http.max_requests = options.max_requests;
  http.api_remote = options.api_remote;
  if (ConnectionsCollector* connections = collectors.connections) {
    http.find_connections = [connections](const ConnectionQuery& query, TimePoint deadline) {
      return connections->find(query, deadline);
    };
  }
  if (options.lifecycle) http.reload = [&] { return reloader.reload(); };
  http.facts = {host_name(), TCPVITALS_VERSION,
                server == nullptr ? std::string() : to_string(server->endpoint())};
  return http;
}

// The signal that says to stop; meanwhile the others are obeyed.
int wait_for_the_end(const sigset_t& signals, Reloader& reloader) {
  for (;;) {
    int signal = 0;
    ::sigwait(&signals, &signal);
    if (signal != SIGHUP) return signal;
    (void)reloader.reload();  // which logs how it went
  }
}

int run(const Options& options, const Config& config) {
  configure_log(options.log_level, options.log_format);
  raise_descriptor_limit();
  const sigset_t signals = block_signals();

  auto started = start_server(options);
  if (!started) return refuse("--server.listen-address: " + started.error().message + kOtherPort);
  const std::unique_ptr<Server> server = std::move(*started);

  const ProcSource proc(options.procfs);
  NamespaceSources namespaces(proc);
  CollectorOptions collector_options = options.collectors;
  collector_options.connections.config = config.connections;
  collector_options.connections.namespaces = &namespaces;
  auto collectors = make_collectors(namespaces, collector_options);
  if (!collectors) return refuse("--collector.netstat.fields: " + collectors.error().message);
  if (server && options.server_metrics) {
    collectors->all.push_back(std::make_unique<ServerCollector>(*server));
  }
  Reloader reloader(options.config_file, options.config_flags, [&](const Config& changed) {
    ConnectionsCollector* const connections = collectors->connections;
    if (connections == nullptr) return Result<void>();
    return connections->reconfigure(changed.connections, Clock::now() + kReload);
  });
  if (!options.config_file.empty() && options.config_metrics) {
    collectors->all.push_back(std::make_unique<ConfigCollector>(reloader));
  }
  std::vector<Collector*> pointers;
  for (const auto& collector : collectors->all) pointers.push_back(collector.get());
  Scrape scrape(pointers, {.version = TCPVITALS_VERSION, .max_bytes = options.max_response_bytes});

  auto http = HttpServer::start(http_options(options, *collectors, server.get(), reloader), scrape);
  if (!http) return refuse("--web.listen-address: " + http.error().message + kOtherPort);

  if (!options.config_file.empty()) {
    log_info("configuration", {{"file", options.config_file}, {"has", summary(config)}});
  }
  const std::string base = "http://" + to_string((*http)->endpoint());
  log_info("metrics", {{"url", base + options.metrics_path}});
  log_info("page", {{"url", base + "/"}});
  if (server) log_info("embedded server", {{"echo", to_string(server->endpoint())}});

  scrape.run(Clock::now() + kFirstScrape);
  (*http)->set_ready(true);
  const int signal = wait_for_the_end(signals, reloader);
  log_info("stopping", {{"signal", ::strsignal(signal)}});
  (*http)->set_ready(false);
  http->reset();
  if (server) server->stop();
  if (!scrape.wait_idle(Clock::now() + kLastCollector)) {
    log_warn("a collector hangs; leaving without it");
    std::_Exit(0);
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  // Else nearly each of the dozens of threads has an arena, and keeps what its largest scrape took:
  // 6 MiB more after 60 scrapes on 2 CPUs, where glibc makes 16 arenas; each further CPU allows 8.
  ::mallopt(M_ARENA_MAX, 2);
  const char* hint = "; see tcpvitals --help";
  try {
    const Options options = parse_options(argc, argv);
    hint = "";
    fmt::print("{}", options.answer);
    if (!options.answer.empty()) return 0;
    const auto config = options.config_file.empty()
                            ? default_config(options.config_flags)
                            : read_config(options.config_file, options.config_flags);
    if (!config) return refuse(config.error().message);
    if (!options.check_config) return run(options, *config);
    fmt::print("{}: ok: {}\n", options.config_file, summary(*config));
    return 0;
  } catch (const std::exception& e) {
    return refuse(e.what() + std::string(hint));
  }
}
