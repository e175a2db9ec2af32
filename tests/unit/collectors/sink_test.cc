// What is left out of a sink is counted in series, as what stays in it is.
#include <doctest/doctest.h>

#include "collectors/metric.h"

using namespace tcpvitals;

namespace {

constexpr MetricDesc kSeconds{"x_seconds", MetricType::kHistogram, "X.", {"key"}};
constexpr MetricDesc kGauge{"x", MetricType::kGauge, "X.", {"key"}};
constexpr double kBounds[] = {0.001, 1, 10};
constexpr std::uint64_t kCounts[] = {1, 20, 300, 4000};
constexpr std::size_t kSeries = 4 + 2;  // a bucket each, the sum and the count

}  // namespace

TEST_CASE("a histogram counts all of its series, served or dropped") {
  Sink sink(kSeries + 1);
  sink.add_histogram(kSeconds, {"a"}, {kBounds, kCounts, 1});
  CHECK(sink.series() == kSeries);
  CHECK(sink.dropped() == 0);
  sink.add_histogram(kSeconds, {"b"}, {kBounds, kCounts, 1});
  CHECK(sink.series() == kSeries);
  CHECK(sink.dropped() == kSeries);
  // What is smaller still fits.
  sink.add(kGauge, {"a"}, 1);
  sink.add(kGauge, {"b"}, 1);
  CHECK(sink.series() == kSeries + 1);
  CHECK(sink.dropped() == kSeries + 1);
  REQUIRE(sink.take().size() == 2);
}

TEST_CASE("a histogram that fits exactly is served whole") {
  Sink sink(kSeries);
  sink.add_histogram(kSeconds, {"a"}, {kBounds, kCounts, 1});
  CHECK(sink.dropped() == 0);
  const auto families = sink.take();
  REQUIRE(families.size() == 1);
  CHECK(size_of(families[0]).series == kSeries);
}
