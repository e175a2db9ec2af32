#include "collectors/exposed.h"

#include <iterator>
#include <string>

#include "base/log.h"

namespace tcpvitals {
namespace {

void append(std::vector<prometheus::MetricFamily>& to, std::vector<prometheus::MetricFamily> from) {
  to.insert(to.end(), std::make_move_iterator(from.begin()), std::make_move_iterator(from.end()));
}

}  // namespace

std::vector<prometheus::MetricFamily> ExposedCollectors::Collect() const {
  const std::lock_guard lock(mutex_);
  const TimePoint deadline = Clock::now() + options_.patience;
  std::vector<prometheus::MetricFamily> families;
  Sink outcomes(collectors_.size());
  for (Collector* const collector : collectors_) {
    Sink sink(options_.max_series);
    const auto collected = collector->collect(sink, deadline);
    const bool failed = !collected && !collected.error().is_absent();
    outcomes.add(kCollectorSuccess, {collector->name()}, failed ? 0 : 1);
    if (failed) {
      log_warn("a collector failed", {{"collector", std::string(collector->name())},
                                      {"error", collected.error().message}});
    }
    if (!collected) continue;
    if (sink.dropped() > 0) {
      log_warn("a collector has more series than its limit",
               {{"collector", std::string(collector->name())},
                {"dropped", std::to_string(sink.dropped())}});
    }
    append(families, sink.take());
  }
  append(families, outcomes.take());
  return families;
}

}  // namespace tcpvitals
