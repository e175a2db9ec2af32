// ConnectionSeries: which connections have metrics of their own, so that the label `connection` has
// few values over time too, not only in each scrape.
//
// There are `slots` places. A connection keeps its place while it lives. A free place goes to the
// worst connection of at least `lowest_age`, if its id may be given out: ids come from a token
// bucket that gives out at most `new_per_hour` in any hour, whatever connects, and however often
// somebody asks. At first it fills the places, but with half of that number at most; the others
// come evenly spread.
//
// Thread-safe. The caller brings the clock; a time before that of an earlier call counts as that.
#pragma once

#include <cstdint>
#include <mutex>
#include <vector>

#include "base/clock.h"
#include "server/options.h"
#include "server/statistics.h"

namespace tcpvitals {

class ConnectionSeries {
 public:
  explicit ConnectionSeries(const ConnectionSeriesOptions& options);

  const ConnectionSeriesOptions& options() const { return options_; }

  // Of the connections that have a place, rising.
  std::vector<std::uint64_t> ids() const;

  // Those of `live`, the worst first, that have a place from now on. `live` was found after `held`,
  // which ids() said: it has each of these connections that still lives, and candidates.
  std::vector<ConnectionReport> choose(const std::vector<std::uint64_t>& held,
                                       const std::vector<ConnectionReport>& live, TimePoint now);

 private:
  bool take_id();

  const ConnectionSeriesOptions options_;
  const Clock::duration interval_;  // between two ids
  const Clock::duration bucket_;    // what a full bucket is worth
  mutable std::mutex mutex_;
  std::vector<std::uint64_t> ids_;  // rising
  TimePoint now_{};                 // the newest
  TimePoint full_at_{};             // when the bucket will be full again (GCRA)
};

}  // namespace tcpvitals
