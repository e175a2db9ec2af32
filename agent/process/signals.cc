#include "agent/process/signals.h"

#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <utility>

#include "base/log.h"
#include "base/thread.h"

namespace tcpvitals {
namespace {

constexpr auto kLastLine = std::chrono::milliseconds(100);

// The last one is the destructor's.
sigset_t wanted() {
  sigset_t signals;
  ::sigemptyset(&signals);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2, SIGRTMIN}) {
    ::sigaddset(&signals, signal);
  }
  return signals;
}

// 0: none by `deadline`, if there is one.
int wait_for_signal(const sigset_t& signals, const std::optional<TimePoint>& deadline) {
  if (!deadline) return std::max(0, ::sigwaitinfo(&signals, nullptr));
  const auto left =
      std::max<std::int64_t>(0, std::chrono::nanoseconds(*deadline - Clock::now()).count());
  const timespec wait{left / 1'000'000'000, left % 1'000'000'000};
  return std::max(0, ::sigtimedwait(&signals, nullptr, &wait));
}

}  // namespace

Signals::Signals(std::optional<Clock::duration> patience, std::function<void()> end_process)
    : end_process_(std::move(end_process)), patience_(patience) {
  ::signal(SIGPIPE, SIG_IGN);
  ::signal(SIGXFSZ, SIG_IGN);  // of a log file at its size limit an error will do
  const sigset_t signals = wanted();
  ::pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  thread_ = start_thread("signals", [this] { run(); });
}

Signals::~Signals() {
  ::pthread_kill(thread_.native_handle(), SIGRTMIN);
  thread_.join();
}

void Signals::set_patience(std::optional<Clock::duration> patience) {
  const std::lock_guard lock(mutex_);
  patience_ = patience;
}

int Signals::next(TimePoint deadline) {
  std::unique_lock lock(mutex_);
  if (!came_.wait_until(lock, deadline, [&] { return !waiting_.empty(); })) return 0;
  const int signal = waiting_.front();
  waiting_.pop_front();
  return signal;
}

void Signals::run() {
  const sigset_t signals = wanted();
  for (;;) {
    const int signal = wait_for_signal(signals, last_moment_);
    if (signal == SIGRTMIN) return;
    if (signal != 0) take(signal);
    if (!last_moment_ || Clock::now() < *last_moment_) continue;
    last_moment_.reset();
    end_process_();
  }
}

void Signals::take(int signal) {
  const std::lock_guard lock(mutex_);
  const bool waits = std::find(waiting_.begin(), waiting_.end(), signal) != waiting_.end();
  if (is_end(signal)) {
    if (++ends_ > 2) return;  // there is nothing left to hurry
    const auto left = ends_ == 1 ? patience_ : std::optional<Clock::duration>(kHurry);
    if (left)
      last_moment_ = std::min(last_moment_.value_or(TimePoint::max()), Clock::now() + *left);
  } else if (waits) {
    return;
  }
  waiting_.push_back(signal);
  came_.notify_one();
}

void Signals::leave_as_it_is() {
  log_error("not ended in time: leaving everything as it is");
  (void)flush_log(Clock::now() + kLastLine);
  ::_exit(1);
}

// Whose signal is ignored the kernel reaps itself; those that ended before that are reaped here.
void reap_orphans() {
  ::signal(SIGCHLD, SIG_IGN);
  while (::waitpid(-1, nullptr, WNOHANG) > 0) {
  }
}

}  // namespace tcpvitals
