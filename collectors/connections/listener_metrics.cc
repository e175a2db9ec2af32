#include "collectors/connections/listener_metrics.h"

#include <algorithm>
#include <array>
#include <initializer_list>
#include <string_view>
#include <vector>

#include "collectors/rows.h"

namespace tcpvitals {
namespace {

using enum MetricType;

constexpr Row<Listener> kListenerRows[] = {
    {{"tcp_listener_queue_length",
      kGauge,
      "Connections that are established and wait for accept; divide by tcp_listener_queue_limit.",
      {"port", "address", "netns"},
      "sock_diag idiag_rqueue"},
     [](const Listener& l) { return to_double(l.queue_length); }},
    {{"tcp_listener_queue_limit",
      kGauge,
      "Connections that may wait for accept: the backlog as the kernel granted it.",
      {"port", "address", "netns"},
      "sock_diag idiag_wqueue"},
     [](const Listener& l) { return to_double(l.queue_limit); }},
    {{"tcp_listener_queue_peak",
      kGauge,
      "Highest tcp_listener_queue_length of the last minute, looked at every 100 ms.",
      {"port", "address", "netns"},
      "sock_diag idiag_rqueue"},
     [](const Listener& l) { return to_double(l.queue_peak); }},
    {{"tcp_listener_queue_full_total",
      kCounter,
      "Times that tcp_listener_queue_length was found at its limit or above, looked at every 100 "
      "ms: "
      "what comes then is dropped.",
      {"port", "address", "netns"},
      "sock_diag idiag_rqueue, idiag_wqueue"},
     [](const Listener& l) { return to_double(l.queue_full); }},
};

constexpr MetricDesc kPortsUsed{
    "tcp_ephemeral_ports_used",
    kGauge,
    "Local ports of the ephemeral range in use towards one destination address and port, of the "
    "destination that has most, TIME_WAIT included, for the groups with the highest; divide by "
    "tcp_ephemeral_ports_limit.",
    {"direction", "port", "peer", "cgroup", "netns"},
    "sock_diag idiag_sport"};
constexpr MetricDesc kPortsLimit{"tcp_ephemeral_ports_limit",
                                 kGauge,
                                 "Local ports there are for connections to one destination.",
                                 {},
                                 "/proc/sys/net/ipv4/ip_local_port_range"};

constexpr auto kMetrics = joined(descs_of(kListenerRows), std::array{kPortsUsed, kPortsLimit});

// A host with more listeners shows the first of them, by port; the rest is added up under "other".
constexpr std::size_t kMaxListeners = 256;

void add_ephemeral_ports(Sink& sink, const Snapshot& s) {
  std::vector<const Snapshot::Group*> busiest;
  for (const Snapshot::Group& g : s.groups) {
    if (g.stats.last_dump.ephemeral_ports > 0) busiest.push_back(&g);
  }
  const std::size_t shown = std::min(s.config.ephemeral_destinations, busiest.size());
  std::partial_sort(busiest.begin(), busiest.begin() + static_cast<std::ptrdiff_t>(shown),
                    busiest.end(), [](const Snapshot::Group* a, const Snapshot::Group* b) {
                      return a->stats.last_dump.ephemeral_ports >
                             b->stats.last_dump.ephemeral_ports;
                    });
  for (std::size_t i = 0; i < shown; ++i) {
    const GroupLabels& l = busiest[i]->labels;
    sink.add(kPortsUsed, {l.direction, l.port, l.peer, l.cgroup, l.netns},
             busiest[i]->stats.last_dump.ephemeral_ports);
  }
  sink.add(kPortsLimit, s.ephemeral.last - s.ephemeral.first + 1);
}

void add_listener(Sink& sink, const Listener& l, std::initializer_list<std::string_view> labels) {
  for (const auto& row : kListenerRows) sink.add(row.desc, labels, row.value(l));
}

void add_listeners(Sink& sink, const Snapshot::Namespace& space) {
  const std::size_t shown = std::min(kMaxListeners, space.listeners.size());
  for (std::size_t i = 0; i < shown; ++i) {
    const auto& [listener, port] = space.listeners[i];
    add_listener(sink, listener, {port, to_string(listener.endpoint.address), space.netns});
  }
  if (shown == space.listeners.size()) return;
  Listener other;
  for (std::size_t i = shown; i < space.listeners.size(); ++i) {
    const Listener& l = space.listeners[i].listener;
    other.queue_length += l.queue_length;
    other.queue_limit += l.queue_limit;
    other.queue_full += l.queue_full;
    other.queue_peak = std::max(other.queue_peak, l.queue_peak);
  }
  add_listener(sink, other, {"other", "other", space.netns});
}

}  // namespace

std::span<const MetricDesc> listener_metrics() { return kMetrics; }

void emit_listeners(Sink& sink, const Snapshot& s) {
  for (const Snapshot::Namespace& space : s.namespaces) add_listeners(sink, space);
  add_ephemeral_ports(sink, s);
}

}  // namespace tcpvitals
