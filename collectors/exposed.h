// ExposedCollectors: our collectors as what prometheus-cpp serves, for a program with an Exposer or
// a Registry of its own.
//
//   ServerCollector server_metrics(*server);
//   auto exposed = std::make_shared<ExposedCollectors>(std::vector<Collector*>{&server_metrics});
//   prometheus::Exposer exposer("127.0.0.1:9100");
//   exposer.RegisterCollectable(exposed);
//
// Threads: Collect() from any, many at a time; the collectors see one call after the other.
// Lifetime: outlived by the collectors. Failure: a collector that fails costs its own metrics, a
// line in the log, 10 of them a minute at most, and is 0 in tcpvitals_collector_success. A metric
// that is invalid, or that an earlier collector emits too, is left out alone, counted in
// tcpvitals_metrics_rejected_total and logged. What a collector throws is not caught here, and
// prometheus-cpp lets it end the process: ours throw nothing.
#pragma once

#include <prometheus/collectable.h>

#include <cstddef>
#include <mutex>
#include <vector>

#include "base/clock.h"
#include "base/log_limit.h"
#include "collectors/collector.h"
#include "collectors/rejections.h"

namespace tcpvitals {

class ExposedCollectors final : public prometheus::Collectable {
 public:
  struct Options {
    Clock::duration patience = std::chrono::seconds(5);  // with all of them together
    std::size_t max_series = 50'000;  // of one collector; what is over it is left out and logged
  };

  explicit ExposedCollectors(std::vector<Collector*> collectors)
      : ExposedCollectors(std::move(collectors), Options()) {}
  ExposedCollectors(std::vector<Collector*> collectors, Options options)
      : collectors_(std::move(collectors)),
        options_(options),
        rejections_(collectors_.size()),
        parse_errors_(collectors_.size()) {}

  std::vector<prometheus::MetricFamily> Collect() const override;

 private:
  const std::vector<Collector*> collectors_;
  const Options options_;
  mutable std::mutex mutex_;                           // held while they collect
  mutable std::vector<Rejections> rejections_;         // of each collector
  mutable std::vector<ParseErrorTotal> parse_errors_;  // likewise
  mutable LogLimit failure_line_{LogLevel::kWarn, "a collector failed", 10,
                                 std::chrono::minutes(1)};
  mutable LogLimit limit_line_{LogLevel::kWarn, "a collector has more series than its limit", 10,
                               std::chrono::minutes(1)};
};

}  // namespace tcpvitals
