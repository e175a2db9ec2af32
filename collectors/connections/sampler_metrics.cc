#include "collectors/connections/sampler_metrics.h"

#include <algorithm>
#include <array>
#include <string_view>

#include "collectors/rows.h"

namespace tcpvitals {
namespace {

using enum MetricType;

constexpr Row<Snapshot> kRows[] = {
    {{"tcpvitals_tracked_connections", kGauge,
      "Connections and attempts that are tracked one by one."},
     [](const Snapshot& s) { return to_double(s.tracked); }},
    {{"tcpvitals_tracked_connections_limit", kGauge, "Connections tracked at most."},
     [](const Snapshot& s) { return to_double(s.config.limits.connections); }},
    {{"tcpvitals_untracked_connections", kGauge,
      "Connections of the last dump above the limit: each is counted only when it closes, those of "
      "the start not at all."},
     [](const Snapshot& s) { return to_double(s.untracked); }},
    {{"tcpvitals_untracked_connections_total", kCounter,
      "Sockets that a dump showed above the limit, each once in each dump."},
     [](const Snapshot& s) { return to_double(s.tracker.untracked); }},
    {{"tcpvitals_past_sockets", kGauge,
      "Sockets that are remembered by their cookie alone, so that their past is never counted: "
      "over "
      "the limit at the start, or vanished over an hour ago."},
     [](const Snapshot& s) { return to_double(s.past_sockets); }},
    {{"tcpvitals_past_sockets_limit", kGauge,
      "Sockets remembered by their cookie at most, in each network namespace."},
     [](const Snapshot&) { return to_double(PastSockets::kMaxCookies); }},
    {{"tcpvitals_past_sockets_dropped_total", kCounter,
      "Cookies of such sockets that were dropped because there was no room. Above zero, a "
      "connection is not counted if its ages show that it is older than the last dump."},
     [](const Snapshot& s) { return to_double(s.tracker.past_dropped); }},
    {{"tcpvitals_tracker_bytes", kGauge, "Memory of the tracker's tables."},
     [](const Snapshot& s) { return to_double(s.tracker_bytes); }},
    {{"tcpvitals_groups", kGauge,
      "Groups of connections: combinations of direction, port and peer."},
     [](const Snapshot& s) { return to_double(s.groups.size()); }},
    {{"tcpvitals_groups_limit", kGauge,
      "Groups at most, but for those whose port has a configured name; the connections of further "
      "ones are counted under port \"other\"."},
     [](const Snapshot& s) { return to_double(s.config.limits.groups); }},
    {{"tcpvitals_groups_overflowed_total", kCounter,
      "Times that a socket was counted under port \"other\" "
      "because there was no room for its group."},
     [](const Snapshot& s) { return to_double(s.groups_overflowed); }},
    {{"tcpvitals_groups_forgotten_total", kCounter,
      "Groups that had no socket for so long that they left; one that comes back begins at zero."},
     [](const Snapshot& s) { return to_double(s.groups_forgotten); }},
    {{"tcpvitals_peer_groups", kGauge, "Names of groups of peers, the built-in ones included."},
     [](const Snapshot& s) { return to_double(s.peers); }},
    {{"tcpvitals_peer_groups_limit", kGauge,
      "Names of peers at most; a configuration with more of them is refused."},
     [](const Snapshot& s) { return to_double(s.config.limits.peers); }},
    {{"tcpvitals_cgroups", kGauge, "Names of cgroups in use."},
     [](const Snapshot& s) { return to_double(s.cgroups); }},
    {{"tcpvitals_cgroups_limit", kGauge, "Names of cgroups at most; further ones are \"other\"."},
     [](const Snapshot& s) { return to_double(s.config.limits.cgroups); }},
    {{"tcpvitals_cgroups_overflowed_total", kCounter,
      "Times that a connection's cgroup became \"other\" because there was no room for its name."},
     [](const Snapshot& s) { return to_double(s.cgroup_names.overflowed); }},
    {{"tcpvitals_cgroups_unknown_total", kCounter,
      "Times that a connection was put under cgroup \"unknown\": its cgroup was gone, out of sight "
      "or not sent (an outbound connection too short for a dump), or not found yet; then the "
      "connection moves to its name with the next sample."},
     [](const Snapshot& s) { return to_double(s.cgroup_names.unknown); }},
    {{"tcpvitals_namespaces", kGauge, "Network namespaces that are watched, ours included."},
     [](const Snapshot& s) { return to_double(s.network_namespaces.watched); }},
    {{"tcpvitals_namespaces_limit", kGauge, "Network namespaces watched at most, ours included."},
     [](const Snapshot& s) { return to_double(s.config.limits.namespaces); }},
    {{"tcpvitals_namespaces_overflowed_total", kCounter,
      "Network namespaces that were not watched because there was no room."},
     [](const Snapshot& s) { return to_double(s.network_namespaces.overflowed); }},
    {{"tcpvitals_namespaces_unreadable_processes", kGauge,
      "Processes whose network namespace may not be asked for (CAP_SYS_PTRACE)."},
     [](const Snapshot& s) { return to_double(s.network_namespaces.unreadable); }},
    {{"tcpvitals_namespace_failures_total", kCounter,
      "Times that a dump or a file of another network namespace could not be read."},
     [](const Snapshot& s) { return to_double(s.namespace_failures); }},
    {{"tcpvitals_sample_duration_seconds", kGauge,
      "Wall time of the last complete sample: the dumps of all network namespaces that needed "
      "one."},
     [](const Snapshot& s) { return s.dump_seconds; }},
    {{"tcpvitals_sampler_cpu_seconds_total", kCounter,
      "CPU time of the thread that reads dumps and events."},
     [](const Snapshot& s) { return s.cpu_seconds; }},
    {{"tcpvitals_samples_total", kCounter, "Complete samples taken."},
     [](const Snapshot& s) { return to_double(s.dumps); }},
    {{"tcpvitals_sample_namespaces", kGauge,
      "Network namespaces that the last complete sample dumped, ours included; in the others "
      "nothing "
      "had moved since their last dump."},
     [](const Snapshot& s) { return to_double(s.namespaces_dumped); }},
    {{"tcpvitals_dump_bytes", kGauge, "Netlink bytes of the last complete dump."},
     [](const Snapshot& s) { return to_double(s.dump_bytes); }},
    {{"tcpvitals_host_states_complete", kGauge,
      "1 if tcp_host_connections counts every socket; 0 while the configuration excludes some."},
     [](const Snapshot& s) { return s.config.excludes.empty() ? 1.0 : 0.0; }},
    {{"tcpvitals_connection_events_total", kCounter, "DESTROY events read from the kernel."},
     [](const Snapshot& s) { return to_double(s.tracker.events); }},
    {{"tcpvitals_connection_events_lost_total",
      kCounter,
      "DESTROY events the kernel could not deliver, by its own count: "
      "connections too short for a dump "
      "may be missing as many times.",
      {},
      "SO_MEMINFO drops"},
     [](const Snapshot& s) { return to_double(s.events_lost); }},
    {{"tcpvitals_event_overruns_total", kCounter,
      "Times that the event buffer was found to have overflowed (ENOBUFS)."},
     [](const Snapshot& s) { return to_double(s.event_overruns); }},
    {{"tcpvitals_event_buffer_bytes", kGauge,
      "Size of the event sockets' buffers together, as the kernel granted it; an event takes about "
      "1,280."},
     [](const Snapshot& s) { return to_double(s.event_buffer_bytes); }},
    {{"tcpvitals_event_pause_seconds", kGauge,
      "Longest time during the last sample in which events were not looked for: so long may one "
      "have "
      "waited in the buffer."},
     [](const Snapshot& s) { return s.longest_event_pause_seconds; }},
    {{"tcpvitals_connections_vanished_total", kCounter,
      "Tracked connections that were missing from two dumps with no event: it was lost, or the "
      "connection was reset and its application keeps the socket; then the event comes later and "
      "counts in tcpvitals_late_events_total."},
     [](const Snapshot& s) { return to_double(s.tracker.vanished); }},
    {{"tcpvitals_late_events_total", kCounter,
      "Events that came after their connection was given up as "
      "vanished, and made its counters whole."},
     [](const Snapshot& s) { return to_double(s.tracker.late_events); }},
    {{"tcpvitals_closes_of_past_total", kCounter,
      "Connections that ended and are counted nowhere else: established before counting began and "
      "not tracked since, or vanished over an hour ago. What they did meanwhile is not known."},
     [](const Snapshot& s) { return to_double(s.tracker.closes_of_past); }},
    {{"tcpvitals_closes_without_counters_total", kCounter,
      "Connections counted as closed whose final counters the kernel had cleared (zero linger, "
      "disconnect, MPTCP subflows): segments and bytes since their last dump are only in the "
      "host's totals."},
     [](const Snapshot& s) { return to_double(s.tracker.closes_without_counters); }},
};

constexpr std::array<std::string_view, 2> kUnwatchedReasons{"limit", "unopened"};
constexpr LabelledRow<Snapshot> kLabelledRows[] = {
    {{"tcpvitals_namespaces_unwatched",
      kGauge,
      "Network namespaces that are known and not watched now: no room, or they could not be "
      "opened.",
      {"reason"}},
     kUnwatchedReasons,
     [](const Snapshot& s, std::size_t i) {
       const NamespaceStats& n = s.network_namespaces;
       return to_double(i == 0 ? n.left_out : n.unopened);
     }},
};

constexpr MetricDesc kFeature{
    "tcpvitals_feature_available",
    kGauge,
    "1 for what the agent may do here, 0 for what it lacks a privilege or a kernel for: "
    "sock_diag (kernel modules inet_diag and tcp_diag), event_buffer_forced (CAP_NET_ADMIN), "
    "cgroup_names and netns (only if grouped by).",
    {"feature"}};
constexpr MetricDesc kSampleAge{
    "tcpvitals_sample_age_seconds",
    kGauge,
    "Time since the network namespace was dumped, or was found not to have moved since it was: the "
    "age of every gauge that is taken from a dump. It grows while dumps take longer than scrapes "
    "wait.",
    {"netns"}};
constexpr MetricDesc kHostConnections{"tcp_host_connections",
                                      kGauge,
                                      "Sockets by state, as ss counts them, but for those that "
                                      "are excluded: see tcpvitals_host_states_complete.",
                                      {"state", "netns"},
                                      "sock_diag idiag_state"};
constexpr MetricDesc kUnattributed{
    "tcpvitals_unattributed_connections",
    kGauge,
    "What the host counted since the start less what the groups did: active_opens less attempts "
    "to connect, passive_opens less connections accepted, attempt_fails less "
    "tcp_connection_failures_total. Above zero: lost events, excluded or withheld sockets. Below "
    "zero: attempts that applications gave up, and some that ICMP rejected: the kernel does not "
    "count them.",
    {"counter", "netns"},
    "/proc/net/snmp TcpActiveOpens TcpPassiveOpens TcpAttemptFails"};
constexpr MetricDesc kAttributed{
    "tcpvitals_attributed_retransmits_ratio",
    kGauge,
    "Share of the host's retransmitted segments since the start that is in "
    "tcp_retransmitted_segments_total of some group; the rest was withheld by the kernel.",
    {"netns"},
    "/proc/net/snmp TcpRetransSegs"};

constexpr auto kMetrics =
    joined(descs_of(kRows, kLabelledRows),
           std::array{kFeature, kSampleAge, kHostConnections, kUnattributed, kAttributed});

void add_unattributed(Sink& sink, const Snapshot::Namespace& counted) {
  if (!counted.since_start) return;
  const HostTotals& host = *counted.since_start;
  const TrackerStats& ours = counted.tracker;
  const auto rest = [&](std::string_view counter, double all, std::uint64_t attributed) {
    sink.add(kUnattributed, {counter, counted.netns}, all - to_double(attributed));
  };
  rest("active_opens", host.active_opens, ours.attempts);
  rest("passive_opens", host.passive_opens, ours.accepted);
  rest("attempt_fails", host.attempt_fails, ours.failed);
  const double retransmitted = host.retransmitted_segments;
  sink.add(kAttributed, {counted.netns},
           retransmitted > 0 ? to_double(ours.retransmitted_segments) / retransmitted : 1);
}

void add_namespace(Sink& sink, const Snapshot::Namespace& counted) {
  sink.add(kSampleAge, {counted.netns}, seconds_since(counted.as_of));
  for (std::size_t i = 1; i < kTcpStates; ++i) {
    sink.add(kHostConnections, {to_string(static_cast<TcpState>(i)), counted.netns},
             counted.states[i]);
  }
  add_unattributed(sink, counted);
}

}  // namespace

std::span<const MetricDesc> sampler_metrics() { return kMetrics; }

void emit_sampler(Sink& sink, const Snapshot& s) {
  for (const auto& row : kRows) sink.add(row.desc, row.value(s));
  for (const auto& row : kLabelledRows) {
    for (std::size_t i = 0; i < row.values.size(); ++i) {
      sink.add(row.desc, {row.values[i]}, row.value(s, i));
    }
  }
  sink.add(kFeature, {"sock_diag"}, 1);
  for (const Snapshot::Feature& feature : s.features) {
    sink.add(kFeature, {feature.name}, feature.missing.empty() ? 1 : 0);
  }
  for (const Snapshot::Namespace& counted : s.namespaces) add_namespace(sink, counted);
}

}  // namespace tcpvitals
