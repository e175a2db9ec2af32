// What a service manager and a program say to each other: the sockets it passes to one it starts
// (sd_listen_fds), and what that tells of itself (sd_notify). Both are spoken by whoever restarts
// this program too. Two environment variables and a datagram: no library.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "server/passed_socket.h"

namespace tcpvitals {

inline constexpr int kFirstPassedFd = 3;

// The descriptors of LISTEN_FDS from `first` on, if LISTEN_PID is this process, with the names of
// LISTEN_FDNAMES; nothing where nothing was passed. They are closed on exec and do not block. The
// three variables are gone afterwards, so that no child takes them for its own. Fails, and closes
// what was passed, if the variables are not what they should be, or one is no listening TCP socket.
// Once, before there are threads.
Result<std::vector<PassedSocket>> take_passed_sockets(int first = kFirstPassedFd);

// Immutable; any thread. Without a NOTIFY_SOCKET nobody listens, and nothing is sent.
class ServiceManager {
 public:
  // Reads NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID, and leaves them.
  static ServiceManager from_environment();

  bool listens() const { return !address_.empty(); }

  // How often it wants to hear "WATCHDOG=1": twice in the time after which it gives us up.
  std::optional<std::chrono::microseconds> watchdog_interval() const { return watchdog_interval_; }

  Result<void> ready() const { return send("READY=1"); }
  Result<void> reloading() const;  // until ready()
  Result<void> stopping() const { return send("STOPPING=1"); }
  Result<void> alive() const { return send("WATCHDOG=1"); }
  // Another process does our work from now on.
  Result<void> main_pid(pid_t pid) const { return send("MAINPID=" + std::to_string(pid)); }

 private:
  // Assignments, one a line.
  Result<void> send(std::string_view message) const;

  std::string address_;  // a path, or a name that begins with @
  std::optional<std::chrono::microseconds> watchdog_interval_;
};

}  // namespace tcpvitals
