#include "collectors/metric.h"

#include <algorithm>
#include <cassert>
#include <limits>
#include <utility>

namespace tcpvitals {
namespace {

prometheus::MetricType model_type(MetricType type) {
  switch (type) {
    case MetricType::kCounter:
      return prometheus::MetricType::Counter;
    case MetricType::kGauge:
      return prometheus::MetricType::Gauge;
    case MetricType::kHistogram:
      return prometheus::MetricType::Histogram;
    case MetricType::kUntyped:
      break;
  }
  return prometheus::MetricType::Untyped;
}

// A value, its blanks and its line end; what `_bucket` and `le` add to a line.
constexpr std::size_t kValueBytes = 26;
constexpr std::size_t kBucketBytes = 22;

std::size_t line_bytes(std::size_t name_bytes, const prometheus::ClientMetric& metric) {
  std::size_t bytes = name_bytes + kValueBytes;
  for (const auto& label : metric.label) bytes += label.name.size() + label.value.size() + 4;
  return bytes;
}

}  // namespace

FamilySize size_of(const prometheus::MetricFamily& family) {
  FamilySize size;
  for (const auto& metric : family.metric) {
    const std::size_t buckets = metric.histogram.bucket.size();
    const std::size_t lines = buckets == 0 ? 1 : buckets + 2;
    size.series += lines;
    size.text_bytes +=
        lines * line_bytes(family.name.size(), metric) + (lines > 1 ? lines * kBucketBytes : 0);
  }
  return size;
}

prometheus::ClientMetric* Sink::next(const MetricDesc& desc,
                                     std::span<const std::string_view> label_values,
                                     std::size_t series) {
  assert(label_values.size() == desc.label_count());
  if (series_ + series > max_series_) {
    dropped_ += series;
    return nullptr;
  }
  series_ += series;
  // Samples of one family usually come one after the other, so the last family is looked at first.
  const auto named = [&](const prometheus::MetricFamily& f) { return f.name == desc.name; };
  auto family = std::find_if(families_.rbegin(), families_.rend(), named);
  if (family == families_.rend()) {
    families_.push_back(
        {std::string(desc.name), std::string(desc.help), model_type(desc.type), {}});
    family = families_.rbegin();
  }
  prometheus::ClientMetric& metric = family->metric.emplace_back();
  metric.label.reserve(label_values.size());
  std::size_t i = 0;
  for (const std::string_view value : label_values) {
    const std::string_view name = desc.labels[i++];
    // To Prometheus an empty label is one that is not there.
    if (!value.empty()) metric.label.push_back({std::string(name), std::string(value)});
  }
  return &metric;
}

void Sink::add(const MetricDesc& desc, std::span<const std::string_view> label_values,
               double value) {
  assert(desc.type != MetricType::kHistogram);
  prometheus::ClientMetric* metric = next(desc, label_values, 1);
  if (metric == nullptr) return;
  switch (desc.type) {
    case MetricType::kCounter:
      metric->counter.value = value;
      break;
    case MetricType::kGauge:
      metric->gauge.value = value;
      break;
    default:
      metric->untyped.value = value;
  }
}

void Sink::add_histogram(const MetricDesc& desc,
                         std::initializer_list<std::string_view> label_values,
                         const HistogramSample& sample) {
  assert(desc.type == MetricType::kHistogram);
  assert(sample.counts.size() == sample.bounds.size() + 1);
  prometheus::ClientMetric* metric = next(desc, label_values, sample.counts.size() + 2);
  if (metric == nullptr) return;
  prometheus::ClientMetric::Histogram& h = metric->histogram;
  h.bucket.reserve(sample.counts.size());
  std::uint64_t cumulative = 0;
  for (std::size_t i = 0; i < sample.counts.size(); ++i) {
    cumulative += sample.counts[i];
    const bool last = i == sample.bounds.size();
    h.bucket.push_back(
        {cumulative, last ? std::numeric_limits<double>::infinity() : sample.bounds[i]});
  }
  h.sample_count = cumulative;
  h.sample_sum = sample.sum;
}

std::vector<prometheus::MetricFamily> Sink::take() {
  series_ = 0;
  return std::exchange(families_, {});
}

}  // namespace tcpvitals
