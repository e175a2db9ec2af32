// Lifecycle: what the running agent does until it ends, by the signals that come.
//
//   SIGHUP            reads the configuration and the certificates anew, opens the audit log anew
//   SIGUSR1           opens the audit log anew
//   SIGUSR2           restarts: a new process takes over, this one drains and ends
//   SIGTERM, SIGINT   drains and ends; a second one ends it at once
//
// The audit log is opened anew whatever else is wrong: what rotated it will throw the old file
// away.
//
// In between, once a second: certificates whose files changed are loaded, and the service manager
// hears that all workers answer. Once a minute: whether somebody has joined a port of ours.
#pragma once

#include <functional>

#include "agent/config/reload.h"
#include "agent/config/server_config.h"
#include "agent/process/signals.h"
#include "agent/process/systemd.h"
#include "exporter/http.h"
#include "server/server.h"

namespace tcpvitals {

class Lifecycle {
 public:
  struct Parts {
    Server& server;
    HttpServer& http;
    Reloader& reloader;
    const ServiceManager& manager;
    std::function<void()> reopen_audit;   // logs what goes wrong
    std::function<DrainOptions()> drain;  // those in force
  };

  // What is given outlives this.
  Lifecycle(Parts parts, Signals& signals) : parts_(std::move(parts)), signals_(signals) {}

  // Returns when the server has stopped.
  void run();

 private:
  void tick();
  void look_for_strangers();
  void reload();
  bool restart();
  bool wait_unless_hurried(TimePoint deadline);
  void stop(Clock::duration wait);

  const Parts parts_;
  Signals& signals_;
  TimePoint next_alive_{};
  TimePoint next_look_{};
};

}  // namespace tcpvitals
