#include "collectors/connections/pace.h"

#include <algorithm>

namespace tcpvitals {
namespace {

// What one event takes in the kernel's buffer, and as many as a busy host is taken to send a
// second.
constexpr double kEventBufferBytes = 1280;
constexpr double kEventsPerSecond = 200'000;
constexpr auto kLongestEventPause = std::chrono::microseconds(2000);

constexpr auto kRetry = std::chrono::milliseconds(100);  // after a sample that failed

// Of the time until its deadline an asker leaves this for what comes after the sample.
constexpr int kRestForAsker = 10;
constexpr Clock::duration kLongestRest = std::chrono::milliseconds(100);

}  // namespace

Clock::duration to_duration(double seconds) {
  return std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
}

TimePoint next_turn(TimePoint end, Clock::duration cost, double share, Clock::duration at_least) {
  return end + std::max(at_least, to_duration(seconds(cost) / share));
}

TimePoint next_listener_dump(const ListenerDump& last, Clock::duration all) {
  if (last.end == TimePoint{}) return {};
  return next_turn(last.end, all, kListenerShare, kListenerInterval);
}

bool may_refresh(const ListenerDump& last, TimePoint now) {
  return last.end == TimePoint{} ||
         now >= next_turn(last.end, last.cost, kRefreshShare, kRefreshInterval);
}

// Half a buffer's worth of time: events gather, so that one wake-up reads many, but never overflow.
Clock::duration event_pause(std::size_t buffer_bytes) {
  return std::min<Clock::duration>(
      kLongestEventPause,
      to_duration(static_cast<double>(buffer_bytes) / kEventBufferBytes / kEventsPerSecond / 2));
}

std::size_t events_a_turn(std::size_t buffer_bytes) {
  return std::max<std::size_t>(
      1, static_cast<std::size_t>(static_cast<double>(buffer_bytes) / kEventBufferBytes));
}

DumpStep next_step(const DumpDemand& demand, const DumpTimes& times, bool can_answer,
                   TimePoint now) {
  if (now >= next_dump(demand, times)) return DumpStep::kDump;
  return demand.sample && can_answer ? DumpStep::kAnswer : DumpStep::kWait;
}

TimePoint next_dump(const DumpDemand& demand, const DumpTimes& times) {
  TimePoint next = TimePoint::max();
  if (demand.sample || demand.search) next = times.asked;
  if (demand.resync || demand.reconfiguration) next = std::min(next, times.unasked);
  return next;
}

DumpTimes after_sample(const DumpTimes& before, TimePoint start, double cpu, double cpu_budget,
                       bool resynced) {
  const TimePoint next = start + to_duration(cpu / cpu_budget);
  return {.asked = next, .unasked = resynced ? next : before.unasked};
}

DumpTimes after_failed_sample(TimePoint now) {
  return {.asked = now + kRetry, .unasked = now + kRetry};
}

TimePoint answer_by(TimePoint now, TimePoint deadline) {
  const Clock::duration left = std::max(Clock::duration::zero(), deadline - now);
  return deadline - std::min(left / kRestForAsker, kLongestRest);
}

}  // namespace tcpvitals
