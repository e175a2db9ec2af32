#include "collectors/histogram.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <numeric>

using namespace tcpvitals;

namespace {

std::size_t slow_bucket(std::uint64_t us) {
  const auto& bounds = RttHistogram::kBoundsUs;
  return static_cast<std::size_t>(std::lower_bound(bounds.begin(), bounds.end(), us) -
                                  bounds.begin());
}

}  // namespace

TEST_CASE("round-trip bounds run 1-2-5 from 50 us to 10 s") {
  CHECK(RttHistogram::kBounds == 17);
  CHECK(RttHistogram::kBoundsSeconds.front() == 50e-6);
  CHECK(RttHistogram::kBoundsSeconds[3] == 500e-6);
  CHECK(RttHistogram::kBoundsSeconds[6] == 5e-3);
  CHECK(RttHistogram::kBoundsSeconds.back() == 10.0);
}

TEST_CASE("a duration falls into the first bucket whose bound it does not exceed") {
  for (std::uint64_t us = 0; us < 200'000; ++us) {
    if (RttHistogram::bucket(us) != slow_bucket(us)) FAIL("us = " << us);
  }
  for (std::size_t i = 0; i < RttHistogram::kBounds; ++i) {
    const std::uint64_t bound = RttHistogram::kBoundsUs[i];
    CAPTURE(bound);
    CHECK(RttHistogram::bucket(bound - 1) == i);
    CHECK(RttHistogram::bucket(bound) == i);
    CHECK(RttHistogram::bucket(bound + 1) == i + 1);
  }
  for (unsigned bit = 0; bit < 64; ++bit) {
    const std::uint64_t us = std::uint64_t{1} << bit;
    CAPTURE(us);
    CHECK(RttHistogram::bucket(us) == slow_bucket(us));
    CHECK(RttHistogram::bucket(us - 1) == slow_bucket(us - 1));
  }
  CHECK(RttHistogram::bucket(~std::uint64_t{0}) == RttHistogram::kBounds);
}

TEST_CASE("a histogram counts every observation once, adds up, and leaves in seconds") {
  RttHistogram a;
  RttHistogram b;
  for (const std::uint64_t us : {0U, 50U, 51U, 999U, 20'000'000U}) a.observe(us);
  b.observe(50);
  a += b;
  const HistogramSample sample = a.sample();
  CHECK(std::accumulate(sample.counts.begin(), sample.counts.end(), std::uint64_t{0}) == 6);
  CHECK(sample.counts[0] == 3);
  CHECK(sample.counts[1] == 1);
  CHECK(sample.counts[4] == 1);
  CHECK(sample.counts.back() == 1);
  CHECK(sample.sum == doctest::Approx(20.00115));

  Sink sink(100);
  static constexpr MetricDesc kDesc{
      .name = "x_seconds", .type = MetricType::kHistogram, .help = "X."};
  sink.add_histogram(kDesc, {}, sample);
  const auto families = sink.take();
  CHECK(families.at(0).metric.at(0).histogram.sample_count == 6);
}
