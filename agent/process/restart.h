// Restart without a lost connection: this program starts itself anew and leaves it the listening
// sockets, so that what waits to be accepted is accepted by one or the other.
//
//   old: start_successor() ── LISTEN_FDS, LISTEN_PID, a pipe ──> new: take_passed_sockets()
//   old: drains, ends <────────────── one byte ────────────────── new: Predecessor::tell_ready()
#pragma once

#include <sys/types.h>

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/fd.h"
#include "base/result.h"

namespace tcpvitals {

// Starts the program by the path by which this one was started: an upgrade may have put another
// file there, or led a symbolic link on the way elsewhere. The same arguments, the same environment
// but for what start_successor() itself leaves there, and of all descriptors the standard ones and
// `sockets`, names and descriptors. Returns when it is ready, with its process id. Fails if it
// ended, or was killed because it was not ready by `deadline` or is not `still_wanted`, which is
// asked twice a second: this process then is as it was. Process 1 of a container cannot: the
// container ends with it.
Result<pid_t> start_successor(const std::vector<std::pair<std::string, int>>& sockets,
                              TimePoint deadline, const std::function<bool()>& still_wanted);

// The process that started this one with start_successor(), if one did.
class Predecessor {
 public:
  // Once, before there are threads.
  static Predecessor from_environment();

  bool is_there() const { return pipe_.valid(); }
  // It accepts no more connections from now on. Once; without a predecessor nothing.
  void tell_ready();

 private:
  Fd pipe_;
};

}  // namespace tcpvitals
