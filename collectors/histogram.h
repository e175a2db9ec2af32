// Histogram125: counts of durations in buckets whose bounds run 1-2-5 per decade.
//
// A plain value: not thread-safe, no allocation, zero when made. Durations go in as whole
// microseconds and come out, by sample(), in seconds. One observation is a bit scan, one load and
// one comparison: bounds are never closer than a factor of two, so no two share a power of two, and
// the highest bit of the value names the only bound it still has to be compared with.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "collectors/metric.h"

namespace tcpvitals {

// FirstUs and LastUs: the lowest and the highest bound, each 1, 2 or 5 times a power of ten.
template <std::uint64_t FirstUs, std::uint64_t LastUs>
struct Histogram125 {
  static constexpr std::uint64_t next_bound(std::uint64_t us) {
    std::uint64_t digit = us;
    while (digit >= 10) digit /= 10;
    return digit == 2 ? us / 2 * 5 : us * 2;
  }

  static constexpr std::size_t kBounds = [] {
    std::size_t n = 1;
    for (std::uint64_t us = FirstUs; us < LastUs; us = next_bound(us)) ++n;
    return n;
  }();

  // One more than there are: the last bucket has no bound.
  static constexpr std::array<std::uint64_t, kBounds + 1> kBoundsUs = [] {
    std::array<std::uint64_t, kBounds + 1> bounds{};
    std::uint64_t us = FirstUs;
    for (std::size_t i = 0; i < kBounds; ++i, us = next_bound(us)) bounds[i] = us;
    bounds[kBounds] = std::numeric_limits<std::uint64_t>::max();
    return bounds;
  }();
  static_assert(kBoundsUs[kBounds - 1] == LastUs);

  static constexpr std::array<double, kBounds> kBoundsSeconds = [] {
    std::array<double, kBounds> bounds{};
    for (std::size_t i = 0; i < kBounds; ++i) bounds[i] = static_cast<double>(kBoundsUs[i]) / 1e6;
    return bounds;
  }();

  // The bucket of a duration: the number of bounds below it.
  static constexpr std::size_t bucket(std::uint64_t us) {
    const std::size_t lowest = kLowestBucket[static_cast<std::size_t>(std::bit_width(us))];
    return lowest + (us > kBoundsUs[lowest] ? 1 : 0);
  }

  void observe(std::uint64_t us) {
    ++counts[bucket(us)];
    sum_us += us;
  }

  Histogram125& operator+=(const Histogram125& other) {
    for (std::size_t i = 0; i < counts.size(); ++i) counts[i] += other.counts[i];
    sum_us += other.sum_us;
    return *this;
  }

  // For Sink::add_histogram. Refers to this histogram: use it before this changes.
  HistogramSample sample() const {
    return {kBoundsSeconds, counts, static_cast<double>(sum_us) / 1e6};
  }

  std::array<std::uint64_t, kBounds + 1> counts{};  // not cumulative
  std::uint64_t sum_us = 0;

 private:
  // By the number of significant bits: the bucket of the smallest such value.
  static constexpr std::array<std::uint8_t, 65> kLowestBucket = [] {
    std::array<std::uint8_t, 65> table{};
    for (std::size_t bits = 1; bits <= 64; ++bits) {
      const std::uint64_t smallest = std::uint64_t{1} << (bits - 1);
      std::uint8_t bucket = 0;
      while (kBoundsUs[bucket] < smallest) ++bucket;
      table[bits] = bucket;
    }
    return table;
  }();
};

// Round-trip times: 50 us to 10 s, 17 bounds.
using RttHistogram = Histogram125<50, 10'000'000>;

// Rates in bytes a second, a bucket to a decade: 10 kB/s to 10 GB/s. A plain value like the above.
struct RateHistogram {
  static constexpr std::array<double, 7> kBounds{1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10};

  void observe(std::uint64_t bytes_per_second) {
    std::size_t bucket = 0;
    for (std::uint64_t bound = 10'000; bucket < kBounds.size() && bytes_per_second > bound;
         bound *= 10) {
      ++bucket;
    }
    ++counts[bucket];
    sum += bytes_per_second;
  }

  RateHistogram& operator+=(const RateHistogram& other) {
    for (std::size_t i = 0; i < counts.size(); ++i) counts[i] += other.counts[i];
    sum += other.sum;
    return *this;
  }

  HistogramSample sample() const { return {kBounds, counts, static_cast<double>(sum)}; }

  std::array<std::uint64_t, kBounds.size() + 1> counts{};  // not cumulative
  std::uint64_t sum = 0;
};

}  // namespace tcpvitals
