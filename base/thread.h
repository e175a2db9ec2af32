// A thread of our own beside a program's.
#pragma once

#include <signal.h>

#include <functional>
#include <string>
#include <thread>

namespace tcpvitals {

// While it lives no signal comes to the calling thread, nor ever to one that it starts.
class NoSignals {
 public:
  NoSignals();
  ~NoSignals();
  NoSignals(const NoSignals&) = delete;
  NoSignals& operator=(const NoSignals&) = delete;

 private:
  sigset_t before_{};
};

// Runs `work` under that name, as ps and gdb show it (15 bytes), with all signals blocked: they are
// for the program's own threads, and past a file size limit or on a closed pipe an error is wanted.
// Throws std::system_error where the system has no thread left.
std::thread start_thread(const std::string& name, std::function<void()> work);

}  // namespace tcpvitals
