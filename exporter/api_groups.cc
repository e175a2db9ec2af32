#include "exporter/api_groups.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <map>
#include <utility>

#include "exporter/api_json.h"

namespace tcpvitals {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;

// The labels that may make a group; a configuration chooses among them.
constexpr std::string_view kGroupLabels[] = {"direction", "port", "peer", "cgroup", "netns"};

using Labels = std::vector<std::pair<std::string, std::string>>;

Json number(double value) {
  constexpr double kExact = 9007199254740992;  // 2^53
  if (value == std::floor(value) && std::abs(value) < kExact) {
    return static_cast<std::int64_t>(value);
  }
  return value;
}

Json histogram(const prometheus::ClientMetric::Histogram& h) {
  Json buckets = Json::array();
  for (const auto& bucket : h.bucket) {
    if (std::isinf(bucket.upper_bound)) continue;  // that is the count
    buckets.push_back({{"le", bucket.upper_bound}, {"count", bucket.cumulative_count}});
  }
  return {{"count", h.sample_count}, {"sum", h.sample_sum}, {"buckets", std::move(buckets)}};
}

Json value_of(const MetricFamily& family, const ClientMetric& metric) {
  switch (family.type) {
    case prometheus::MetricType::Counter:
      return number(metric.counter.value);
    case prometheus::MetricType::Gauge:
      return number(metric.gauge.value);
    case prometheus::MetricType::Histogram:
      return histogram(metric.histogram);
    default:
      return number(metric.untyped.value);
  }
}

bool is_group_label(std::string_view name) {
  return std::find(std::begin(kGroupLabels), std::end(kGroupLabels), name) !=
         std::end(kGroupLabels);
}

// What describes a metric of groups, which can have each of their labels; null: it is none.
const MetricDesc* group_metric(std::string_view name, std::span<const MetricDesc> metrics) {
  const auto found = std::find_if(metrics.begin(), metrics.end(), [&](const MetricDesc& desc) {
    const auto count = std::count_if(desc.labels.begin(), desc.labels.end(), is_group_label);
    return desc.name == name && count == std::ssize(kGroupLabels);
  });
  return found == metrics.end() ? nullptr : &*found;
}

// The value of a label; empty if the sample has none of that name.
std::string label_of(const ClientMetric& metric, std::string_view name) {
  const auto found = std::find_if(metric.label.begin(), metric.label.end(),
                                  [&](const auto& label) { return label.name == name; });
  return found == metric.label.end() ? "" : found->value;
}

}  // namespace

std::string render_groups(const Families& families, std::span<const MetricDesc> metrics) {
  std::map<Labels, Json> metrics_by_group;
  for (const MetricFamily& family : families) {
    const MetricDesc* desc = group_metric(family.name, metrics);
    if (desc == nullptr) continue;
    for (const ClientMetric& metric : family.metric) {
      Labels group;
      for (const auto& label : metric.label) {
        if (is_group_label(label.name)) group.emplace_back(label.name, label.value);
      }
      Json* place = &metrics_by_group[group][family.name];
      for (std::size_t i = 0; i < desc->label_count(); ++i) {
        if (!is_group_label(desc->labels[i])) place = &(*place)[label_of(metric, desc->labels[i])];
      }
      *place = value_of(family, metric);
    }
  }
  Json groups = Json::array();
  for (auto& [labels, values] : metrics_by_group) {
    Json group = Json::object();
    for (const auto& [name, value] : labels) group[name] = value;
    group["metrics"] = std::move(values);
    groups.push_back(std::move(group));
  }
  return to_line({{"version", kApiVersion}, {"groups", std::move(groups)}});
}

}  // namespace tcpvitals
