#include "base/thread.h"

#include <pthread.h>
#include <signal.h>

#include <utility>

namespace tcpvitals {
namespace {

// While it lives no signal comes to this thread; a thread begins with the mask of its parent.
class NoSignals {
 public:
  NoSignals() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~NoSignals() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  NoSignals(const NoSignals&) = delete;
  NoSignals& operator=(const NoSignals&) = delete;

 private:
  sigset_t before_{};
};

}  // namespace

std::thread start_thread(const std::string& name, std::function<void()> work) {
  const NoSignals meanwhile;
  std::thread thread(std::move(work));
  pthread_setname_np(thread.native_handle(), name.substr(0, 15).c_str());
  return thread;
}

}  // namespace tcpvitals
