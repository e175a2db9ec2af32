// What a metric is (MetricDesc), and where a collector puts its samples (Sink).
//
// MetricDesc is the only place where a metric's name, type, unit and help are written: the
// exporter, METRICS.md and the golden tests all read it. The model that leaves a Sink is
// prometheus-cpp's MetricFamily, so any prometheus-cpp program can serve what our collectors
// produce.
#pragma once

#include <prometheus/metric_family.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "collectors/parse_errors.h"

namespace tcpvitals {

enum class MetricType : std::uint8_t { kCounter, kGauge, kHistogram, kUntyped };

struct MetricDesc {
  static constexpr std::size_t kMaxLabels = 6;

  std::string_view name;  // base unit as suffix, `_total` on counters
  MetricType type = MetricType::kGauge;
  std::string_view help;  // one plain sentence: what the kernel field is, which denominator belongs
  std::array<std::string_view, kMaxLabels> labels{};  // names, in the order values are given
  std::string_view
      source{};  // the kernel file and field, for METRICS.md: "/proc/net/snmp Tcp: OutSegs"

  constexpr std::size_t label_count() const {
    std::size_t n = 0;
    while (n < kMaxLabels && !labels[n].empty()) ++n;
    return n;
  }
};

// One histogram sample. `counts[i]` is the number of observations <= bounds[i] and > bounds[i - 1];
// counts has one more element than bounds, for those above the last bound.
struct HistogramSample {
  std::span<const double> bounds;         // ascending, base unit
  std::span<const std::uint64_t> counts;  // not cumulative
  double sum = 0;                         // base unit
};

// Collects the samples of one collector during one scrape. Not thread-safe; one thread at a time.
// Bounded: what is added past `max_series` is counted in dropped() and left out. Every time series
// a histogram expands to (buckets, sum, count) counts.
class Sink {
 public:
  explicit Sink(std::size_t max_series) : max_series_(max_series) {}

  // One sample of a counter, gauge or untyped metric. As many values as the desc has labels; an
  // empty value is a label that is not there, and a byte that is not UTF-8 becomes U+FFFD.
  void add(const MetricDesc& desc, std::span<const std::string_view> label_values, double value);
  void add(const MetricDesc& desc, std::initializer_list<std::string_view> label_values,
           double value) {
    add(desc, std::span(label_values.begin(), label_values.end()), value);
  }
  void add(const MetricDesc& desc, double value) { add(desc, {}, value); }

  void add_histogram(const MetricDesc& desc, std::initializer_list<std::string_view> label_values,
                     const HistogramSample& sample);

  std::size_t series() const { return series_; }
  std::size_t dropped() const { return dropped_; }

  // What the collector left out because the kernel's text for it could not be read or parsed.
  ParseErrors& parse_errors() { return parse_errors_; }

  // Families in the order in which their first sample was added, their samples sorted by labels.
  // Leaves the sink empty. A family that nobody could read is left out whole and is told by
  // rejected(): a series twice, an invalid name or label, a sample without its labels, two
  // descriptions under one name.
  std::vector<prometheus::MetricFamily> take();

  // A sentence for each family that take() left out.
  const std::vector<std::string>& rejected() const { return rejected_; }

 private:
  struct Family {
    prometheus::MetricFamily model;
    std::vector<std::string> labels;  // names, in the order in which values are given
    std::string fault;                // why it cannot be served, unless empty
  };

  Family& family_of(const MetricDesc& desc);
  prometheus::ClientMetric* next(const MetricDesc& desc,
                                 std::span<const std::string_view> label_values,
                                 std::size_t series);

  std::size_t max_series_;
  std::size_t series_ = 0;
  std::size_t dropped_ = 0;
  ParseErrors parse_errors_;
  std::vector<Family> families_;
  std::vector<std::string> rejected_;
};

// What a family takes as text, a little overstated, and how many series it is.
struct FamilySize {
  std::size_t text_bytes = 0;
  std::size_t series = 0;
};
FamilySize size_of(const prometheus::MetricFamily& family);

}  // namespace tcpvitals
