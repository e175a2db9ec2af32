// Time, in the one clock that never jumps. Durations are std::chrono; doubles are always seconds.
#pragma once

#include <time.h>

#include <chrono>

namespace tcpvitals {

using Clock = std::chrono::steady_clock;
using TimePoint = Clock::time_point;

inline double seconds(Clock::duration d) { return std::chrono::duration<double>(d).count(); }
inline double seconds_since(TimePoint start) { return seconds(Clock::now() - start); }

// That the calling thread has used, ever.
inline double thread_cpu_seconds() {
  timespec t{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}

}  // namespace tcpvitals
