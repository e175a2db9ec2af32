// What cannot stand in one exposition: MetricNames finds names that two collectors emit, Rejections
// counts and logs what was left out. Used by everything that puts collectors together.
#pragma once

#include <prometheus/metric_family.h>

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/clock.h"
#include "collectors/metric.h"

namespace tcpvitals {

// The names of one exposition, those included that a histogram's parts have as text (_bucket, _sum,
// _count), and who emits each. The owners' names must outlive it.
class MetricNames {
 public:
  // Nobody else may emit these.
  void reserve(const MetricDesc& desc, std::string_view owner) {
    owners_.emplace(desc.name, owner);
  }

  // Takes the families' names for `owner`. A family of which a name is taken already is erased, and
  // a sentence that says so added to `rejected`.
  template <typename Family>
  void claim(std::vector<Family>& families, std::string_view owner,
             std::vector<std::string>& rejected) {
    std::erase_if(families, [&](const prometheus::MetricFamily& family) {
      return !claim_one(family, owner, rejected);
    });
  }

 private:
  bool claim_one(const prometheus::MetricFamily& family, std::string_view owner,
                 std::vector<std::string>& rejected);

  std::unordered_map<std::string, std::string_view> owners_;
};

// Of one collector. Not thread-safe.
class Rejections {
 public:
  // Counts them, and logs the first of them, once a minute at most.
  void add(std::string_view collector, std::span<const std::string> rejected, TimePoint now);
  std::size_t total() const { return total_; }

 private:
  std::size_t total_ = 0;
  TimePoint next_line_{};
};

inline constexpr MetricDesc kMetricsRejected{
    "tcpvitals_metrics_rejected_total",
    MetricType::kCounter,
    "Metrics left out of a scrape because they were invalid: a series twice, a name that another "
    "collector has, a wrong name or label. Counted in every scrape; the log names them.",
    {"collector"}};

}  // namespace tcpvitals
