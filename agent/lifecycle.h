// Lifecycle: what the running agent does until it ends, by the signals that come.
//
//   SIGHUP            reads the configuration, certificates and audit file anew
//   SIGUSR2           restarts: a new process takes over, this one drains and ends
//   SIGTERM, SIGINT   drains and ends; a second one ends it at once
//
// In between, once a second: certificates whose files changed are loaded, and the service manager
// hears that all workers answer.
#pragma once

#include <signal.h>

#include "agent/reload.h"
#include "agent/server_config.h"
#include "agent/systemd.h"
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
  };

  // Before the first thread, so that all inherit it and the signals wait for run().
  static sigset_t block_signals();

  // What is given outlives this.
  Lifecycle(Parts parts, const DrainOptions& drain, const sigset_t& signals)
      : parts_(parts), drain_(drain), signals_(signals) {}

  // Returns when the server has stopped.
  void run();

 private:
  // The signal that came before `deadline`; 0: none.
  int next_signal(TimePoint deadline) const;
  void tick();
  void reload();
  bool restart();
  bool wait_unless_hurried(TimePoint deadline) const;
  void stop(Clock::duration wait);

  const Parts parts_;
  const DrainOptions drain_;
  const sigset_t signals_;
  TimePoint next_alive_{};
};

}  // namespace tcpvitals
