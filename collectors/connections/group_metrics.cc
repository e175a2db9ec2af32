#include "collectors/connections/group_metrics.h"

#include <algorithm>
#include <array>
#include <string_view>
#include <vector>

#include "collectors/rows.h"

namespace tcpvitals {
namespace {

using enum MetricType;

#define GROUP_LABELS \
  { "direction", "port", "peer", "cgroup", "netns" }
#define GROUP_LABELS_AND(label) \
  { "direction", "port", "peer", "cgroup", "netns", label }

// The counters of collectors/sock_diag/tcp_counters.h. Where one metric has several, the first
// describes it.
constexpr MetricDesc desc_of(const TcpCounterRow& row) {
  MetricDesc desc{row.metric, kCounter, row.help, GROUP_LABELS, row.source};
  if (!row.by.empty()) desc.labels[5] = "by";
  return desc;
}
constexpr auto kTcpMetrics = [] {
  constexpr auto kMetrics = std::count_if(std::begin(kTcpCounters), std::end(kTcpCounters),
                                          [](const TcpCounterRow& r) { return !r.help.empty(); });
  std::array<MetricDesc, static_cast<std::size_t>(kMetrics)> all{};
  auto out = all.begin();
  for (const TcpCounterRow& row : kTcpCounters) {
    if (!row.help.empty()) *out++ = desc_of(row);
  }
  return all;
}();

constexpr MetricDesc kRetransmittedSyns{
    "tcp_retransmitted_syns_total", kCounter,
    "Part of tcp_retransmitted_segments_total without data: SYNs and SYN-ACKs, and FINs, which "
    "tcp_info does not tell from them. Divide by tcp_syns_sent_total.",
    GROUP_LABELS, "tcpi_total_retrans, tcpi_bytes_retrans, tcpi_data_segs_out"};

// What an attempt has, established or not.
constexpr Row<GroupStats> kAttemptRows[] = {
    {{"tcp_syns_sent_total", kCounter,
      "SYNs and SYN-ACKs sent: one for each attempt to connect and each connection accepted, and "
      "tcp_retransmitted_syns_total, of which this is the denominator.",
      GROUP_LABELS, "sock_diag dump and DESTROY events"},
     [](const GroupStats& g) { return to_double(g.syns_sent); }},
};

constexpr Row<GroupStats> kGroupRows[] = {
    {{"tcp_connections_opened_total", kCounter,
      "Connections that were established, each counted once, however short it lived.", GROUP_LABELS,
      "sock_diag dump and DESTROY events"},
     [](const GroupStats& g) { return to_double(g.opened); }},
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
    case TcpState::kFinWait2:
      return tracked + stats.last_dump.fin_wait2;
    case TcpState::kTimeWait:
      return tracked + stats.last_dump.time_wait;
    case TcpState::kSynReceived:
      return tracked + stats.last_dump.syn_received;
    default:
      return tracked;
  }
}

constexpr LabelledRow<GroupStats> kStates{
    {"tcp_connections", kGauge,
     "Sockets by the kernel's state. time_wait, syn_recv and the fin_wait2 of closed sockets are "
     "of "
     "the last dump and no connections that live.",
     GROUP_LABELS_AND("state"), "sock_diag idiag_state"},
    kGroupStateNames,
    [](const GroupStats& g, std::size_t i) { return connections_in(g, kGroupStates[i]); }};

constexpr LabelledRow<GroupStats> kEnds{
    {"tcp_connection_ends_total", kCounter,
     "How those of tcp_connections_closed_total ended. orderly: the peer acknowledged our FIN. "
     "reset: it did not; a reset by either side, or a close with data unread. timeout: it no "
     "longer "
     "acknowledged; what was repeated or probed was unanswered at the end, whether the kernel gave "
     "up or a reset came last. aborted: the kernel disconnected the socket and cleared its "
     "counters "
     "first; zero linger, a disconnect, or an MPTCP subflow. unknown: no event came in time, or "
     "this "
     "kernel does not tell.",
     GROUP_LABELS_AND("how"),
     "sock_diag DESTROY events: remote port, tcpi_bytes_acked, tcpi_retransmits, tcpi_probes"},
    kConnectionEndNames,
    [](const GroupStats& g, std::size_t i) { return to_double(g.closed[i]); }};

// Attempts are ours: of what comes in there are none.
constexpr LabelledRow<GroupStats> kFailures{
    {"tcp_connection_failures_total", kCounter,
     "Attempts to connect that never were established. refused: the peer answered, with a reset. "
     "unanswered: no TCP segment came back; packets were dropped or rejected by ICMP, nobody has "
     "the address, or the application closed the attempt first. unknown: a blocking connect, of "
     "which the kernel clears the evidence.",
     GROUP_LABELS_AND("reason"), "sock_diag DESTROY events: remote port, tcpi_segs_in"},
    kConnectFailureNames,
    [](const GroupStats& g, std::size_t i) { return to_double(g.failures[i]); }};

constexpr HistogramRow<GroupStats> kHistogramRows[] = {
    {{"tcp_rtt_seconds", kHistogram,
      "Smoothed round-trip time of a connection, observed when data was acknowledged: at most once "
      "in ten seconds, and at its close. The peer's delayed acknowledgements are part of it.",
      GROUP_LABELS, "tcpi_rtt"},
     [](const GroupStats& g) { return g.rtt.sample(); },
     0},
    {{"tcp_min_rtt_seconds", kHistogram,
      "Lowest round-trip time of a connection, observed once at its close: the path without "
      "queues.",
      GROUP_LABELS, "tcpi_min_rtt"},
     [](const GroupStats& g) { return g.min_rtt.sample(); },
     TCPVITALS_NEEDS(min_rtt_us)},
    {{"tcp_delivery_rate_bytes_per_second", kHistogram,
      "Rate at which the network delivered data, observed with tcp_rtt_seconds, only where the "
      "application had more to send: what the path can carry.",
      GROUP_LABELS, "tcpi_delivery_rate, tcpi_delivery_rate_app_limited"},
     [](const GroupStats& g) { return g.delivery_rate.sample(); },
     TCPVITALS_NEEDS(delivery_rate)},
};

constexpr LabelledRow<GroupStats> kLabelledRows[] = {kStates, kEnds, kFailures};
constexpr auto kMetrics = joined(descs_of(kGroupRows, kAttemptRows, kLabelledRows, kHistogramRows),
                                 kTcpMetrics, std::array{kRetransmittedSyns});

using Groups = std::span<const Snapshot::Group* const>;

// `further` is the value of one more label, if the desc has one.
void add(Sink& sink, const MetricDesc& desc, const Snapshot::Group& g, std::string_view further,
         double value) {
  const GroupLabels& l = g.labels;
  const std::string_view values[] = {l.direction, l.port, l.peer, l.cgroup, l.netns, further};
  sink.add(desc, std::span(values).first(desc.label_count()), value);
}

void add_rows(Sink& sink, std::span<const Row<GroupStats>> rows, Groups groups) {
  for (const auto& row : rows) {
    for (const Snapshot::Group* g : groups) add(sink, row.desc, *g, {}, row.value(g->stats));
  }
}

void add_labelled(Sink& sink, const LabelledRow<GroupStats>& row, Groups groups) {
  for (const Snapshot::Group* g : groups) {
    for (std::size_t i = 0; i < row.values.size(); ++i) {
      add(sink, row.desc, *g, row.values[i], row.value(g->stats, i));
    }
  }
}

void add_counter(Sink& sink, const TcpCounterRow& row, Groups groups) {
  for (const Snapshot::Group* g : groups) {
    add(sink, desc_of(row), *g, row.by, to_double(g->stats.*row.total) * row.unit);
  }
}

// Of an attempt too, which repeats its SYN: the sum over all groups is the host's.
bool counts_attempts(const TcpCounterRow& row) {
  return row.total == &TcpTotals::retransmitted_segments ||
         row.total == &TcpTotals::retransmission_timeouts;
}

void add_counters(Sink& sink, std::size_t info_length, Groups all, Groups connected) {
  for (const TcpCounterRow& row : kTcpCounters) {
    if (row.needs <= info_length) add_counter(sink, row, counts_attempts(row) ? all : connected);
  }
  if (info_length < TCPVITALS_NEEDS(bytes_retransmitted)) return;
  for (const Snapshot::Group* g : all) {
    add(sink, kRetransmittedSyns, *g, {}, to_double(g->stats.retransmitted_syns));
  }
}

void add_histograms(Sink& sink, std::size_t info_length, Groups groups) {
  for (const auto& row : kHistogramRows) {
    if (row.needs > info_length) continue;
    for (const Snapshot::Group* g : groups) {
      const GroupLabels& l = g->labels;
      sink.add_histogram(row.desc, {l.direction, l.port, l.peer, l.cgroup, l.netns},
                         row.sample(g->stats));
    }
  }
}

template <typename Predicate>
std::vector<const Snapshot::Group*> groups_that(const Snapshot& s, const Predicate& holds) {
  std::vector<const Snapshot::Group*> groups;
  for (const Snapshot::Group& g : s.groups) {
    if (holds(g)) groups.push_back(&g);
  }
  return groups;
}

}  // namespace

std::span<const MetricDesc> group_metrics() { return kMetrics; }

void emit_groups(Sink& sink, const Snapshot& s) {
  const auto all = groups_that(s, [](const auto&) { return true; });
  const auto outbound = groups_that(
      s, [](const auto& g) { return g.labels.direction != to_string(Direction::kInbound); });
  const auto connected = groups_that(s, [](const auto& g) { return g.stats.had_connection(); });
  add_labelled(sink, kStates, all);
  add_labelled(sink, kFailures, outbound);
  add_rows(sink, kAttemptRows, all);
  add_labelled(sink, kEnds, connected);
  add_rows(sink, kGroupRows, connected);
  add_counters(sink, s.info_length, all, connected);
  add_histograms(sink, s.info_length, connected);
}

}  // namespace tcpvitals
