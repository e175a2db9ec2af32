// Time, in the one clock that never jumps. Durations are std::chrono; doubles are always seconds.
#pragma once

#include <chrono>

namespace tcpvitals {

using Clock = std::chrono::steady_clock;
using TimePoint = Clock::time_point;

inline double seconds(Clock::duration d) { return std::chrono::duration<double>(d).count(); }
inline double seconds_since(TimePoint start) { return seconds(Clock::now() - start); }

}  // namespace tcpvitals
