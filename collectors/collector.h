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
  // (failed). After an error nothing that was added is served. What a part of the kernel's text
  // costs, if it cannot be used, is that part: sink.parse_errors() is told, and the outcome is ok.
  virtual Result<void> collect(Sink& sink, TimePoint deadline) = 0;
};

// Emitted by the caller, once per collector.
inline constexpr MetricDesc kCollectorSuccess{
    "tcpvitals_collector_success",
    MetricType::kGauge,
    "1, or 0 where the collector failed and none of its metrics are in this scrape.",
    {"collector"}};
inline constexpr MetricDesc kParseErrors{
    "tcpvitals_parse_errors_total",
    MetricType::kCounter,
    "Fields, lines and files of the kernel that could not be read or parsed and were left out, "
    "counted in every scrape; once an hour the log names one of them.",
    {"collector"}};

}  // namespace tcpvitals
