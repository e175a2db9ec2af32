// Signals of the test's own thread, which a test changes and puts back.
#pragma once

#include <pthread.h>
#include <signal.h>

namespace tcpvitals::testing {

// What the test's own thread ignores and blocks is as before when the test ends.
class Mask {
 public:
  Mask() {
    ::pthread_sigmask(SIG_BLOCK, nullptr, &before_);
    pipe_before_ = ::signal(SIGPIPE, SIG_IGN);
  }
  ~Mask() {
    ::pthread_sigmask(SIG_SETMASK, &before_, nullptr);
    ::signal(SIGPIPE, pipe_before_);
  }
  Mask(const Mask&) = delete;
  Mask& operator=(const Mask&) = delete;

 private:
  sigset_t before_{};
  sighandler_t pipe_before_ = SIG_DFL;
};

}  // namespace tcpvitals::testing
