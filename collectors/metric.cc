#include "collectors/metric.h"

#include <fmt/format.h>
#include <prometheus/check_names.h>

#include <algorithm>
#include <cassert>
#include <limits>
#include <utility>

#include "base/utf8.h"

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

std::span<const std::string_view> labels_of(const MetricDesc& desc) {
  return std::span(desc.labels).first(desc.label_count());
}

// Why no sample of that description can be served; empty: nothing is wrong.
std::string fault_of(const MetricDesc& desc) {
  if (!prometheus::CheckMetricName(std::string(desc.name))) return "not a metric name";
  const auto labels = labels_of(desc);
  for (std::size_t i = 0; i < labels.size(); ++i) {
    const bool reserved = labels[i] == "le" && desc.type == MetricType::kHistogram;
    if (reserved || !prometheus::CheckLabelName(std::string(labels[i]))) {
      return fmt::format("not a label name: \"{}\"", labels[i]);
    }
    const auto before = labels.first(i);
    if (std::find(before.begin(), before.end(), labels[i]) != before.end()) {
      return fmt::format("one label twice: {}", labels[i]);
    }
  }
  return {};
}

// Sorts a family's samples; tells of the first series that is there twice, if one is.
std::string sort_samples(prometheus::MetricFamily& family) {
  using prometheus::ClientMetric;
  const auto less = [](const ClientMetric& a, const ClientMetric& b) { return a.label < b.label; };
  auto& samples = family.metric;
  if (!std::is_sorted(samples.begin(), samples.end(), less)) {
    std::sort(samples.begin(), samples.end(), less);
  }
  const auto twice = std::adjacent_find(
      samples.begin(), samples.end(),
      [](const ClientMetric& a, const ClientMetric& b) { return a.label == b.label; });
  if (twice == samples.end()) return {};
  std::string fault = "one series twice:";
  for (const auto& l : twice->label) fault += fmt::format(" {}=\"{}\"", l.name, l.value);
  return fault;
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

Sink::Family& Sink::family_of(const MetricDesc& desc) {
  // Samples of one family usually come one after the other, so the last family is looked at first.
  const auto named = [&](const Family& f) { return f.model.name == desc.name; };
  const auto found = std::find_if(families_.rbegin(), families_.rend(), named);
  if (found == families_.rend()) {
    const auto labels = labels_of(desc);
    return families_.emplace_back(
        Family{{std::string(desc.name), std::string(desc.help), model_type(desc.type), {}},
               {labels.begin(), labels.end()},
               fault_of(desc)});
  }
  Family& family = *found;
  if (family.model.type != model_type(desc.type) ||
      !std::ranges::equal(family.labels, labels_of(desc))) {
    family.fault = "two descriptions of one name";
  }
  return family;
}

prometheus::ClientMetric* Sink::next(const MetricDesc& desc,
                                     std::span<const std::string_view> label_values,
                                     std::size_t series) {
  if (series_ + series > max_series_) {
    dropped_ += series;
    return nullptr;
  }
  series_ += series;
  Family& family = family_of(desc);
  if (label_values.size() != family.labels.size()) {
    family.fault = fmt::format("a sample with {} label values, where {} belong",
                               label_values.size(), family.labels.size());
  }
  if (!family.fault.empty()) return nullptr;
  prometheus::ClientMetric& metric = family.model.metric.emplace_back();
  metric.label.reserve(label_values.size());
  for (std::size_t i = 0; i < label_values.size(); ++i) {
    // To Prometheus an empty label is one that is not there.
    if (label_values[i].empty()) continue;
    metric.label.push_back({family.labels[i], to_utf8(label_values[i])});
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
  rejected_.clear();
  std::vector<prometheus::MetricFamily> sound;
  sound.reserve(families_.size());
  for (Family& family : families_) {
    if (family.fault.empty()) family.fault = sort_samples(family.model);
    if (family.fault.empty()) {
      sound.push_back(std::move(family.model));
    } else {
      rejected_.push_back(fmt::format("{}: {}", family.model.name, family.fault));
    }
  }
  families_.clear();
  return sound;
}

}  // namespace tcpvitals
