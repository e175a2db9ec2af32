#include "collectors/connections/connection_metrics.h"

#include <algorithm>
#include <array>
#include <initializer_list>
#include <vector>

namespace tcpvitals {
namespace {

using enum MetricType;

#define GROUP_LABELS \
  { "direction", "port", "peer", "cgroup", "netns" }
#define GROUP_LABELS_AND(label) \
  { "direction", "port", "peer", "cgroup", "netns", label }

// How many leading bytes of tcp_info the kernel must return for `field` to be there.
#define NEEDS(field) (offsetof(TcpInfo, field) + sizeof(TcpInfo::field))

// A counter of a group: one field of GroupStats.
struct GroupCounter {
  MetricDesc desc;
  std::uint64_t GroupStats::*field;
  std::size_t needs;  // bytes of tcp_info
};

constexpr GroupCounter kGroupCounters[] = {
    {{"tcp_connections_opened_total", kCounter,
      "Connections that were established, each counted once, however short it lived.", GROUP_LABELS,
      "sock_diag dump and DESTROY events"},
     &GroupStats::opened,
     0},
    {{"tcp_data_segments_sent_total", kCounter,
      "Segments with data sent, retransmissions included: the denominator of "
      "tcp_retransmitted_segments_total.",
      GROUP_LABELS, "tcpi_data_segs_out"},
     &GroupStats::data_segments_sent,
     NEEDS(data_segs_out)},
    {{"tcp_retransmitted_segments_total", kCounter,
      "Segments retransmitted, tcp_retransmitted_syns_total included; divide by "
      "tcp_data_segments_sent_total.",
      GROUP_LABELS, "tcpi_total_retrans"},
     &GroupStats::retransmitted_segments,
     NEEDS(total_retrans)},
    {{"tcp_retransmitted_syns_total", kCounter,
      "Part of tcp_retransmitted_segments_total that was a SYN or a SYN-ACK: retransmitted before "
      "the connection stood, or by one that retransmitted no data.",
      GROUP_LABELS, "tcpi_total_retrans, tcpi_bytes_retrans"},
     &GroupStats::retransmitted_syns,
     NEEDS(bytes_retransmitted)},
    {{"tcp_spurious_retransmissions_total", kCounter,
      "Retransmissions the peer reported as unneeded (DSACK): part of "
      "tcp_retransmitted_segments_total that was no loss.",
      GROUP_LABELS, "tcpi_dsack_dups"},
     &GroupStats::spurious_retransmissions,
     NEEDS(dsack_dups)},
    {{"tcp_retransmission_timeouts_total", kCounter,
      "Retransmission timeouts (RTO): losses that no acknowledgement revealed, each a stall.",
      GROUP_LABELS, "tcpi_total_rto"},
     &GroupStats::retransmission_timeouts,
     NEEDS(total_rto)},
    {{"tcp_sent_bytes_total", kCounter, "Payload bytes sent, retransmissions included.",
      GROUP_LABELS, "tcpi_bytes_sent"},
     &GroupStats::sent_bytes,
     NEEDS(bytes_sent)},
    {{"tcp_retransmitted_bytes_total", kCounter,
      "Payload bytes retransmitted; divide by tcp_sent_bytes_total.", GROUP_LABELS,
      "tcpi_bytes_retrans"},
     &GroupStats::retransmitted_bytes,
     NEEDS(bytes_retransmitted)},
    {{"tcp_received_bytes_total", kCounter,
      "Payload bytes received in order; the byte the kernel counts for a peer's FIN is taken off.",
      GROUP_LABELS, "tcpi_bytes_received"},
     &GroupStats::received_bytes,
     NEEDS(bytes_received)},
    {{"tcp_delivered_segments_total", kCounter,
      "Segments the peer acknowledged, selectively or not: the denominator of "
      "tcp_ce_marked_segments_total.",
      GROUP_LABELS, "tcpi_delivered"},
     &GroupStats::delivered_segments,
     NEEDS(delivered)},
    {{"tcp_ce_marked_segments_total", kCounter,
      "Delivered segments that met congestion on the way (ECN CE mark echoed by the peer).",
      GROUP_LABELS, "tcpi_delivered_ce"},
     &GroupStats::ce_marked_segments,
     NEEDS(delivered_ce)},
    {{"tcp_reordering_events_total", kCounter, "Times that reordering on the path was detected.",
      GROUP_LABELS, "tcpi_reord_seen"},
     &GroupStats::reordering_events,
     NEEDS(reordering_seen)},
};

constexpr MetricDesc kClosed{
    "tcp_connections_closed_total", kCounter,
    "Connections that ended after they were established, those of tcp_connections_at_start "
    "included.",
    GROUP_LABELS, "sock_diag dump and DESTROY events"};
constexpr MetricDesc kEnds{
    "tcp_connection_ends_total", kCounter,
    "How those of tcp_connections_closed_total ended: orderly (our FIN was acknowledged), reset "
    "(it was not: a reset by either side, or a close with data unread), timeout (the peer stopped "
    "answering), aborted (zero linger: no final counters), unknown (no event came in time).",
    GROUP_LABELS_AND("how"), "sock_diag DESTROY events"};
constexpr MetricDesc kBusy{
    "tcp_busy_seconds_total", kCounter,
    "Time connections had data outstanding, summed over connections: the denominator of "
    "tcp_limited_seconds_total; a sender that is rarely busy waits for its application.",
    GROUP_LABELS, "tcpi_busy_time"};
constexpr MetricDesc kLimited{
    "tcp_limited_seconds_total", kCounter,
    "Part of tcp_busy_seconds_total in which sending had to wait for the peer's receive window or "
    "for our own send buffer: receive_window near busy, the peer's application reads too slowly; "
    "send_buffer near busy, our buffer is too small for the path; neither, the network is the "
    "limit.",
    GROUP_LABELS_AND("by"), "tcpi_rwnd_limited, tcpi_sndbuf_limited"};
constexpr MetricDesc kConnections{
    "tcp_connections", kGauge,
    "Sockets by state; time_wait and syn_recv hold no connection and are of the last dump.",
    GROUP_LABELS_AND("state"), "sock_diag idiag_state"};
constexpr MetricDesc kAtStart{"tcp_connections_at_start", kGauge,
                              "Connections that were established before counting began, plus those "
                              "that a new configuration moved here, less those it moved away: "
                              "opened - closed + this is what lives.",
                              GROUP_LABELS, "sock_diag first dump"};
constexpr MetricDesc kFailures{"tcp_connection_failures_total", kCounter,
                               "Attempts to connect that never were established: refused by a "
                               "reset, timed out, given up by us, "
                               "or unknown where the kernel clears the evidence.",
                               GROUP_LABELS_AND("reason"), "sock_diag DESTROY events"};
constexpr MetricDesc kRtt{"tcp_rtt_seconds", kHistogram,
                          "Smoothed round-trip time, observed when data was acknowledged since the "
                          "last look, and at close; "
                          "holds the peer's delayed ACKs.",
                          GROUP_LABELS, "tcpi_rtt"};
constexpr MetricDesc kMinRtt{
    "tcp_min_rtt_seconds", kHistogram,
    "Lowest round-trip time of a connection, observed once at its close: the path without queues.",
    GROUP_LABELS, "tcpi_min_rtt"};
constexpr MetricDesc kDeliveryRate{
    "tcp_delivery_rate_bytes_per_second", kHistogram,
    "Rate at which the network delivered data, looked at with tcp_rtt_seconds, only where the "
    "application had more to send: what the path can carry.",
    GROUP_LABELS, "tcpi_delivery_rate, tcpi_delivery_rate_app_limited"};
constexpr MetricDesc kCloseWaitOldest{
    "tcp_close_wait_oldest_seconds", kGauge,
    "Age of the connection that is longest in CLOSE_WAIT, 0 if none is: the peer has closed, our "
    "application has not.",
    GROUP_LABELS, "sock_diag idiag_state, tcpi_last_ack_recv"};
constexpr MetricDesc kCloseWaitOld{
    "tcp_close_wait_old_connections", kGauge,
    "Connections in CLOSE_WAIT for longer than close_wait_threshold (60 s): most likely leaked.",
    GROUP_LABELS, "sock_diag idiag_state, tcpi_last_ack_recv"};
constexpr MetricDesc kPortsUsed{
    "tcp_ephemeral_ports_used", kGauge,
    "Local ports of the ephemeral range in use towards one destination address and port, of the "
    "destination that has most, TIME_WAIT included, for the groups with the highest; divide by "
    "tcp_ephemeral_ports_limit.",
    GROUP_LABELS, "sock_diag idiag_sport"};
constexpr MetricDesc kPortsLimit{"tcp_ephemeral_ports_limit",
                                 kGauge,
                                 "Local ports there are for connections to one destination.",
                                 {},
                                 "/proc/sys/net/ipv4/ip_local_port_range"};
constexpr MetricDesc kSendQueue{"tcp_send_queue_bytes", kGauge,
                                "Bytes written by applications and not yet acknowledged.",
                                GROUP_LABELS, "sock_diag idiag_wqueue"};
constexpr MetricDesc kReceiveQueue{"tcp_receive_queue_bytes", kGauge,
                                   "Bytes received and not yet read by applications.", GROUP_LABELS,
                                   "sock_diag idiag_rqueue"};
constexpr MetricDesc kHostConnections{"tcp_host_connections",
                                      kGauge,
                                      "Sockets by state, as ss counts them, but for those that "
                                      "are excluded: see tcpvitals_host_states_complete.",
                                      {"state", "netns"},
                                      "sock_diag idiag_state"};
constexpr MetricDesc kListenerLength{
    "tcp_listener_queue_length",
    kGauge,
    "Connections that are established and wait for accept; divide by tcp_listener_queue_limit.",
    {"port", "address", "netns"},
    "sock_diag idiag_rqueue"};
constexpr MetricDesc kListenerLimit{
    "tcp_listener_queue_limit",
    kGauge,
    "Connections that may wait for accept: the backlog as the kernel granted it.",
    {"port", "address", "netns"},
    "sock_diag idiag_wqueue"};
constexpr MetricDesc kListenerPeak{
    "tcp_listener_queue_peak",
    kGauge,
    "Highest tcp_listener_queue_length of the last minute, looked at every 100 ms.",
    {"port", "address", "netns"},
    "sock_diag idiag_rqueue"};

constexpr MetricDesc kListenerFull{
    "tcp_listener_queue_full_total",
    kCounter,
    "Times that tcp_listener_queue_length was found at its limit or above, looked at every 100 ms: "
    "what comes then is dropped.",
    {"port", "address", "netns"},
    "sock_diag idiag_rqueue, idiag_wqueue"};

constexpr MetricDesc kSampleAge{"tcpvitals_sample_age_seconds", kGauge,
                                "Time since the last complete dump: the age of every gauge that is "
                                "taken from it."};
constexpr MetricDesc kSampleDuration{"tcpvitals_sample_duration_seconds", kGauge,
                                     "Wall time of the last complete dump."};
constexpr MetricDesc kSamplerCpu{"tcpvitals_sampler_cpu_seconds_total", kCounter,
                                 "CPU time of the thread that reads dumps and events."};
constexpr MetricDesc kSamples{"tcpvitals_samples_total", kCounter, "Complete dumps taken."};
constexpr MetricDesc kDumpBytes{"tcpvitals_dump_bytes", kGauge,
                                "Netlink bytes of the last complete dump."};
constexpr MetricDesc kTracked{"tcpvitals_tracked_connections", kGauge,
                              "Connections and attempts that are tracked one by one."};
constexpr MetricDesc kTrackedLimit{"tcpvitals_tracked_connections_limit", kGauge,
                                   "Connections tracked at most."};
constexpr MetricDesc kUntracked{
    "tcpvitals_untracked_connections", kGauge,
    "Connections of the last dump above the limit: each is counted only when it closes."};
constexpr MetricDesc kUntrackedTotal{
    "tcpvitals_untracked_connections_total", kCounter,
    "Sockets that a dump showed above the limit, each once in each dump."};
constexpr MetricDesc kTrackerBytes{"tcpvitals_tracker_bytes", kGauge,
                                   "Memory of the tracker's tables."};
constexpr MetricDesc kGroups{"tcpvitals_groups", kGauge,
                             "Groups of connections: combinations of direction, port and peer."};
constexpr MetricDesc kGroupsLimit{
    "tcpvitals_groups_limit", kGauge,
    "Groups at most, but for those whose port has a configured name; the connections of further "
    "ones are counted under port \"other\"."};
constexpr MetricDesc kGroupsOverflowed{"tcpvitals_groups_overflowed_total", kCounter,
                                       "Times that a socket was counted under port \"other\" "
                                       "because there was no room for its group."};
constexpr MetricDesc kGroupsForgotten{
    "tcpvitals_groups_forgotten_total", kCounter,
    "Groups that had no socket for so long that they left; one that comes back begins at zero."};
constexpr MetricDesc kPeers{"tcpvitals_peer_groups", kGauge,
                            "Names of groups of peers, the built-in ones included."};
constexpr MetricDesc kPeersLimit{
    "tcpvitals_peer_groups_limit", kGauge,
    "Names of peers at most; a configuration with more of them is refused."};
constexpr MetricDesc kCgroups{"tcpvitals_cgroups", kGauge, "Names of cgroups in use."};
constexpr MetricDesc kCgroupsLimit{"tcpvitals_cgroups_limit", kGauge,
                                   "Names of cgroups at most; further ones are \"other\"."};
constexpr MetricDesc kCgroupsOverflowed{
    "tcpvitals_cgroups_overflowed_total", kCounter,
    "Times that a connection's cgroup became \"other\" because there was no room for its name."};
constexpr MetricDesc kCgroupsUnknown{
    "tcpvitals_cgroups_unknown_total", kCounter,
    "Times that a connection's cgroup was \"unknown\": it was gone, or is out of sight."};
constexpr MetricDesc kNamespaces{"tcpvitals_namespaces", kGauge,
                                 "Network namespaces that are watched, ours included."};
constexpr MetricDesc kNamespacesLimit{"tcpvitals_namespaces_limit", kGauge,
                                      "Network namespaces watched at most, ours included."};
constexpr MetricDesc kNamespacesOverflowed{
    "tcpvitals_namespaces_overflowed_total", kCounter,
    "Network namespaces that were not watched because there was no room."};
constexpr MetricDesc kNamespacesUnwatched{
    "tcpvitals_namespaces_unwatched",
    kGauge,
    "Network namespaces that are known and not watched now: no room, or they could not be opened.",
    {"reason"}};
constexpr MetricDesc kNamespacesUnreadable{
    "tcpvitals_namespaces_unreadable_processes", kGauge,
    "Processes whose network namespace may not be asked for (CAP_SYS_PTRACE)."};
constexpr MetricDesc kNamespaceFailures{
    "tcpvitals_namespace_failures_total", kCounter,
    "Times that a dump or a file of another network namespace could not be read."};
constexpr MetricDesc kStatesComplete{
    "tcpvitals_host_states_complete", kGauge,
    "1 if tcp_host_connections counts every socket; 0 while the configuration excludes some."};
constexpr MetricDesc kUnattributed{
    "tcpvitals_unattributed_connections",
    kGauge,
    "What the host counted since the start less what the groups did: active_opens less attempts "
    "to connect, passive_opens less connections accepted, attempt_fails less "
    "tcp_connection_failures_total without reason aborted; above zero: lost events, excluded or "
    "withheld sockets, below: attempts that applications gave up, which the kernel counts nowhere.",
    {"counter", "netns"},
    "/proc/net/snmp TcpActiveOpens TcpPassiveOpens TcpAttemptFails"};
constexpr MetricDesc kFeature{
    "tcpvitals_feature_available",
    kGauge,
    "1 for what the agent may do here, 0 for what it lacks a privilege or a kernel for: "
    "event_buffer_forced (CAP_NET_ADMIN), cgroup_names and netns (only if grouped by).",
    {"feature"}};
constexpr MetricDesc kEvents{"tcpvitals_connection_events_total", kCounter,
                             "DESTROY events read from the kernel."};
constexpr MetricDesc kEventsLost{"tcpvitals_connection_events_lost_total",
                                 kCounter,
                                 "DESTROY events the kernel could not deliver, by its own count: "
                                 "connections too short for a dump "
                                 "may be missing as many times.",
                                 {},
                                 "SO_MEMINFO drops"};
constexpr MetricDesc kOverruns{
    "tcpvitals_event_overruns_total", kCounter,
    "Times that the event buffer was found to have overflowed (ENOBUFS)."};
constexpr MetricDesc kEventPause{
    "tcpvitals_event_pause_seconds", kGauge,
    "Longest time during the last sample in which events were not looked for: so long may one have "
    "waited in the buffer."};
constexpr MetricDesc kEventBuffer{"tcpvitals_event_buffer_bytes", kGauge,
                                  "Size of the event buffer, as the kernel granted it."};
constexpr MetricDesc kVanished{
    "tcpvitals_connections_vanished_total", kCounter,
    "Tracked connections that were missing from two dumps with no event: it was lost, or the "
    "connection was reset and its application keeps the socket; then the event comes later and "
    "counts in tcpvitals_late_events_total."};
constexpr MetricDesc kLateEvents{"tcpvitals_late_events_total", kCounter,
                                 "Events that came after their connection was given up as "
                                 "vanished, and made its counters whole."};
constexpr MetricDesc kWithoutCounters{
    "tcpvitals_closes_without_counters_total", kCounter,
    "Connections counted as closed whose final counters the kernel had cleared (zero linger, "
    "disconnect): segments and bytes since their last dump are only in the host's totals."};

constexpr MetricDesc kAttributed{
    "tcpvitals_attributed_retransmits_ratio",
    kGauge,
    "Share of the host's retransmitted segments since the start that is in "
    "tcp_retransmitted_segments_total of some group; the rest was withheld by the kernel.",
    {"netns"},
    "/proc/net/snmp TcpRetransSegs"};

constexpr MetricDesc kOthers[] = {kClosed,
                                  kEnds,
                                  kConnections,
                                  kAtStart,
                                  kFailures,
                                  kBusy,
                                  kLimited,
                                  kRtt,
                                  kMinRtt,
                                  kDeliveryRate,
                                  kSendQueue,
                                  kReceiveQueue,
                                  kCloseWaitOldest,
                                  kCloseWaitOld,
                                  kPortsUsed,
                                  kPortsLimit,
                                  kHostConnections,
                                  kListenerLength,
                                  kListenerLimit,
                                  kListenerPeak,
                                  kListenerFull,
                                  kSampleAge,
                                  kSampleDuration,
                                  kSamplerCpu,
                                  kSamples,
                                  kDumpBytes,
                                  kTracked,
                                  kTrackedLimit,
                                  kUntracked,
                                  kUntrackedTotal,
                                  kTrackerBytes,
                                  kGroups,
                                  kGroupsLimit,
                                  kGroupsOverflowed,
                                  kGroupsForgotten,
                                  kPeers,
                                  kPeersLimit,
                                  kCgroups,
                                  kCgroupsLimit,
                                  kCgroupsOverflowed,
                                  kCgroupsUnknown,
                                  kNamespaces,
                                  kNamespacesLimit,
                                  kNamespacesOverflowed,
                                  kNamespacesUnwatched,
                                  kNamespacesUnreadable,
                                  kNamespaceFailures,
                                  kStatesComplete,
                                  kUnattributed,
                                  kFeature,
                                  kEvents,
                                  kEventsLost,
                                  kOverruns,
                                  kEventBuffer,
                                  kEventPause,
                                  kVanished,
                                  kLateEvents,
                                  kWithoutCounters,
                                  kAttributed};

constexpr auto kAllMetrics = [] {
  std::array<MetricDesc, std::size(kGroupCounters) + std::size(kOthers)> all{};
  auto out = all.begin();
  for (const GroupCounter& counter : kGroupCounters) *out++ = counter.desc;
  std::copy(std::begin(kOthers), std::end(kOthers), out);
  return all;
}();

// A host with more listeners shows the first of them, by port; the rest is added up under "other".
constexpr std::size_t kMaxListeners = 256;

double to_double(std::uint64_t v) { return static_cast<double>(v); }
double to_seconds(std::uint64_t us) { return static_cast<double>(us) * 1e-6; }

void add(Sink& sink, const MetricDesc& desc, const Snapshot::Group& g, double value) {
  const GroupLabels& l = g.labels;
  sink.add(desc, {l.direction, l.port, l.peer, l.cgroup, l.netns}, value);
}

void add(Sink& sink, const MetricDesc& desc, const Snapshot::Group& g, std::string_view further,
         double value) {
  const GroupLabels& l = g.labels;
  sink.add(desc, {l.direction, l.port, l.peer, l.cgroup, l.netns, further}, value);
}

void add(Sink& sink, const MetricDesc& desc, const Snapshot::Group& g,
         const HistogramSample& sample) {
  const GroupLabels& l = g.labels;
  sink.add_histogram(desc, {l.direction, l.port, l.peer, l.cgroup, l.netns}, sample);
}

std::uint32_t connections_in(const GroupStats& stats, TcpState state) {
  const std::uint32_t tracked = stats.connections[static_cast<std::size_t>(state)];
  switch (state) {
    case TcpState::kTimeWait:
      return tracked + stats.last_dump.time_wait;
    case TcpState::kSynReceived:
      return tracked + stats.last_dump.syn_received;
    default:
      return tracked;
  }
}

void emit_states(Sink& sink, const Snapshot& s) {
  for (const Snapshot::Group& g : s.groups) {
    for (std::size_t i = 1; i < kTcpStates; ++i) {
      const auto state = static_cast<TcpState>(i);
      if (state == TcpState::kClose || state == TcpState::kListen) continue;  // never in a group
      add(sink, kConnections, g, to_string(state), connections_in(g.stats, state));
    }
  }
}

void emit_lives(Sink& sink, const Snapshot& s) {
  for (const Snapshot::Group& g : s.groups) add(sink, kClosed, g, to_double(g.stats.closes()));
  for (const Snapshot::Group& g : s.groups) {
    add(sink, kAtStart, g, static_cast<double>(g.stats.at_start));
  }
  for (const Snapshot::Group& g : s.groups) {
    for (std::size_t i = 0; i < kConnectionEnds; ++i) {
      add(sink, kEnds, g, to_string(static_cast<ConnectionEnd>(i)), to_double(g.stats.closed[i]));
    }
  }
  for (const Snapshot::Group& g : s.groups) {
    if (g.labels.direction == to_string(Direction::kInbound)) continue;  // attempts are ours
    for (std::size_t i = 0; i < kConnectFailures; ++i) {
      add(sink, kFailures, g, to_string(static_cast<ConnectFailure>(i)),
          to_double(g.stats.failures[i]));
    }
  }
}

void emit_counters(Sink& sink, const Snapshot& s) {
  for (const GroupCounter& counter : kGroupCounters) {
    if (counter.needs > s.info_length) continue;
    for (const Snapshot::Group& g : s.groups) {
      add(sink, counter.desc, g, to_double(g.stats.*counter.field));
    }
  }
}

void emit_times(Sink& sink, const Snapshot& s) {
  if (s.info_length < NEEDS(send_buffer_limited_us)) return;
  for (const Snapshot::Group& g : s.groups) add(sink, kBusy, g, to_seconds(g.stats.busy_us));
  for (const Snapshot::Group& g : s.groups) {
    add(sink, kLimited, g, "receive_window", to_seconds(g.stats.receive_window_limited_us));
    add(sink, kLimited, g, "send_buffer", to_seconds(g.stats.send_buffer_limited_us));
  }
}

void emit_distributions(Sink& sink, const Snapshot& s) {
  for (const Snapshot::Group& g : s.groups) add(sink, kRtt, g, g.stats.rtt.sample());
  if (s.info_length >= NEEDS(min_rtt_us)) {
    for (const Snapshot::Group& g : s.groups) add(sink, kMinRtt, g, g.stats.min_rtt.sample());
  }
  if (s.info_length >= NEEDS(delivery_rate)) {
    for (const Snapshot::Group& g : s.groups) {
      add(sink, kDeliveryRate, g, g.stats.delivery_rate.sample());
    }
  }
}

void emit_last_dump(Sink& sink, const Snapshot& s) {
  for (const Snapshot::Group& g : s.groups) {
    const GroupStats::LastDump& last = g.stats.last_dump;
    add(sink, kSendQueue, g, to_double(last.send_queue_bytes));
    add(sink, kReceiveQueue, g, to_double(last.receive_queue_bytes));
    add(sink, kCloseWaitOldest, g, last.close_wait_oldest);
    add(sink, kCloseWaitOld, g, last.close_wait_old);
  }
}

void emit_ephemeral_ports(Sink& sink, const Snapshot& s) {
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
    add(sink, kPortsUsed, *busiest[i], busiest[i]->stats.last_dump.ephemeral_ports);
  }
  sink.add(kPortsLimit, s.ephemeral.last - s.ephemeral.first + 1);
}

void emit_listener(Sink& sink, const Listener& l, std::initializer_list<std::string_view> labels) {
  sink.add(kListenerLength, labels, l.queue_length);
  sink.add(kListenerLimit, labels, l.queue_limit);
  sink.add(kListenerPeak, labels, l.queue_peak);
  sink.add(kListenerFull, labels, to_double(l.queue_full));
}

void emit_listeners(Sink& sink, const Snapshot::Namespace& space) {
  const std::size_t shown = std::min(kMaxListeners, space.listeners.size());
  for (std::size_t i = 0; i < shown; ++i) {
    const auto& [listener, port] = space.listeners[i];
    emit_listener(sink, listener, {port, to_string(listener.endpoint.address), space.netns});
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
  emit_listener(sink, other, {"other", "other", space.netns});
}

void emit_unattributed(Sink& sink, const Snapshot::Namespace& space) {
  if (!space.since_start) return;
  const HostTotals& host = *space.since_start;
  const TrackerStats& ours = space.tracker;
  const auto rest = [&](std::string_view counter, double all, std::uint64_t attributed) {
    sink.add(kUnattributed, {counter, space.netns}, all - to_double(attributed));
  };
  rest("active_opens", host.active_opens, ours.attempts);
  rest("passive_opens", host.passive_opens, ours.accepted);
  rest("attempt_fails", host.attempt_fails, ours.failed);
  const double retransmitted = host.retransmitted_segments;
  sink.add(kAttributed, {space.netns},
           retransmitted > 0 ? to_double(ours.retransmitted_segments) / retransmitted : 1);
}

void emit_namespace(Sink& sink, const Snapshot::Namespace& space) {
  for (std::size_t i = 1; i < kTcpStates; ++i) {
    sink.add(kHostConnections, {to_string(static_cast<TcpState>(i)), space.netns}, space.states[i]);
  }
  emit_listeners(sink, space);
  emit_unattributed(sink, space);
}

void emit_bounds(Sink& sink, const Snapshot& s) {
  const ConnectionLimits& limits = s.config.limits;
  sink.add(kTracked, to_double(s.tracked));
  sink.add(kTrackedLimit, to_double(limits.connections));
  sink.add(kUntracked, to_double(s.untracked));
  sink.add(kUntrackedTotal, to_double(s.tracker.untracked));
  sink.add(kTrackerBytes, to_double(s.tracker_bytes));
  sink.add(kGroups, to_double(s.groups.size()));
  sink.add(kGroupsLimit, to_double(limits.groups));
  sink.add(kGroupsOverflowed, to_double(s.groups_overflowed));
  sink.add(kGroupsForgotten, to_double(s.groups_forgotten));
  sink.add(kPeers, to_double(s.peers));
  sink.add(kPeersLimit, to_double(limits.peers));
  sink.add(kCgroups, to_double(s.cgroups));
  sink.add(kCgroupsLimit, to_double(limits.cgroups));
  sink.add(kCgroupsOverflowed, to_double(s.cgroup_names.overflowed));
  sink.add(kCgroupsUnknown, to_double(s.cgroup_names.unknown));
  const NamespaceStats& spaces = s.network_namespaces;
  sink.add(kNamespaces, to_double(spaces.watched));
  sink.add(kNamespacesLimit, to_double(limits.namespaces));
  sink.add(kNamespacesOverflowed, to_double(spaces.overflowed));
  sink.add(kNamespacesUnwatched, {"limit"}, to_double(spaces.left_out));
  sink.add(kNamespacesUnwatched, {"unopened"}, to_double(spaces.unopened));
  sink.add(kNamespacesUnreadable, to_double(spaces.unreadable));
  sink.add(kNamespaceFailures, to_double(s.namespace_failures));
}

void emit_own(Sink& sink, const Snapshot& s) {
  sink.add(kSampleAge, seconds_since(s.dump_end));
  sink.add(kSampleDuration, s.dump_seconds);
  sink.add(kSamplerCpu, s.cpu_seconds);
  sink.add(kSamples, to_double(s.dumps));
  sink.add(kDumpBytes, to_double(s.dump_bytes));
  sink.add(kStatesComplete, s.config.excludes.empty() ? 1 : 0);
  sink.add(kEvents, to_double(s.tracker.events));
  sink.add(kEventsLost, to_double(s.events_lost));
  sink.add(kOverruns, to_double(s.event_overruns));
  sink.add(kEventBuffer, to_double(s.event_buffer_bytes));
  sink.add(kEventPause, s.longest_event_pause_seconds);
  sink.add(kVanished, to_double(s.tracker.vanished));
  sink.add(kLateEvents, to_double(s.tracker.late_events));
  sink.add(kWithoutCounters, to_double(s.tracker.closes_without_counters));
  for (const Snapshot::Feature& feature : s.features) {
    sink.add(kFeature, {feature.name}, feature.missing.empty() ? 1 : 0);
  }
}

}  // namespace

std::span<const MetricDesc> connection_metrics() { return kAllMetrics; }

void emit_connections(Sink& sink, const Snapshot& s) {
  emit_own(sink, s);
  emit_bounds(sink, s);
  for (const Snapshot::Namespace& space : s.namespaces) emit_namespace(sink, space);
  emit_states(sink, s);
  emit_lives(sink, s);
  emit_counters(sink, s);
  emit_times(sink, s);
  emit_distributions(sink, s);
  emit_last_dump(sink, s);
  emit_ephemeral_ports(sink, s);
}

}  // namespace tcpvitals
