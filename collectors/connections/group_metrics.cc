#include "collectors/connections/group_metrics.h"

#include <algorithm>
#include <array>
#include <string_view>

#include "collectors/rows.h"

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

constexpr Row<GroupStats> kGroupRows[] = {
    {{"tcp_connections_closed_total", kCounter,
      "Connections that ended after they were established, those of tcp_connections_at_start "
      "included.",
      GROUP_LABELS, "sock_diag dump and DESTROY events"},
     [](const GroupStats& g) { return to_double(g.closes()); }},
    {{"tcp_connections_at_start", kGauge,
      "Connections that were established before counting began, plus those "
      "that a new configuration moved here, less those it moved away: "
      "opened - closed + this is what lives.",
      GROUP_LABELS, "sock_diag first dump"},
     [](const GroupStats& g) { return static_cast<double>(g.at_start); }},
    {{"tcp_send_queue_bytes", kGauge, "Bytes written by applications and not yet acknowledged.",
      GROUP_LABELS, "sock_diag idiag_wqueue"},
     [](const GroupStats& g) { return to_double(g.last_dump.send_queue_bytes); }},
    {{"tcp_receive_queue_bytes", kGauge, "Bytes received and not yet read by applications.",
      GROUP_LABELS, "sock_diag idiag_rqueue"},
     [](const GroupStats& g) { return to_double(g.last_dump.receive_queue_bytes); }},
    {{"tcp_close_wait_oldest_seconds", kGauge,
      "Age of the connection that is longest in CLOSE_WAIT, 0 if none is: the peer has closed, our "
      "application has not.",
      GROUP_LABELS, "sock_diag idiag_state, tcpi_last_ack_recv"},
     [](const GroupStats& g) { return to_double(g.last_dump.close_wait_oldest); }},
    {{"tcp_close_wait_old_connections", kGauge,
      "Connections in CLOSE_WAIT for longer than close_wait_threshold (60 s): most likely leaked.",
      GROUP_LABELS, "sock_diag idiag_state, tcpi_last_ack_recv"},
     [](const GroupStats& g) { return to_double(g.last_dump.close_wait_old); }},
};

// States that a socket of a group may be in.
constexpr std::array kGroupStates{
    TcpState::kEstablished, TcpState::kSynSent,  TcpState::kSynReceived,
    TcpState::kFinWait1,    TcpState::kFinWait2, TcpState::kTimeWait,
    TcpState::kCloseWait,   TcpState::kLastAck,  TcpState::kClosing};
constexpr auto kGroupStateNames = [] {
  std::array<std::string_view, kGroupStates.size()> names;
  for (std::size_t i = 0; i < names.size(); ++i) names[i] = to_string(kGroupStates[i]);
  return names;
}();

double connections_in(const GroupStats& stats, TcpState state) {
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

constexpr LabelledRow<GroupStats> kLabelledRows[] = {
    {{"tcp_connections", kGauge,
      "Sockets by state; time_wait and syn_recv hold no connection and are of the last dump.",
      GROUP_LABELS_AND("state"), "sock_diag idiag_state"},
     kGroupStateNames,
     [](const GroupStats& g, std::size_t i) { return connections_in(g, kGroupStates[i]); }},
    {{"tcp_connection_ends_total", kCounter,
      "How those of tcp_connections_closed_total ended: orderly (our FIN was acknowledged), reset "
      "(it was not: a reset by either side, or a close with data unread), timeout (the peer "
      "stopped "
      "answering), aborted (zero linger: no final counters), unknown (no event came in time).",
      GROUP_LABELS_AND("how"), "sock_diag DESTROY events"},
     kConnectionEndNames,
     [](const GroupStats& g, std::size_t i) { return to_double(g.closed[i]); }},
};

// Attempts are ours: of what comes in there are none.
constexpr LabelledRow<GroupStats> kOutboundRows[] = {
    {{"tcp_connection_failures_total", kCounter,
      "Attempts to connect that never were established: refused by a "
      "reset, timed out, given up by us, "
      "or unknown where the kernel clears the evidence.",
      GROUP_LABELS_AND("reason"), "sock_diag DESTROY events"},
     kConnectFailureNames,
     [](const GroupStats& g, std::size_t i) { return to_double(g.failures[i]); }},
};

constexpr std::array<std::string_view, 2> kLimits{"receive_window", "send_buffer"};
constexpr Row<GroupStats> kBusyRows[] = {
    {{"tcp_busy_seconds_total", kCounter,
      "Time connections had data outstanding, summed over connections: the denominator of "
      "tcp_limited_seconds_total; a sender that is rarely busy waits for its application.",
      GROUP_LABELS, "tcpi_busy_time"},
     [](const GroupStats& g) { return us_to_seconds(g.busy_us); }},
};
constexpr LabelledRow<GroupStats> kLimitedRows[] = {
    {{"tcp_limited_seconds_total", kCounter,
      "Part of tcp_busy_seconds_total in which sending had to wait for the peer's receive window "
      "or "
      "for our own send buffer: receive_window near busy, the peer's application reads too slowly; "
      "send_buffer near busy, our buffer is too small for the path; neither, the network is the "
      "limit.",
      GROUP_LABELS_AND("by"), "tcpi_rwnd_limited, tcpi_sndbuf_limited"},
     kLimits,
     [](const GroupStats& g, std::size_t i) {
       return us_to_seconds(i == 0 ? g.receive_window_limited_us : g.send_buffer_limited_us);
     }},
};

constexpr HistogramRow<GroupStats> kHistogramRows[] = {
    {{"tcp_rtt_seconds", kHistogram,
      "Smoothed round-trip time, observed when data was acknowledged since the "
      "last look, and at close; "
      "holds the peer's delayed ACKs.",
      GROUP_LABELS, "tcpi_rtt"},
     [](const GroupStats& g) { return g.rtt.sample(); },
     0},
    {{"tcp_min_rtt_seconds", kHistogram,
      "Lowest round-trip time of a connection, observed once at its close: the path without "
      "queues.",
      GROUP_LABELS, "tcpi_min_rtt"},
     [](const GroupStats& g) { return g.min_rtt.sample(); },
     NEEDS(min_rtt_us)},
    {{"tcp_delivery_rate_bytes_per_second", kHistogram,
      "Rate at which the network delivered data, looked at with tcp_rtt_seconds, only where the "
      "application had more to send: what the path can carry.",
      GROUP_LABELS, "tcpi_delivery_rate, tcpi_delivery_rate_app_limited"},
     [](const GroupStats& g) { return g.delivery_rate.sample(); },
     NEEDS(delivery_rate)},
};

constexpr auto kMetrics = descs_of(kGroupCounters, kGroupRows, kLabelledRows, kOutboundRows,
                                   kBusyRows, kLimitedRows, kHistogramRows);

void add(Sink& sink, const MetricDesc& desc, const Snapshot::Group& g, double value) {
  const GroupLabels& l = g.labels;
  sink.add(desc, {l.direction, l.port, l.peer, l.cgroup, l.netns}, value);
}

void add_rows(Sink& sink, std::span<const Row<GroupStats>> rows, const Snapshot& s) {
  for (const auto& row : rows) {
    for (const Snapshot::Group& g : s.groups) add(sink, row.desc, g, row.value(g.stats));
  }
}

void add_labelled(Sink& sink, const LabelledRow<GroupStats>& row, const Snapshot::Group& g) {
  const GroupLabels& l = g.labels;
  for (std::size_t i = 0; i < row.values.size(); ++i) {
    sink.add(row.desc, {l.direction, l.port, l.peer, l.cgroup, l.netns, row.values[i]},
             row.value(g.stats, i));
  }
}

void add_rows(Sink& sink, std::span<const LabelledRow<GroupStats>> rows, const Snapshot& s) {
  for (const auto& row : rows) {
    for (const Snapshot::Group& g : s.groups) add_labelled(sink, row, g);
  }
}

void add_outbound_rows(Sink& sink, const Snapshot& s) {
  for (const auto& row : kOutboundRows) {
    for (const Snapshot::Group& g : s.groups) {
      if (g.labels.direction != to_string(Direction::kInbound)) add_labelled(sink, row, g);
    }
  }
}

void add_counters(Sink& sink, const Snapshot& s) {
  for (const GroupCounter& counter : kGroupCounters) {
    if (counter.needs > s.info_length) continue;
    for (const Snapshot::Group& g : s.groups) {
      add(sink, counter.desc, g, to_double(g.stats.*counter.field));
    }
  }
}

void add_histograms(Sink& sink, const Snapshot& s) {
  for (const auto& row : kHistogramRows) {
    if (row.needs > s.info_length) continue;
    for (const Snapshot::Group& g : s.groups) {
      const GroupLabels& l = g.labels;
      sink.add_histogram(row.desc, {l.direction, l.port, l.peer, l.cgroup, l.netns},
                         row.sample(g.stats));
    }
  }
}

}  // namespace

std::span<const MetricDesc> group_metrics() { return kMetrics; }

void emit_groups(Sink& sink, const Snapshot& s) {
  add_rows(sink, kLabelledRows, s);
  add_rows(sink, kGroupRows, s);
  add_outbound_rows(sink, s);
  add_counters(sink, s);
  if (s.info_length >= NEEDS(send_buffer_limited_us)) {
    add_rows(sink, kBusyRows, s);
    add_rows(sink, kLimitedRows, s);
  }
  add_histograms(sink, s);
}

}  // namespace tcpvitals
