// ServerConfig: the part `server:` of the configuration file. docs/configuration.md is the
// reference.
#pragma once

#include <chrono>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "agent/config/config_field.h"
#include "base/result.h"
#include "server/audit/audit.h"
#include "server/options.h"

namespace tcpvitals {

// What happens between SIGTERM and the end.
struct DrainOptions {
  std::chrono::seconds wait{0};  // not ready, but still accepting: for who balances load
  // For connections to end by themselves. Kubernetes kills 30 s after SIGTERM and systemd after 90:
  // that leaves time for the last lines of the audit log. 0: as long as they like.
  std::chrono::seconds timeout{20};
};

// A listener's TLS, and where the file names each of its files, for errors that only show when
// those are loaded: `7:13: server.web.tls.key: "/x.key": `.
struct TlsSource {
  TlsOptions options;
  std::vector<std::pair<std::string TlsOptions::*, std::string>> places;
};

struct ServerConfig {
  ServerConfig();

  std::vector<ListenerOptions> listeners;
  ListenerOptions web;   // what each --web.listen-address is, but for its name, place and backend
  unsigned workers = 0;  // 0: one per core this process may use
  std::string workers_place;  // where the file says so: `2:12: server.workers: "3": `, or empty
  AuditOptions audit;         // without a path: no audit log
  std::string
      audit_place;  // where the file names it, for errors: `3:17: server.audit.file: "/x": `
  DrainOptions drain;
  std::vector<TlsSource> tls;
  std::vector<std::string> backend_places;  // of each listener, likewise
};

// Pure: no file is opened, no address bound.
Result<void> read_server(const ConfigField& field, ServerConfig& out);

// Fails if relays lead to each other in a circle. `is_own`: whether an address is this host's.
Result<void> check_relays(const ServerConfig& config,
                          const std::function<bool(const IpAddress&)>& is_own);

// Listeners of that name are not in the file: `web`, `web-2`, ... serve the metrics.
bool is_web_name(std::string_view name);

}  // namespace tcpvitals
