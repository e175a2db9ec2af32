// What a reload changes of `server:`, under live connections: all of it but the number of workers.
#pragma once

#include <mutex>
#include <optional>
#include <vector>

#include "agent/config/reload.h"
#include "agent/config/server_config.h"
#include "agent/options.h"
#include "agent/process/signals.h"
#include "base/clock.h"
#include "exporter/door.h"
#include "server/audit/audit.h"
#include "server/server.h"

namespace tcpvitals {

// What the process may still take when its connections have had all of their time.
inline constexpr std::chrono::seconds kAfterDrain{5};

// From the first signal to end on; none: without end.
std::optional<Clock::duration> patience(const DrainOptions& drain);

// How the process ends, as the configuration in force has it. Any thread.
class DrainInForce {
 public:
  // `signals` outlive this.
  DrainInForce(const DrainOptions& drain, Signals& signals) : signals_(signals), drain_(drain) {}

  DrainOptions get() const {
    const std::lock_guard lock(mutex_);
    return drain_;
  }
  void set(const DrainOptions& drain) {
    signals_.set_patience(patience(drain));
    const std::lock_guard lock(mutex_);
    drain_ = drain;
  }

 private:
  Signals& signals_;
  mutable std::mutex mutex_;
  DrainOptions drain_;
};

// All outlive the parts of a reload.
struct ServerParts {
  const Options& options;
  Door& door;
  AuditLog* audit;  // null without a configuration file: there is nothing to reload
  Server& server;
  DrainInForce& drain;
};

// The parts of a reload that are about the server. Whatever does not work on this host, and is no
// reason to refuse the reload, is logged.
std::vector<Reloader::Prepare> server_parts(const ServerParts& parts);

}  // namespace tcpvitals
