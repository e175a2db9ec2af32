#include "agent/server_reload.h"

#include <fmt/format.h>
#include <unistd.h>

#include <string>
#include <utility>

#include "agent/config/host_check.h"
#include "agent/listeners.h"

namespace tcpvitals {
namespace {

using Prepared = Result<Reloader::Commit>;

// A worker has its connections for as long as they live: other ones are for another process.
Prepared prepare_workers(const ServerParts& parts, const ServerConfig& config) {
  const unsigned wanted = workers_of(config.workers);
  if (wanted == parts.server.workers()) return Reloader::Commit();
  const std::string place = config.workers_place.empty()
                                ? fmt::format(" server.workers: left out, which is {}: ", wanted)
                                : config.workers_place;
  return Error{fmt::format(
      "{}:{}it is {} since the start, and another number needs a restart: kill -USR2 {}",
      parts.options.config_file, place, parts.server.workers(), ::getpid())};
}

Prepared prepare_audit(const ServerParts& parts, const ServerConfig& config) {
  if (parts.audit == nullptr) return Reloader::Commit();
  auto prepared = parts.audit->prepare(config.audit);
  if (prepared) return prepared;
  return Error{parts.options.config_file + ":" + config.audit_place + prepared.error().message};
}

Prepared prepare_listeners(const ServerParts& parts, const ServerConfig& config) {
  auto prepared =
      parts.server.prepare(make_listeners(parts.options, config, parts.door), config.drain.timeout);
  if (prepared) return prepared;
  return std::move(prepared.error()).in(parts.options.config_file);
}

}  // namespace

std::optional<Clock::duration> patience(const DrainOptions& drain) {
  if (drain.timeout.count() == 0) return std::nullopt;
  return drain.wait + drain.timeout + kAfterDrain;
}

std::vector<Reloader::Prepare> server_parts(const ServerParts& parts) {
  const auto workers = [parts](const Config& config) {
    return prepare_workers(parts, config.server);
  };
  const auto on_this_host = [parts](const Config& config) -> Prepared {
    log_problems(check_host(config.server, parts.options.config_file));
    return Reloader::Commit();
  };
  const auto audit = [parts](const Config& config) { return prepare_audit(parts, config.server); };
  const auto listeners = [parts](const Config& config) {
    return prepare_listeners(parts, config.server);
  };
  const auto drain = [parts](const Config& config) -> Prepared {
    return Reloader::Commit(
        [&drain = parts.drain, wanted = config.server.drain] { drain.set(wanted); });
  };
  return {workers, on_this_host, audit, listeners, drain};
}

}  // namespace tcpvitals
