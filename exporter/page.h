// The page at /: a host's vital signs as a person reads them. One HTML document that fetches
// nothing.
#pragma once

#include <deque>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "exporter/scrape.h"

namespace tcpvitals {

// What the page says beside the numbers.
struct PageFacts {
  std::string host;
  std::string version;
};

// The host's retransmit ratio over a stretch of time: RetransSegs / OutSegs.
struct RetransmitRatio {
  double ratio = 0;
  double over_seconds = 0;
};

// The ratio of about the last minute, from the counters that earlier page views saw. Any thread.
class RatioWindow {
 public:
  // Remembers the host's counters at `now`; nothing at the first view, and when a counter fell.
  std::optional<RetransmitRatio> advance(TimePoint now, const ScrapeResult& scrape);

 private:
  struct Point {
    TimePoint time;
    double sent;
    double retransmitted;
  };

  std::mutex mutex_;
  std::deque<Point> points_;  // at least a second apart, at most one older than a minute
};

// Sections whose metrics are not in the scrape are left out. Pure.
std::string render_page(const PageFacts& facts, std::string_view metrics_path,
                        const ScrapeResult& scrape, const std::optional<RetransmitRatio>& recent);

}  // namespace tcpvitals
