#include "collectors/connections/listener_metrics.h"

#include <algorithm>
#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "collectors/rows.h"

namespace tcpvitals {
namespace {

using enum MetricType;

#define LISTENER_LABELS \
  { "port", "address", "netns" }

constexpr Row<Listener> kListenerRows[] = {
    {{"tcp_listener_queue_length", kGauge,
      "Connections that are established and wait for accept, in the fullest accept queue of this "
      "address and port; divide by tcp_listener_queue_limit.",
      LISTENER_LABELS, "sock_diag idiag_rqueue"},
     [](const Listener& l) { return to_double(l.queue.length); }},
    {{"tcp_listener_queue_limit", kGauge,
      "Backlog of the accept queue of this address and port that was fullest in the last minute, "
      "as "
      "the kernel granted it. The kernel queues one connection more and drops what comes then.",
      LISTENER_LABELS, "sock_diag idiag_wqueue"},
     [](const Listener& l) { return to_double(l.peak.limit); }},
    {{"tcp_listener_queue_peak", kGauge,
      "Length of the fullest accept queue of this address and port in the last minute, looked at "
      "every 100 ms.",
      LISTENER_LABELS, "sock_diag idiag_rqueue"},
     [](const Listener& l) { return to_double(l.peak.length); }},
    {{"tcp_listener_sockets", kGauge,
      "Sockets that listen on this address and port, each with an accept queue of its own: more "
      "than one with SO_REUSEPORT, or with one for each device.",
      LISTENER_LABELS, "sock_diag idiag_cookie"},
     [](const Listener& l) { return to_double(l.sockets); }},
    {{"tcp_listener_queue_full_total", kCounter,
      "Times that an accept queue of this address and port was found over its limit, looked at "
      "every 100 ms, each socket counted: the kernel drops connections then.",
      LISTENER_LABELS, "sock_diag idiag_rqueue, idiag_wqueue"},
     [](const Listener& l) { return to_double(l.queue_full); }},
};

constexpr MetricDesc kListeners{"tcpvitals_listeners", kGauge,
                                "Addresses and ports that a socket listens on, of all network "
                                "namespaces that are watched."};
constexpr MetricDesc kListenersLimit{
    "tcpvitals_listeners_limit", kGauge,
    "Addresses and ports that tcp_listener metrics tell at most: those with the fullest queues."};
constexpr MetricDesc kListenersLeftOut{
    "tcpvitals_listeners_left_out", kGauge,
    "Addresses and ports that no tcp_listener metric tells, because of the limit."};

constexpr MetricDesc kPortsUsed{
    "tcp_ephemeral_ports_used",
    kGauge,
    "Local ports of tcp_ephemeral_ports_limit in use towards one remote address and port, of the "
    "destination that has most, TIME_WAIT included; only for the groups that use the largest "
    "share.",
    {"direction", "port", "peer", "cgroup", "netns"},
    "sock_diag idiag_sport"};
constexpr MetricDesc kPortsLimit{
    "tcp_ephemeral_ports_limit",
    kGauge,
    "Local ports that the kernel can give to connections to one remote address and port, reserved "
    "ports subtracted: the denominator of tcp_ephemeral_ports_used.",
    {"netns"},
    "/proc/sys/net/ipv4/ip_local_port_range, ip_local_reserved_ports"};

constexpr auto kMetrics =
    joined(descs_of(kListenerRows),
           std::array{kListeners, kListenersLimit, kListenersLeftOut, kPortsUsed, kPortsLimit});

// What one label set of tcp_listener metrics stands for.
struct Shown {
  std::string port;
  std::string address;
  std::string_view netns;
  Listener listener;

  auto labels() const { return std::tie(netns, port, address); }
};

// Listeners that meet under one label set are one: two ports of one name on one address.
std::vector<Shown> merge_listeners(const Snapshot& s) {
  std::vector<Shown> all;
  for (const Snapshot::Namespace& space : s.namespaces) {
    for (const auto& [listener, port] : space.listeners) {
      all.push_back({port, to_string(listener.endpoint.address), space.netns, listener});
    }
  }
  std::stable_sort(all.begin(), all.end(),
                   [](const Shown& a, const Shown& b) { return a.labels() < b.labels(); });
  std::vector<Shown> merged;
  for (Shown& one : all) {
    if (!merged.empty() && merged.back().labels() == one.labels()) {
      merged.back().listener += one.listener;
    } else {
      merged.push_back(std::move(one));
    }
  }
  return merged;
}

// What was half full in the last minute first, the fullest before others; the rest as it stands, so
// that short queues which come and go change nothing.
void put_fullest_first(std::vector<Shown>& all) {
  std::stable_sort(all.begin(), all.end(), [](const Shown& a, const Shown& b) {
    const AcceptQueue& ours = a.listener.peak;
    const AcceptQueue& theirs = b.listener.peak;
    if (ours.half_full() != theirs.half_full()) return ours.half_full();
    return ours.half_full() && ours.fuller_than(theirs);
  });
}

void add_listeners(Sink& sink, const Snapshot& s) {
  std::vector<Shown> all = merge_listeners(s);
  const std::size_t limit = s.config.limits.listeners;
  sink.add(kListeners, to_double(all.size()));
  sink.add(kListenersLimit, to_double(limit));
  sink.add(kListenersLeftOut, to_double(all.size() - std::min(all.size(), limit)));
  if (all.size() > limit) {
    put_fullest_first(all);
    all.resize(limit);
  }
  for (const auto& row : kListenerRows) {
    for (const Shown& one : all) {
      sink.add(row.desc, {one.port, one.address, one.netns}, row.value(one.listener));
    }
  }
}

// Ports that the kernel gives in that network namespace; nothing where it does not say.
std::optional<std::size_t> port_limit(const Snapshot& s, std::string_view netns) {
  for (const Snapshot::Namespace& space : s.namespaces) {
    if (space.netns == netns && space.local_ports) return space.local_ports->size();
  }
  return std::nullopt;
}

void add_local_ports(Sink& sink, const Snapshot& s) {
  struct Use {
    const Snapshot::Group* group;
    double share;
  };
  std::vector<Use> busiest;
  for (const Snapshot::Group& g : s.groups) {
    const std::uint32_t used = g.stats.last_dump.ephemeral_ports;
    const auto limit = port_limit(s, g.labels.netns);
    if (used > 0 && limit) busiest.push_back({&g, used / to_double(*limit)});
  }
  const std::size_t shown = std::min(s.config.ephemeral_destinations, busiest.size());
  std::partial_sort(busiest.begin(), busiest.begin() + static_cast<std::ptrdiff_t>(shown),
                    busiest.end(), [](const Use& a, const Use& b) { return a.share > b.share; });
  for (std::size_t i = 0; i < shown; ++i) {
    const GroupLabels& l = busiest[i].group->labels;
    sink.add(kPortsUsed, {l.direction, l.port, l.peer, l.cgroup, l.netns},
             busiest[i].group->stats.last_dump.ephemeral_ports);
  }
  for (const Snapshot::Namespace& space : s.namespaces) {
    if (space.local_ports)
      sink.add(kPortsLimit, {space.netns}, to_double(space.local_ports->size()));
  }
}

}  // namespace

std::span<const MetricDesc> listener_metrics() { return kMetrics; }

void emit_listeners(Sink& sink, const Snapshot& s) {
  add_listeners(sink, s);
  add_local_ports(sink, s);
}

}  // namespace tcpvitals
