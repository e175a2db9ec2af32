#include "server/connection_series.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <deque>
#include <random>
#include <set>
#include <vector>

using namespace tcpvitals;
using namespace std::chrono_literals;

namespace {

using Ids = std::vector<std::uint64_t>;

const TimePoint kStart = TimePoint(1'000'000s);

// The higher the RTT, the worse.
ConnectionReport report(std::uint64_t id, Clock::duration age, std::uint32_t rtt_us = 100) {
  ConnectionReport report{id, 0, age, {}};
  report.vitals.rtt_us = rtt_us;
  return report;
}

std::vector<ConnectionReport> reports(const Ids& ids, Clock::duration age) {
  std::vector<ConnectionReport> all;
  for (const std::uint64_t id : ids) all.push_back(report(id, age));
  return all;
}

// What a scrape shows.
Ids scrape(ConnectionSeries& series, std::vector<ConnectionReport> live, TimePoint now) {
  std::sort(live.begin(), live.end(), worse<ConnectionReport>);
  Ids shown;
  for (const ConnectionReport& one : series.choose(series.ids(), live, now)) {
    shown.push_back(one.id);
  }
  std::sort(shown.begin(), shown.end());
  return shown;
}

// A day of connections that come and go, scraped every 15 s.
struct Churn {
  std::mt19937 random;
  std::vector<std::pair<std::uint64_t, TimePoint>> live;  // id, and since when
  std::uint64_t last_id = 0;

  void step(TimePoint now, std::uint32_t keep_in_16) {
    std::erase_if(live, [&](const auto&) { return random() % 16 >= keep_in_16; });
    while (live.size() < 200) live.emplace_back(++last_id, now);
  }

  std::vector<ConnectionReport> reports(TimePoint now) {
    std::vector<ConnectionReport> all;
    for (const auto& [id, since] : live)
      all.push_back(report(id, now - since, static_cast<std::uint32_t>(random() % 1000)));
    return all;
  }
};

}  // namespace

TEST_CASE(
    "in 24 h of churn no hour brings more than 60 connections with series, no scrape over 20") {
  const auto seed = std::random_device{}();
  CAPTURE(seed);
  for (const std::uint32_t keep_in_16 : {15U, 14U, 12U}) {
    CAPTURE(keep_in_16);
    ConnectionSeries series({});
    Churn churn{std::mt19937(seed), {}, 0};
    std::set<std::uint64_t> seen;
    std::deque<TimePoint> last_hour;  // when each new id came
    std::size_t most_in_an_hour = 0;
    std::size_t wrong = 0;
    Ids before;
    for (TimePoint now = kStart; now < kStart + 24h; now += 15s) {
      churn.step(now, keep_in_16);
      const Ids shown = scrape(series, churn.reports(now), now);
      for (const auto& [id, since] : churn.live) {
        const bool is_shown = std::binary_search(shown.begin(), shown.end(), id);
        const bool was_shown = std::binary_search(before.begin(), before.end(), id);
        if (was_shown && !is_shown) ++wrong;         // it loses its series before its end
        if (is_shown && now - since < 60s) ++wrong;  // it is too young
      }
      for (const std::uint64_t id : shown) {
        if (seen.insert(id).second) last_hour.push_back(now);
      }
      while (!last_hour.empty() && now - last_hour.front() >= 1h) last_hour.pop_front();
      most_in_an_hour = std::max(most_in_an_hour, last_hour.size());
      if (shown.size() > 20) ++wrong;
      before = shown;
    }
    CHECK(wrong == 0);
    CHECK(most_in_an_hour <= 60);
    CHECK(most_in_an_hour > 40);
    CHECK(seen.size() <= 20 + 24 * 40);
    CHECK(seen.size() > 24 * 30);  // what may be shown is
  }
}

TEST_CASE("other numbers hold as well: few ids, more places than ids") {
  for (const ConnectionSeriesOptions options :
       {ConnectionSeriesOptions{20, 1, 0s}, ConnectionSeriesOptions{20, 2, 0s},
        ConnectionSeriesOptions{100, 60, 0s}, ConnectionSeriesOptions{1, 5, 0s},
        ConnectionSeriesOptions{5, 1000, 0s}}) {
    CAPTURE(options.new_per_hour);
    ConnectionSeries series(options);
    std::deque<TimePoint> last_hour;
    std::size_t most_in_an_hour = 0;
    std::size_t total = 0;
    std::uint64_t id = 0;
    for (TimePoint now = kStart; now < kStart + 6h; now += 1s) {
      // All new in each second.
      Ids ids(options.slots);
      for (std::uint64_t& one : ids) one = ++id;
      for (std::size_t n = scrape(series, reports(ids, 1h), now).size(); n > 0; --n) {
        last_hour.push_back(now);
        ++total;
      }
      while (!last_hour.empty() && now - last_hour.front() >= 1h) last_hour.pop_front();
      most_in_an_hour = std::max(most_in_an_hour, last_hour.size());
    }
    CHECK(most_in_an_hour <= options.new_per_hour);
    CHECK(total >= 6 * (options.new_per_hour / 2));
  }
}

TEST_CASE("a free place goes to the worst connection that is old enough") {
  ConnectionSeries series({.slots = 2});
  CHECK(scrape(series, {report(1, 59s, 900), report(2, 60s, 300), report(3, 2h, 500)}, kStart) ==
        Ids{2, 3});
  // The worst has no place while others live.
  CHECK(scrape(series, {report(1, 75s, 900), report(2, 75s, 1), report(3, 2h, 1)}, kStart + 15s) ==
        Ids{2, 3});
  CHECK(scrape(series, {report(1, 90s, 900), report(3, 2h, 1), report(4, 1h, 800)},
               kStart + 20min) == Ids{1, 3});
  CHECK(scrape(series, {}, kStart + 30min).empty());
  CHECK(series.ids().empty());
}

TEST_CASE("a connection that got its place after the workers were asked does not lose it") {
  ConnectionSeries series({});
  const Ids held = series.ids();
  CHECK(scrape(series, reports({7}, 1h), kStart) == Ids{7});
  // Another asker's workers were looked at before, and named only others.
  CHECK(series.choose(held, reports({8}, 1h), kStart).size() == 1);
  CHECK(series.ids() == Ids{7, 8});
  CHECK(series.choose(series.ids(), reports({8}, 1h), kStart).size() == 1);
  CHECK(series.ids() == Ids{8});
}

TEST_CASE("an older clock gives out no further ids") {
  ConnectionSeries series({.slots = 1, .new_per_hour = 2});
  CHECK(scrape(series, reports({1}, 1h), kStart) == Ids{1});
  CHECK(scrape(series, reports({2}, 1h), kStart - 10h).empty());
  CHECK(scrape(series, reports({2}, 1h), kStart + 59min).empty());
  CHECK(scrape(series, reports({2}, 1h), kStart + 60min) == Ids{2});
}

TEST_CASE("without places nothing has series") {
  ConnectionSeries series({.slots = 0});
  CHECK(scrape(series, reports({1, 2}, 1h), kStart).empty());
}
