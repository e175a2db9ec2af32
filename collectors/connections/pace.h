// When each kind of work of the sampler's thread is due: pure functions of times and costs, so that
// every decision is a row of a test.
//
//   full dumps          on demand, their CPU time at most `cpu_budget` of one core
//   listener dumps      every 100 ms, together at most kListenerShare of one core
//   listener refreshes  for a direction that is uncertain, at most kRefreshShare
//   events              at once; those of a busy host gather for a moment, so that one turn reads
//                       many
//
// A pause is counted from the end of the work that it follows: work that takes longer than planned
// pushes the next away and leaves the thread to others in between.
#pragma once

#include <cstddef>

#include "base/clock.h"

namespace tcpvitals {

inline constexpr auto kListenerInterval = std::chrono::milliseconds(100);
inline constexpr double kListenerShare = 0.01;
inline constexpr auto kRefreshInterval = std::chrono::milliseconds(2);
inline constexpr double kRefreshShare = 0.02;

Clock::duration to_duration(double seconds);

// When work may go on that ended at `end`, took `cost` and may have `share` of the time; no sooner
// than `at_least` after its end.
TimePoint next_turn(TimePoint end, Clock::duration cost, double share, Clock::duration at_least);

// The last listener dump of a namespace.
struct ListenerDump {
  TimePoint end{};  // epoch: there was none
  Clock::duration cost{};
};

// When the listeners of a namespace are dumped next. `all`: what such dumps of all namespaces cost.
TimePoint next_listener_dump(const ListenerDump& last, Clock::duration all);

// Whether they may be dumped now because a direction is uncertain.
bool may_refresh(const ListenerDump& last, TimePoint now);

// How long events may gather in a buffer of that size before they are read.
Clock::duration event_pause(std::size_t buffer_bytes);

// How many events a turn reads at most: what such a buffer holds. So a turn has read all that
// waited when it began, and it ends, however fast they come.
std::size_t events_a_turn(std::size_t buffer_bytes);

// Who waits for a full dump.
struct DumpDemand {
  bool sample = false;
  bool search = false;
  bool resync = false;           // at the start, after a loss of events, for a namespace that came
  bool reconfiguration = false;  // has begun, and ends with a dump
};

// When the next may begin.
struct DumpTimes {
  TimePoint asked{};    // by somebody who waits
  TimePoint unasked{};  // the first resync after a while may begin at once
};

enum class DumpStep {
  kWait,
  kDump,
  kAnswer,  // with what is known by now: the budget allows no dump yet
};

// `can_answer`: there is a baseline, or an error to tell.
DumpStep next_step(const DumpDemand& demand, const DumpTimes& times, bool can_answer,
                   TimePoint now);

// When a dump begins that is wanted and must wait; max(): none is.
TimePoint next_dump(const DumpDemand& demand, const DumpTimes& times);

// The times after a sample that began at `start` and cost `cpu` seconds. `resynced`: it followed a
// loss of events.
DumpTimes after_sample(const DumpTimes& before, TimePoint start, double cpu, double cpu_budget,
                       bool resynced);
DumpTimes after_failed_sample(TimePoint now);

// When an asker stops waiting for a sample that must be written out by `deadline`.
TimePoint answer_by(TimePoint now, TimePoint deadline);

}  // namespace tcpvitals
