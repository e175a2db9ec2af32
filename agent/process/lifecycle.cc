#include "agent/process/lifecycle.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "agent/process/restart.h"
#include "agent/process/shared_ports.h"
#include "base/log.h"

namespace tcpvitals {
namespace {

using namespace std::chrono_literals;

constexpr auto kTick = 1s;
constexpr auto kWorkersAnswer = 5s;
constexpr auto kSuccessorStarts = 60s;
constexpr auto kStrangersLook = 1min;
constexpr auto kDrainLook = 50ms;

void log_failure(std::string_view what, const Result<void>& done) {
  if (!done) log_warn(what, {{"error", done.error().message}});
}

}  // namespace

void Lifecycle::run() {
  for (;;) {
    const int signal = signals_.next(Clock::now() + kTick);
    if (signal == 0) {
      tick();
    } else if (signal == SIGHUP) {
      reload();
    } else if (signal == SIGUSR1) {
      parts_.reopen_audit();
    } else if (signal == SIGUSR2) {
      if (restart()) return stop(0s);
    } else {
      log_info("stopping", {{"signal", ::strsignal(signal)}});
      log_failure("the service manager was not told", parts_.manager.stopping());
      parts_.http.set_ready(false);
      return stop(parts_.drain().wait);
    }
  }
}

void Lifecycle::tick() {
  parts_.server.renew_tls();
  look_for_strangers();
  const auto interval = parts_.manager.watchdog_interval();
  if (!interval || Clock::now() < next_alive_) return;
  // A second early: a tick may be late.
  next_alive_ = Clock::now() + *interval - kTick;
  const auto snapshot = parts_.server.snapshot(Clock::now() + kWorkersAnswer);
  if (!snapshot) return log_error("not alive", {{"error", snapshot.error().message}});
  log_failure("the service manager was not told", parts_.manager.alive());
}

void Lifecycle::look_for_strangers() {
  if (Clock::now() < next_look_) return;
  next_look_ = Clock::now() + kStrangersLook;
  const auto shared = find_shared_endpoints(parts_.server.listening_sockets());
  if (!shared) return;  // no sock_diag, which the collectors tell
  for (const Endpoint& endpoint : *shared) {
    log_error("another process takes connections from a port of ours",
              {{"address", to_string(endpoint)}});
  }
}

void Lifecycle::reload() {
  log_failure("the service manager was not told", parts_.manager.reloading());
  parts_.reopen_audit();
  parts_.server.renew_tls();
  (void)parts_.reloader.reload();  // which logs how it went
  log_failure("the service manager was not told", parts_.manager.ready());
}

bool Lifecycle::restart() {
  log_info("restarting");
  const auto still_wanted = [this] {
    tick();
    return !signals_.ending();
  };
  const auto sockets = parts_.server.listening_sockets();  // which stay open until it has them
  std::vector<std::pair<std::string, int>> descriptors;
  for (const auto& [name, socket] : sockets) descriptors.emplace_back(name, socket->get());
  const auto pid = start_successor(descriptors, Clock::now() + kSuccessorStarts, still_wanted);
  if (!pid) {
    log_error("not restarted", {{"error", pid.error().message}});
    return false;
  }
  log_info("restarted", {{"pid", std::to_string(*pid)}});
  log_failure("the service manager was not told", parts_.manager.main_pid(*pid));
  return true;
}

// False: another signal to end came.
bool Lifecycle::wait_unless_hurried(TimePoint deadline) {
  for (;;) {
    const int signal = signals_.next(deadline);
    if (Signals::is_end(signal)) {
      log_info("not waiting any longer", {{"signal", ::strsignal(signal)}});
      return false;
    }
    if (signal != 0) log_warn("signal ignored: stopping", {{"signal", ::strsignal(signal)}});
    if (signal == 0 && Clock::now() >= deadline) return true;
  }
}

void Lifecycle::stop(Clock::duration wait) {
  bool patient = wait_unless_hurried(Clock::now() + wait);
  const auto timeout = parts_.drain().timeout;
  const TimePoint deadline = timeout == 0s ? TimePoint::max() : Clock::now() + timeout;
  bool drained = false;
  while (patient && !drained && Clock::now() < deadline) {
    drained = parts_.server.drain(std::min(Clock::now() + kDrainLook, deadline));
    if (!drained) patient = wait_unless_hurried(Clock::now());
  }
  parts_.server.stop();
  log_info("stopped", {{"drained", drained ? "true" : "false"}});
}

}  // namespace tcpvitals
