// A host's vital signs, read from a scrape: the numbers that the page shows, as values. What a
// scrape does not have is absent. Pure, but for RatioWindow.
#pragma once

#include <prometheus/client_metric.h>

#include <deque>
#include <limits>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "exporter/scrape.h"

namespace tcpvitals {

// For a ratio to nothing, and a quantile of nothing.
inline constexpr double kNone = std::numeric_limits<double>::quiet_NaN();

double ratio_of(double part, double whole);

// Of data segments that were repeats. A FIN sent again without data is in `part` alone: no more
// than all.
double share_of(double part, double whole);

// The sum of all samples of the named counter or gauge.
std::optional<double> sum(const ScrapeResult& scrape, std::string_view name);

// A histogram as read back from cumulative buckets, added up over groups that share their bounds.
class Distribution {
 public:
  void add(const prometheus::ClientMetric::Histogram& h);

  // Interpolated within its bucket, as PromQL's histogram_quantile does. NaN: nothing observed.
  double quantile(double q) const;

 private:
  std::vector<prometheus::ClientMetric::Bucket> buckets_;
};

// One row of the services table: all peers of one direction and port.
struct Service {
  double established = 0;
  double sockets = 0;
  double opened = 0;
  double data_segments = 0;
  double retransmitted = 0;  // SYNs left out: they carry no data
  Distribution rtt;
};

using Services = std::map<std::pair<std::string, std::string>, Service>;  // direction, port

Services services_of(const ScrapeResult& scrape);

struct Queue {
  std::string address;
  std::string port;
  std::string netns;  // empty where namespaces are not told apart
  double length = 0;
  double peak = 0;
  double limit = 0;

  double fill() const { return limit > 0 ? peak / limit : 0; }
};

// The fullest first.
std::vector<Queue> queues_of(const ScrapeResult& scrape);

// By name, all network namespaces together. The names are the scrape's.
std::map<std::string_view, double> sockets_by_state(const ScrapeResult& scrape);

// Of all connections together; nothing: none was observed, or they are not collected.
std::optional<Distribution> round_trips(const ScrapeResult& scrape);

// What one listener of the embedded server has carried.
struct Carried {
  double live = 0;
  double accepted = 0;
  double refused = 0;
  double data_segments = 0;
  double retransmitted = 0;
  Distribution rtt{};
};

std::map<std::string, Carried> listeners_of(const ScrapeResult& scrape);

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

}  // namespace tcpvitals
