// Signals: what the process is told from outside. A thread of its own takes them, so that one to
// end is obeyed even while all the rest waits for a disk, a pipe or another process.
//
// From the first SIGTERM or SIGINT on, the process has `patience` to end, from the second on
// kHurry; one that is not done by then is ended as it is, with status 1 and a line in the log.
//
// Threads: next() and ending() from any. Lifetime: from before the first thread to the end of
// run().
#pragma once

#include <signal.h>

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>

#include "base/clock.h"

namespace tcpvitals {

class Signals {
 public:
  static constexpr auto kHurry = std::chrono::seconds(2);

  // Blocks the signals in this thread and in all that it starts; ignores those of closed pipes and
  // of files at their size limit. Without `patience` the first signal to end sets no bound.
  // `end_process` does not return in a program.
  explicit Signals(std::optional<Clock::duration> patience,
                   std::function<void()> end_process = leave_as_it_is);
  ~Signals();
  Signals(const Signals&) = delete;
  Signals& operator=(const Signals&) = delete;

  // For the first signal to end that comes from now on. Any thread.
  void set_patience(std::optional<Clock::duration> patience);

  // The next one, in the order in which they came; 0: none by `deadline`. Of a kind that waits
  // already another one is the same; only those to end count each.
  int next(TimePoint deadline);

  // Whether one to end has come, taken or not.
  bool ending() const { return ends_ > 0; }

  static bool is_end(int signal) { return signal == SIGTERM || signal == SIGINT; }

 private:
  [[noreturn]] static void leave_as_it_is();
  void run();
  void take(int signal);

  const std::function<void()> end_process_;
  std::atomic<int> ends_ = 0;

  std::mutex mutex_;
  std::condition_variable came_;
  std::optional<Clock::duration> patience_;  // these two under mutex_
  std::deque<int> waiting_;

  std::optional<TimePoint> last_moment_;  // the thread's own
  std::thread thread_;
};

// What process 1 of a container owes: children that lost their parent are its own, and leave no
// zombies.
void reap_orphans();

}  // namespace tcpvitals
