// When each kind of work of the sampler is due: every decision is a row.
#include "collectors/connections/pace.h"

#include <doctest/doctest.h>

using namespace tcpvitals;
using namespace std::chrono_literals;

namespace {

const TimePoint kT0 = TimePoint{} + 1000h;

}  // namespace

TEST_CASE("work rests from its end, for as long as its cost is more than its share") {
  CHECK(next_turn(kT0, 10ms, 0.01, 100ms) == kT0 + 1s);
  CHECK(next_turn(kT0, 1ms, 0.01, 100ms) == kT0 + 100ms);
  CHECK(next_turn(kT0, 500us, 0.01, 100ms) == kT0 + 100ms);
  CHECK(next_turn(kT0, 10ms, 0.5, 2ms) == kT0 + 20ms);
  CHECK(next_turn(kT0, 0ms, 0.01, 2ms) == kT0 + 2ms);
}

TEST_CASE("listeners are dumped every 100 ms, and less often where that takes 1 % of a core") {
  const struct {
    Clock::duration own, all, interval;
  } kTable[] = {{10us, 10us, 100ms},
                {999us, 999us, 100ms},
                {6ms, 6ms, 600ms},
                {10us, 6ms, 600ms},  // the namespaces share the time
                {60ms, 60ms, 6s}};
  for (const auto& row : kTable) {
    CHECK(next_listener_dump({kT0, row.own}, row.all) == kT0 + row.interval);
  }
  CHECK(next_listener_dump({}, 6ms) <= kT0);  // the first is due at once
}

TEST_CASE("a refresh for an uncertain direction comes after a rest that its own cost tells") {
  const struct {
    Clock::duration cost, rest;
  } kTable[] = {{10us, 2ms}, {40us, 2ms}, {6ms, 300ms}, {60ms, 3s}};
  for (const auto& row : kTable) {
    const ListenerDump last{kT0, row.cost};
    CHECK_FALSE(may_refresh(last, kT0));
    CHECK_FALSE(may_refresh(last, kT0 + row.rest - 1us));
    CHECK(may_refresh(last, kT0 + row.rest));
  }
  CHECK(may_refresh({}, kT0));
}

TEST_CASE("events gather for half of what the buffer holds, and for 2 ms at most") {
  CHECK(event_pause(16 << 20) == 2ms);
  CHECK(event_pause(1'024'000) == 2ms);
  CHECK(event_pause(512'000) == 1ms);
  CHECK(event_pause(128'000) == 250us);
}

TEST_CASE("a turn reads as many events as the buffer holds, and at least one") {
  CHECK(events_a_turn(1'280'000) == 1000);
  CHECK(events_a_turn(425'984) == 332);
  CHECK(events_a_turn(0) == 1);
}

TEST_CASE("a dump begins when somebody wants it and its time has come, else a sample is answered") {
  const DumpTimes times{.asked = kT0 + 10s, .unasked = kT0 + 5s};
  const struct {
    DumpDemand demand;
    bool can_answer;
    Clock::duration at;
    DumpStep step;
  } kTable[] = {
      {{}, true, 1h, DumpStep::kWait},
      {{.sample = true}, true, 10s, DumpStep::kDump},
      {{.sample = true}, true, 10s - 1us, DumpStep::kAnswer},
      {{.sample = true}, false, 10s - 1us, DumpStep::kWait},
      {{.search = true}, true, 10s - 1us, DumpStep::kWait},
      {{.search = true}, true, 10s, DumpStep::kDump},
      {{.resync = true}, true, 5s, DumpStep::kDump},
      {{.resync = true}, true, 5s - 1us, DumpStep::kWait},
      {{.reconfiguration = true}, true, 5s, DumpStep::kDump},
      {{.reconfiguration = true}, true, 5s - 1us, DumpStep::kWait},
      {{.sample = true, .resync = true}, true, 5s - 1us, DumpStep::kAnswer},
      {{.sample = true, .resync = true}, false, 5s, DumpStep::kDump},
  };
  for (const auto& row : kTable) {
    CAPTURE(&row - kTable);
    CHECK(next_step(row.demand, times, row.can_answer, kT0 + row.at) == row.step);
  }
  CHECK(next_dump({}, times) == TimePoint::max());
  CHECK(next_dump({.search = true}, times) == kT0 + 10s);
  CHECK(next_dump({.search = true, .reconfiguration = true}, times) == kT0 + 5s);
  const DumpTimes late{.asked = kT0 + 1s, .unasked = kT0 + 5s};
  CHECK(next_dump({.sample = true, .resync = true}, late) == kT0 + 1s);
}

TEST_CASE("the budget counts from a sample's start; a resync is bounded only by the one before") {
  const DumpTimes before{.asked = kT0, .unasked = kT0 + 1s};
  const DumpTimes asked = after_sample(before, kT0, 0.1, 0.05, false);
  CHECK(asked.asked == kT0 + 2s);
  CHECK(asked.unasked == before.unasked);
  const DumpTimes resynced = after_sample(before, kT0, 0.1, 0.05, true);
  CHECK(resynced.asked == kT0 + 2s);
  CHECK(resynced.unasked == kT0 + 2s);
  const DumpTimes failed = after_failed_sample(kT0);
  CHECK(failed.asked == kT0 + 100ms);
  CHECK(failed.unasked == kT0 + 100ms);
}

TEST_CASE("an asker leaves a tenth of its time for what comes after the sample") {
  CHECK(answer_by(kT0, kT0 + 500ms) == kT0 + 450ms);
  CHECK(answer_by(kT0, kT0 + 10s) == kT0 + 9900ms);
  CHECK(answer_by(kT0, kT0 - 1s) == kT0 - 1s);
}
