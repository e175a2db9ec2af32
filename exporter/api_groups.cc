#include "exporter/api_groups.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <map>
#include <optional>

#include "exporter/api_json.h"

namespace tcpvitals {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;

// The family whose labels are exactly those of a group.
constexpr std::string_view kGroupFamily = "tcp_connections_opened_total";
// Families of the same collector that are no group's, whatever labels groups have.
constexpr std::string_view kNoGroups[] = {"tcpvitals_", "tcp_host_", "tcp_listener_"};

using Labels = std::vector<std::string>;

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

bool is_of_groups(const MetricFamily& family) {
  return std::none_of(std::begin(kNoGroups), std::end(kNoGroups),
                      [&](std::string_view prefix) { return family.name.rfind(prefix, 0) == 0; });
}

Labels label_names(const std::vector<MetricFamily>& families) {
  Labels names;
  for (const MetricFamily& family : families) {
    if (family.name != kGroupFamily || family.metric.empty()) continue;
    for (const auto& label : family.metric.front().label) names.push_back(label.name);
  }
  return names;
}

// The values of a sample's labels `names`; nothing if it lacks one. `rest`: those of its others.
std::optional<Labels> split_labels(const ClientMetric& metric, const Labels& names, Labels& rest) {
  Labels values(names.size());
  std::size_t found = 0;
  rest.clear();
  for (const auto& label : metric.label) {
    const auto name = std::find(names.begin(), names.end(), label.name);
    if (name == names.end()) {
      rest.push_back(label.value);
    } else {
      values[static_cast<std::size_t>(name - names.begin())] = label.value;
      ++found;
    }
  }
  if (found != names.size()) return std::nullopt;
  return values;
}

}  // namespace

std::string render_groups(const std::vector<MetricFamily>& families) {
  const Labels names = label_names(families);
  std::map<Labels, Json> metrics_by_group;
  Labels rest;
  for (const MetricFamily& family : families) {
    if (names.empty() || !is_of_groups(family)) continue;
    for (const ClientMetric& metric : family.metric) {
      const auto group = split_labels(metric, names, rest);
      if (!group) continue;
      Json* place = &metrics_by_group[*group][family.name];
      for (const std::string& value : rest) place = &(*place)[value];
      *place = value_of(family, metric);
    }
  }
  Json groups = Json::array();
  for (auto& [values, metrics] : metrics_by_group) {
    Json group = Json::object();
    for (std::size_t i = 0; i < names.size(); ++i) group[names[i]] = values[i];
    group["metrics"] = std::move(metrics);
    groups.push_back(std::move(group));
  }
  return to_line({{"version", kApiVersion}, {"groups", std::move(groups)}});
}

}  // namespace tcpvitals
