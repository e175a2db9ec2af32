#include "exporter/vital_signs.h"

#include <prometheus/metric_family.h>

#include <algorithm>
#include <array>
#include <cmath>

namespace tcpvitals {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;

const MetricFamily* find(const ScrapeResult& scrape, std::string_view name) {
  const auto& families = scrape.families;
  const auto found =
      std::lower_bound(families.begin(), families.end(), name,
                       [](const Family& f, std::string_view n) { return f->name < n; });
  return found != families.end() && (*found)->name == name ? &**found : nullptr;
}

std::string_view label(const ClientMetric& metric, std::string_view name) {
  for (const auto& l : metric.label) {
    if (l.name == name) return l.value;
  }
  return {};
}

double value_of(const MetricFamily& family, const ClientMetric& metric) {
  return family.type == prometheus::MetricType::Counter ? metric.counter.value : metric.gauge.value;
}

// Calls use(sample, value) for every sample of the named counter or gauge, if it is there.
template <typename Use>
void for_each(const ScrapeResult& scrape, std::string_view name, Use use) {
  const MetricFamily* family = find(scrape, name);
  if (family == nullptr) return;
  for (const ClientMetric& metric : family->metric) use(metric, value_of(*family, metric));
}

}  // namespace

double ratio_of(double part, double whole) { return whole > 0 ? part / whole : kNone; }

double share_of(double part, double whole) {
  return whole > 0 ? std::min(part / whole, 1.0) : kNone;
}

std::optional<double> sum(const ScrapeResult& scrape, std::string_view name) {
  if (find(scrape, name) == nullptr) return std::nullopt;
  double total = 0;
  for_each(scrape, name, [&](const ClientMetric&, double v) { total += v; });
  return total;
}

void Distribution::add(const ClientMetric::Histogram& h) {
  if (buckets_.empty()) {
    buckets_ = h.bucket;
    return;
  }
  for (std::size_t i = 0; i < std::min(buckets_.size(), h.bucket.size()); ++i) {
    buckets_[i].cumulative_count += h.bucket[i].cumulative_count;
  }
}

double Distribution::quantile(double q) const {
  if (buckets_.empty() || buckets_.back().cumulative_count == 0) return kNone;
  const double rank = q * static_cast<double>(buckets_.back().cumulative_count);
  double lower_bound = 0;
  double below = 0;
  for (const auto& b : buckets_) {
    const auto count = static_cast<double>(b.cumulative_count);
    if (count >= rank) {
      if (std::isinf(b.upper_bound) || count == below) return lower_bound;
      return lower_bound + (b.upper_bound - lower_bound) * (rank - below) / (count - below);
    }
    lower_bound = b.upper_bound;
    below = count;
  }
  return lower_bound;
}

Services services_of(const ScrapeResult& scrape) {
  Services services;
  const auto of = [&](const ClientMetric& m) -> Service& {
    return services[{std::string(label(m, "direction")), std::string(label(m, "port"))}];
  };
  for_each(scrape, "tcp_connections", [&](const ClientMetric& m, double v) {
    of(m).sockets += v;
    if (label(m, "state") == "established") of(m).established += v;
  });
  for_each(scrape, "tcp_connections_opened_total",
           [&](const ClientMetric& m, double v) { of(m).opened += v; });
  for_each(scrape, "tcp_data_segments_sent_total",
           [&](const ClientMetric& m, double v) { of(m).data_segments += v; });
  for_each(scrape, "tcp_retransmitted_segments_total",
           [&](const ClientMetric& m, double v) { of(m).retransmitted += v; });
  for_each(scrape, "tcp_retransmitted_syns_total",
           [&](const ClientMetric& m, double v) { of(m).retransmitted -= v; });
  for_each(scrape, "tcp_rtt_seconds",
           [&](const ClientMetric& m, double) { of(m).rtt.add(m.histogram); });
  return services;
}

std::vector<Queue> queues_of(const ScrapeResult& scrape) {
  std::map<std::array<std::string_view, 3>, Queue> by_listener;
  const auto read = [&](std::string_view name, double Queue::*member) {
    for_each(scrape, name, [&](const ClientMetric& m, double v) {
      Queue& queue = by_listener[{label(m, "address"), label(m, "port"), label(m, "netns")}];
      queue.address = label(m, "address");
      queue.port = label(m, "port");
      queue.netns = label(m, "netns");
      queue.*member = v;
    });
  };
  read("tcp_listener_queue_length", &Queue::length);
  read("tcp_listener_queue_peak", &Queue::peak);
  read("tcp_listener_queue_limit", &Queue::limit);
  std::vector<Queue> queues;
  queues.reserve(by_listener.size());
  for (auto& [key, queue] : by_listener) queues.push_back(std::move(queue));
  std::stable_sort(queues.begin(), queues.end(),
                   [](const Queue& a, const Queue& b) { return a.fill() > b.fill(); });
  return queues;
}

std::map<std::string_view, double> sockets_by_state(const ScrapeResult& scrape) {
  std::map<std::string_view, double> sockets;
  for_each(scrape, "tcp_host_connections",
           [&](const ClientMetric& m, double v) { sockets[label(m, "state")] += v; });
  return sockets;
}

std::optional<Distribution> round_trips(const ScrapeResult& scrape) {
  const MetricFamily* family = find(scrape, "tcp_rtt_seconds");
  if (family == nullptr) return std::nullopt;
  Distribution all;
  for (const ClientMetric& m : family->metric) all.add(m.histogram);
  return all;
}

std::map<std::string, Carried> listeners_of(const ScrapeResult& scrape) {
  std::map<std::string, Carried> listeners;
  const auto of = [&](const ClientMetric& m) -> Carried& {
    return listeners[std::string(label(m, "listener"))];
  };
  const std::pair<std::string_view, double Carried::*> columns[] = {
      {"tcp_server_connections", &Carried::live},
      {"tcp_server_connections_accepted_total", &Carried::accepted},
      {"tcp_server_connections_rejected_total", &Carried::refused},
      {"tcp_server_data_segments_sent_total", &Carried::data_segments},
      {"tcp_server_retransmitted_segments_total", &Carried::retransmitted}};
  for (const auto& column : columns) {
    for_each(scrape, column.first,
             [&](const ClientMetric& m, double v) { of(m).*column.second += v; });
  }
  if (const MetricFamily* family = find(scrape, "tcp_server_rtt_seconds")) {
    for (const ClientMetric& m : family->metric) of(m).rtt.add(m.histogram);
  }
  return listeners;
}

std::optional<RetransmitRatio> RatioWindow::advance(TimePoint now, const ScrapeResult& scrape) {
  const auto sent = sum(scrape, "tcp_host_segments_sent_total");
  const auto retransmitted = sum(scrape, "tcp_host_segments_retransmitted_total");
  if (!sent || !retransmitted) return std::nullopt;
  const std::lock_guard lock(mutex_);
  if (!points_.empty() &&
      (*sent < points_.back().sent || *retransmitted < points_.back().retransmitted)) {
    points_.clear();
  }
  while (points_.size() > 1 && now - points_[1].time >= std::chrono::minutes(1)) {
    points_.pop_front();
  }
  std::optional<RetransmitRatio> result;
  if (!points_.empty() && now - points_.front().time >= std::chrono::seconds(1)) {
    const Point& then = points_.front();
    const double segments = *sent - then.sent;
    result = {segments > 0 ? (*retransmitted - then.retransmitted) / segments : 0,
              seconds(now - then.time)};
  }
  if (points_.empty() || now - points_.back().time >= std::chrono::seconds(1)) {
    points_.push_back({now, *sent, *retransmitted});
  }
  return result;
}

}  // namespace tcpvitals
