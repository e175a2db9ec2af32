// The program: builds every part, hands each what it needs, and waits for a signal.
#include <fcntl.h>
#include <fmt/format.h>
#include <malloc.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <vector>

#include "agent/config/config.h"
#include "agent/config/host_check.h"
#include "agent/config/reload.h"
#include "agent/listeners.h"
#include "agent/options.h"
#include "agent/process/lifecycle.h"
#include "agent/process/restart.h"
#include "agent/process/signals.h"
#include "agent/process/systemd.h"
#include "agent/server_reload.h"
#include "base/log.h"
#include "collectors/all.h"
#include "exporter/door.h"
#include "exporter/http.h"
#include "exporter/scrape.h"
#include "server/audit/audit.h"
#include "server/audit/audit_collector.h"
#include "server/relay_table.h"
#include "server/server.h"
#include "server/server_collector.h"
#include "version.h"

namespace {

using namespace tcpvitals;
using namespace std::chrono_literals;

constexpr auto kFirstScrape = 5s;
constexpr auto kReload = 10s;
// Together less than kAfterDrain (server_reload.h).
constexpr auto kLastLines = 2s;
constexpr auto kLastCollector = 1s;
constexpr auto kLastLogLines = 500ms;
constexpr char kOtherPort[] = "; choose another address or port, or stop what uses this one";

int refuse(const std::string& message) {
  fmt::print(stderr, "tcpvitals: {}\n", message);
  return 2;
}

// Else a socket that is opened may become one of them, and be written to as if it were.
void open_standard_descriptors() {
  for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; ++fd) {
    if (::fcntl(fd, F_GETFD) >= 0) continue;
    if (::open("/dev/null", O_RDWR) < 0) ::open("/", O_PATH);  // takes the place, and no bytes
  }
}

std::string host_name() {
  char name[256] = {};
  return ::gethostname(name, sizeof name - 1) == 0 ? name : "localhost";
}

// The usual soft limit, 1024, is for programs that use select(); here a connection is a descriptor.
void raise_descriptor_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

// The hop from the relay to the HTTP server is a connection like others, on a port that changes. It
// is left out where the port in front of it is.
ConnectionsConfig with_own_port(ConnectionsConfig config, std::uint16_t port,
                                const std::vector<Endpoint>& web_addresses) {
  const PortRange own{port, port};
  const auto has_name = [&](const NamedPorts& row) { return row.ports == own; };
  if (std::none_of(config.ports.begin(), config.ports.end(), has_name)) {
    config.ports.push_back({"tcpvitals", own});
  }
  std::vector<PortRange>& excluded = config.excludes.ports;
  const auto is_excluded = [&](const Endpoint& web) {
    return std::any_of(excluded.begin(), excluded.end(),
                       [&](const PortRange& range) { return range.contains(web.port); });
  };
  if (std::any_of(web_addresses.begin(), web_addresses.end(), is_excluded)) excluded.push_back(own);
  return config;
}

HttpOptions http_options(const Options& options, RelayTable& relays) {
  HttpOptions http;
  http.relays = &relays;
  http.metrics_path = options.metrics_path;
  http.max_requests = options.max_requests;
  http.api_remote = options.api_remote;
  return http;
}

HttpContent http_content(const Options& options, ConnectionsCollector* connections, Server& server,
                         std::function<Result<void>()> reload) {
  HttpContent content;
  if (connections != nullptr) {
    content.api.find_connections = [connections](const SearchRequest& query, TimePoint deadline) {
      return connections->search(query, deadline);
    };
  }
  content.api.read_server = [&server](TimePoint deadline) { return server.snapshot(deadline); };
  if (options.lifecycle) content.reload = std::move(reload);
  content.facts = {host_name(), TCPVITALS_VERSION};
  return content;
}

void reopen(AuditLog* audit) {
  if (audit == nullptr || !audit->is_on()) return;
  const auto reopened = audit->reopen();
  if (reopened) return log_info("audit log opened anew");
  log_error("audit log not opened anew", {{"error", reopened.error().message}});
}

// What a reload puts in force: the sampler's part may fail until it is done, and is the last.
std::vector<Reloader::Prepare> reload_parts(
    const ServerParts& server, std::function<Result<void>(const Config&)> reconfigure) {
  std::vector<Reloader::Prepare> parts = server_parts(server);
  parts.emplace_back([file = server.options.config_file, reconfigure = std::move(reconfigure)](
                         const Config& config) -> Result<Reloader::Commit> {
    if (auto done = reconfigure(config); !done) return std::move(done.error()).in(file);
    return Reloader::Commit();
  });
  return parts;
}

// Says where everything listens.
void log_listeners(const std::vector<ListenerOptions>& listeners, const Server& server,
                   const std::string& metrics_path) {
  for (std::size_t i = 0; i < listeners.size(); ++i) {
    if (!server.is_open(i)) continue;  // which the server has told
    const std::string address = to_string(server.endpoint(i));
    if (is_web_name(listeners[i].name)) {
      const std::string url = (listeners[i].tls.enabled() ? "https://" : "http://") + address;
      log_info("metrics", {{"url", url + metrics_path}});
      log_info("page", {{"url", url + "/"}});
    } else {
      log_info("listener", {{"name", listeners[i].name}, {"address", address}});
    }
  }
}

int run(const Options& options, const Config& config) {
  configure_log(options.log_level, options.log_format);
  raise_descriptor_limit();
  Signals signals(patience(config.server.drain));
  if (::getpid() == 1) reap_orphans();
  const ServiceManager manager = ServiceManager::from_environment();
  Predecessor predecessor = Predecessor::from_environment();
  auto passed = take_passed_sockets();
  if (!passed) return refuse(passed.error().message);
  const auto problems = check_host(config.server, options.config_file);
  for (const HostProblem& problem : problems) {
    if (problem.stops) return refuse(problem.message);
  }
  log_problems(problems);
  std::optional<AuditLog> audit;
  if (!options.config_file.empty()) {
    const auto opened = audit.emplace().prepare(config.server.audit);
    if (!opened) return refuse("server.audit.file: " + opened.error().message);
    (*opened)();
  }
  AuditLog* const audit_log = audit ? &*audit : nullptr;

  RelayTable relays;
  auto http = HttpServer::start(http_options(options, relays));
  if (!http) {
    refuse(http.error().message);
    return 1;  // nothing that a flag could mend: no thread, no port of loopback
  }
  const Endpoint inner = (*http)->endpoint();
  Door door(inner, relays);
  const auto listeners = make_listeners(options, config.server, door);
  if (predecessor.is_there()) {
    keep_wanted(*passed, listeners);
  } else if (auto assigned = assign(*passed, listeners); !assigned) {
    return refuse(assigned.error().message);
  }

  const ProcSource proc(options.procfs);
  NamespaceSources namespaces(proc);
  CollectorOptions collector_options = options.collectors;
  collector_options.connections.config =
      with_own_port(config.connections, inner.port, options.web_addresses);
  collector_options.connections.namespaces = &namespaces;
  auto collectors = make_collectors(namespaces, collector_options);
  if (!collectors) return refuse("--collector.netstat.fields: " + collectors.error().message);

  auto started = Server::start({.listeners = listeners,
                                .workers = config.server.workers,
                                .connection_series = options.connection_series,
                                .audit = audit_log},
                               std::move(*passed));
  if (!started) return refuse(started.error().message + kOtherPort);
  const std::unique_ptr<Server> server = std::move(*started);
  if (options.server_metrics) {
    collectors->all.push_back(std::make_unique<ServerCollector>(*server));
  }
  if (audit && options.audit_metrics) {
    collectors->all.push_back(std::make_unique<AuditCollector>(*audit));
  }
  DrainInForce drain(config.server.drain, signals);
  const ServerParts parts{options, door, audit_log, *server, drain};
  Reloader reloader(options.config_file, options.config_flags,
                    reload_parts(parts, [&](const Config& changed) {
                      ConnectionsCollector* const connections = collectors->connections;
                      if (connections == nullptr) return Result<void>();
                      return connections->reconfigure(
                          with_own_port(changed.connections, inner.port, options.web_addresses),
                          Clock::now() + kReload);
                    }));
  if (!options.config_file.empty() && options.config_metrics) {
    collectors->all.push_back(std::make_unique<ConfigCollector>(reloader));
  }
  std::vector<Collector*> pointers;
  for (const auto& collector : collectors->all) pointers.push_back(collector.get());
  Scrape scrape(pointers, {.version = TCPVITALS_VERSION, .max_bytes = options.max_response_bytes});

  if (!options.config_file.empty()) {
    log_info("configuration", {{"file", options.config_file}, {"has", summary(config)}});
  }
  log_listeners(listeners, *server, options.metrics_path);
  scrape.run(Clock::now() + kFirstScrape);
  (*http)->set_ready(true);
  const auto reopen_audit = [audit_log] { reopen(audit_log); };
  (*http)->serve(scrape, http_content(options, collectors->connections, *server, [&] {
                   reopen_audit();
                   return reloader.reload();
                 }));
  predecessor.tell_ready();
  if (auto told = manager.ready(); !told)
    log_warn("the service manager was not told", {{"error", told.error().message}});

  Lifecycle({*server, **http, reloader, manager, reopen_audit, [&] { return drain.get(); }},
            signals)
      .run();
  http->reset();
  if (audit && !audit->flush(Clock::now() + kLastLines)) log_warn("the audit log is not whole");
  if (!scrape.wait_idle(Clock::now() + kLastCollector)) {
    log_warn("a collector hangs; leaving without it");
    (void)flush_log(Clock::now() + kLastLogLines);
    std::_Exit(0);
  }
  return 0;
}

int run_command(int argc, char** argv) {
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
    const auto problems = check_host(config->server, options.config_file);
    for (const HostProblem& problem : problems) refuse(problem.message);
    if (!problems.empty()) return 2;
    fmt::print("{}: ok: {}\n", options.config_file, summary(*config));
    return 0;
  } catch (const std::system_error& e) {
    refuse(
        fmt::format("no further thread: {}; raise the limit of processes (ulimit -u, TasksMax=, "
                    "pids.max)",
                    e.code().message()));
    return 1;
  } catch (const std::exception& e) {
    return refuse(e.what() + std::string(hint));
  }
}

}  // namespace

int main(int argc, char** argv) {
  open_standard_descriptors();
  // Else nearly each of the dozens of threads has an arena, and keeps what its largest scrape took:
  // 6 MiB more after 60 scrapes on 2 CPUs, where glibc makes 16 arenas; each further CPU allows 8.
  ::mallopt(M_ARENA_MAX, 2);
  const int status = run_command(argc, argv);
  (void)flush_log(Clock::now() + kLastLogLines);
  return status;
}
