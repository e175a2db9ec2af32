#include "collectors/exposed.h"

#include <iterator>
#include <string>
#include <utility>

#include "base/log.h"

namespace tcpvitals {
namespace {

void append(std::vector<prometheus::MetricFamily>& to, std::vector<prometheus::MetricFamily> from) {
  to.insert(to.end(), std::make_move_iterator(from.begin()), std::make_move_iterator(from.end()));
}

}  // namespace

std::vector<prometheus::MetricFamily> ExposedCollectors::Collect() const {
  const std::lock_guard lock(mutex_);
  const TimePoint start = Clock::now();
  std::vector<prometheus::MetricFamily> families;
  MetricNames names;
  for (const MetricDesc& desc : {kCollectorSuccess, kMetricsRejected, kParseErrors}) {
    names.reserve(desc, "the program itself");
  }
  Sink outcomes(3 * collectors_.size());
  for (std::size_t i = 0; i < collectors_.size(); ++i) {
    Collector& collector = *collectors_[i];
    Sink sink(options_.max_series);
    const auto collected = collector.collect(sink, start + options_.patience);
    const bool failed = !collected && !collected.error().is_absent();
    outcomes.add(kCollectorSuccess, {collector.name()}, failed ? 0 : 1);
    if (failed && failure_line_.admits(start)) {
      log_warn("a collector failed", {{"collector", std::string(collector.name())},
                                      {"error", collected.error().message}});
    }
    if (collected) {
      std::vector<prometheus::MetricFamily> own = sink.take();
      std::vector<std::string> rejected = sink.rejected();
      names.claim(own, collector.name(), rejected);
      rejections_[i].add(collector.name(), rejected, start);
      append(families, std::move(own));
      if (sink.dropped() > 0 && limit_line_.admits(start)) {
        log_warn("a collector has more series than its limit",
                 {{"collector", std::string(collector.name())},
                  {"dropped", std::to_string(sink.dropped())}});
      }
    }
    outcomes.add(kMetricsRejected, {collector.name()}, static_cast<double>(rejections_[i].total()));
    parse_errors_[i].add(collector.name(), sink.parse_errors(), start);
    outcomes.add(kParseErrors, {collector.name()}, static_cast<double>(parse_errors_[i].count()));
  }
  append(families, outcomes.take());
  return families;
}

}  // namespace tcpvitals
