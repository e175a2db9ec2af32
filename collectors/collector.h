// Collector: one source of metrics. The interface every vital sign comes through.
#pragma once

#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "collectors/metric.h"

namespace tcpvitals {

// Threads: one call of collect() at a time per collector; never two at once. Different collectors
// run on different threads. Lifetime: built by main, outlives every scrape.
class Collector {
 public:
  virtual ~Collector() = default;

  // Short, lower case, unique: the `collector` label, and --[no-]collector.NAME.
  virtual std::string_view name() const = 0;

  // Every metric it may emit; static storage.
  virtual std::span<const MetricDesc> metrics() const = 0;

  // Adds the samples of this moment to `sink`; may block until `deadline`, not longer. Three
  // outcomes: ok; Error::absent (this kernel does not have it: nothing is wrong); any other Error
  // (failed). After an error nothing that was added is served.
  virtual Result<void> collect(Sink& sink, TimePoint deadline) = 0;
};

// Emitted by the caller, once per collector.
inline constexpr MetricDesc kCollectorSuccess{
    "tcpvitals_collector_success",
    MetricType::kGauge,
    "1, or 0 where the collector failed and none of its metrics are in this scrape.",
    {"collector"}};

}  // namespace tcpvitals
