#include "collectors/connections/connections_collector.h"

#include <algorithm>
#include <charconv>
#include <numeric>
#include <optional>

#include "collectors/snmp.h"

namespace tcpvitals {
namespace {

using enum MetricType;

#define GROUP_LABELS \
  { "direction", "port", "peer" }

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
    {{"tcp_connections_closed_total", kCounter,
      "Connections that ended after they were established, those of tcp_connections_at_start "
      "included.",
      GROUP_LABELS, "sock_diag dump and DESTROY events"},
     &GroupStats::closed,
     0},
    {{"tcp_data_segments_sent_total", kCounter,
      "Segments with data sent, retransmissions included: the denominator of "
      "tcp_retransmitted_segments_total.",
      GROUP_LABELS, "tcpi_data_segs_out"},
     &GroupStats::data_segments_sent,
     NEEDS(data_segs_out)},
    {{"tcp_retransmitted_segments_total", kCounter,
      "Segments retransmitted, SYN included; divide by tcp_data_segments_sent_total.", GROUP_LABELS,
      "tcpi_total_retrans"},
     &GroupStats::retransmitted_segments,
     NEEDS(total_retrans)},
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

constexpr MetricDesc kBusy{
    "tcp_busy_seconds_total", kCounter,
    "Time connections had data outstanding, summed over connections: the denominator of "
    "tcp_limited_seconds_total.",
    GROUP_LABELS, "tcpi_busy_time"};
constexpr MetricDesc kLimited{
    "tcp_limited_seconds_total",
    kCounter,
    "Part of tcp_busy_seconds_total in which sending had to wait for the peer's receive window or "
    "for our own send buffer; the rest is the network.",
    {"direction", "port", "peer", "by"},
    "tcpi_rwnd_limited, tcpi_sndbuf_limited"};
constexpr MetricDesc kConnections{
    "tcp_connections",
    kGauge,
    "Sockets by state; time_wait and syn_recv hold no connection and are of the last dump.",
    {"direction", "port", "peer", "state"},
    "sock_diag idiag_state"};
constexpr MetricDesc kAtStart{"tcp_connections_at_start", kGauge,
                              "Connections that were established before counting began: opened - "
                              "closed + this is what lives.",
                              GROUP_LABELS, "sock_diag first dump"};
constexpr MetricDesc kFailures{"tcp_connection_failures_total",
                               kCounter,
                               "Attempts to connect that never were established: refused by a "
                               "reset, timed out, given up by us, "
                               "or unknown where the kernel clears the evidence.",
                               {"direction", "port", "peer", "reason"},
                               "sock_diag DESTROY events"};
constexpr MetricDesc kRtt{"tcp_rtt_seconds", kHistogram,
                          "Smoothed round-trip time, observed when data was acknowledged since the "
                          "last look, and at close; "
                          "holds the peer's delayed ACKs.",
                          GROUP_LABELS, "tcpi_rtt"};
constexpr MetricDesc kMinRtt{
    "tcp_min_rtt_seconds", kHistogram,
    "Lowest round-trip time of a connection, observed once at its close: the path without queues.",
    GROUP_LABELS, "tcpi_min_rtt"};
constexpr MetricDesc kSendQueue{"tcp_send_queue_bytes", kGauge,
                                "Bytes written by applications and not yet acknowledged.",
                                GROUP_LABELS, "sock_diag idiag_wqueue"};
constexpr MetricDesc kReceiveQueue{"tcp_receive_queue_bytes", kGauge,
                                   "Bytes received and not yet read by applications.", GROUP_LABELS,
                                   "sock_diag idiag_rqueue"};
constexpr MetricDesc kHostConnections{"tcp_host_connections",
                                      kGauge,
                                      "Sockets by state, as ss counts them.",
                                      {"state"},
                                      "sock_diag idiag_state"};
constexpr MetricDesc kListenerLength{
    "tcp_listener_queue_length",
    kGauge,
    "Connections that are established and wait for accept; divide by tcp_listener_queue_limit.",
    {"port", "address"},
    "sock_diag idiag_rqueue"};
constexpr MetricDesc kListenerLimit{
    "tcp_listener_queue_limit",
    kGauge,
    "Connections that may wait for accept: the backlog as the kernel granted it.",
    {"port", "address"},
    "sock_diag idiag_wqueue"};
constexpr MetricDesc kListenerPeak{
    "tcp_listener_queue_peak",
    kGauge,
    "Highest tcp_listener_queue_length of the last minute, looked at every 100 ms.",
    {"port", "address"},
    "sock_diag idiag_rqueue"};

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
constexpr MetricDesc kTrackerBytes{"tcpvitals_tracker_bytes", kGauge,
                                   "Memory of the tracker's tables."};
constexpr MetricDesc kGroups{"tcpvitals_groups", kGauge,
                             "Groups of connections: combinations of direction, port and peer."};
constexpr MetricDesc kGroupsLimit{
    "tcpvitals_groups_limit", kGauge,
    "Groups at most; the connections of further ones are counted under port \"other\"."};
constexpr MetricDesc kGroupsOverflowed{"tcpvitals_groups_overflowed_total", kCounter,
                                       "Times that a socket was counted under port \"other\" "
                                       "because there was no room for its group."};
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
constexpr MetricDesc kEventBuffer{"tcpvitals_event_buffer_bytes", kGauge,
                                  "Size of the event buffer, as the kernel granted it."};
constexpr MetricDesc kVanished{"tcpvitals_connections_vanished_total", kCounter,
                               "Tracked connections that were missing from two dumps with no "
                               "event: what they did since the last "
                               "one is not known."};
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
    {},
    "/proc/net/snmp TcpRetransSegs"};

constexpr MetricDesc kScalars[] = {
    kHostConnections,  kListenerLength, kListenerLimit,   kListenerPeak, kSampleAge,
    kSampleDuration,   kSamplerCpu,     kSamples,         kDumpBytes,    kTracked,
    kTrackedLimit,     kUntracked,      kTrackerBytes,    kGroups,       kGroupsLimit,
    kGroupsOverflowed, kEvents,         kEventsLost,      kOverruns,     kEventBuffer,
    kVanished,         kLateEvents,     kWithoutCounters, kAttributed};

constexpr auto kAllMetrics = [] {
  constexpr MetricDesc kOfGroups[] = {kConnections, kAtStart, kFailures,  kBusy,        kLimited,
                                      kRtt,         kMinRtt,  kSendQueue, kReceiveQueue};
  std::array<MetricDesc, std::size(kGroupCounters) + std::size(kOfGroups) + std::size(kScalars)>
      all{};
  auto out = all.begin();
  for (const GroupCounter& counter : kGroupCounters) *out++ = counter.desc;
  out = std::copy(std::begin(kOfGroups), std::end(kOfGroups), out);
  std::copy(std::begin(kScalars), std::end(kScalars), out);
  return all;
}();

// A host with more listeners shows the first of them, by port; the rest is added up under "other".
constexpr std::size_t kMaxListeners = 256;

double to_double(std::uint64_t v) { return static_cast<double>(v); }
double to_seconds(std::uint64_t us) { return static_cast<double>(us) * 1e-6; }

void emit_group_counters(Sink& sink, const Snapshot& s) {
  for (const GroupCounter& counter : kGroupCounters) {
    if (counter.needs > s.info_length) continue;
    for (const Snapshot::Group& g : s.groups) {
      sink.add(counter.desc, {to_string(g.direction), g.port, g.peer},
               to_double(g.stats.*counter.field));
    }
  }
}

void emit_group_times(Sink& sink, const Snapshot& s) {
  if (s.info_length < NEEDS(send_buffer_limited_us)) return;
  for (const Snapshot::Group& g : s.groups) {
    sink.add(kBusy, {to_string(g.direction), g.port, g.peer}, to_seconds(g.stats.busy_us));
  }
  for (const Snapshot::Group& g : s.groups) {
    sink.add(kLimited, {to_string(g.direction), g.port, g.peer, "receive_window"},
             to_seconds(g.stats.receive_window_limited_us));
    sink.add(kLimited, {to_string(g.direction), g.port, g.peer, "send_buffer"},
             to_seconds(g.stats.send_buffer_limited_us));
  }
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

void emit_group_states(Sink& sink, const Snapshot& s) {
  for (const Snapshot::Group& g : s.groups) {
    for (std::size_t i = 1; i < kTcpStates; ++i) {
      const auto state = static_cast<TcpState>(i);
      if (state == TcpState::kClose || state == TcpState::kListen) continue;  // never in a group
      sink.add(kConnections, {to_string(g.direction), g.port, g.peer, to_string(state)},
               connections_in(g.stats, state));
    }
  }
  for (const Snapshot::Group& g : s.groups) {
    sink.add(kAtStart, {to_string(g.direction), g.port, g.peer}, to_double(g.stats.at_start));
  }
  for (const Snapshot::Group& g : s.groups) {
    if (g.direction == Direction::kInbound) continue;  // attempts are ours
    for (std::size_t i = 0; i < kConnectFailures; ++i) {
      sink.add(kFailures,
               {to_string(g.direction), g.port, g.peer, to_string(static_cast<ConnectFailure>(i))},
               to_double(g.stats.failures[i]));
    }
  }
}

void emit_group_distributions(Sink& sink, const Snapshot& s) {
  for (const Snapshot::Group& g : s.groups) {
    sink.add_histogram(kRtt, {to_string(g.direction), g.port, g.peer}, g.stats.rtt.sample());
  }
  if (s.info_length >= NEEDS(min_rtt_us)) {
    for (const Snapshot::Group& g : s.groups) {
      sink.add_histogram(kMinRtt, {to_string(g.direction), g.port, g.peer},
                         g.stats.min_rtt.sample());
    }
  }
  for (const Snapshot::Group& g : s.groups) {
    sink.add(kSendQueue, {to_string(g.direction), g.port, g.peer},
             to_double(g.stats.last_dump.send_queue_bytes));
    sink.add(kReceiveQueue, {to_string(g.direction), g.port, g.peer},
             to_double(g.stats.last_dump.receive_queue_bytes));
  }
}

void emit_host(Sink& sink, const Snapshot& s) {
  for (std::size_t i = 1; i < kTcpStates; ++i) {
    sink.add(kHostConnections, {to_string(static_cast<TcpState>(i))}, s.host_states[i]);
  }
}

void emit_listener(Sink& sink, const Listener& l, std::string_view port, std::string_view address) {
  sink.add(kListenerLength, {port, address}, l.queue_length);
  sink.add(kListenerLimit, {port, address}, l.queue_limit);
  sink.add(kListenerPeak, {port, address}, l.queue_peak);
}

void emit_listeners(Sink& sink, const Snapshot& s) {
  const std::size_t shown = std::min(kMaxListeners, s.listeners.size());
  for (std::size_t i = 0; i < shown; ++i) {
    const Listener& l = s.listeners[i];
    emit_listener(sink, l, std::to_string(l.endpoint.port), to_string(l.endpoint.address));
  }
  if (shown == s.listeners.size()) return;
  Listener other;
  for (std::size_t i = shown; i < s.listeners.size(); ++i) {
    other.queue_length += s.listeners[i].queue_length;
    other.queue_limit += s.listeners[i].queue_limit;
    other.queue_peak = std::max(other.queue_peak, s.listeners[i].queue_peak);
  }
  emit_listener(sink, other, "other", "other");
}

void emit_own(Sink& sink, const Snapshot& s) {
  sink.add(kSampleAge, seconds_since(s.dump_end));
  sink.add(kSampleDuration, s.dump_seconds);
  sink.add(kSamplerCpu, s.cpu_seconds);
  sink.add(kSamples, to_double(s.dumps));
  sink.add(kDumpBytes, to_double(s.dump_bytes));
  sink.add(kTracked, to_double(s.tracked));
  sink.add(kTrackedLimit, to_double(s.tracked_limit));
  sink.add(kUntracked, to_double(s.untracked));
  sink.add(kTrackerBytes, to_double(s.tracker_bytes));
  sink.add(kGroups, to_double(s.groups.size()));
  sink.add(kGroupsLimit, to_double(s.groups_limit));
  sink.add(kGroupsOverflowed, to_double(s.groups_overflowed));
  sink.add(kEvents, to_double(s.tracker.events));
  sink.add(kEventsLost, to_double(s.events_lost));
  sink.add(kOverruns, to_double(s.event_overruns));
  sink.add(kEventBuffer, to_double(s.event_buffer_bytes));
  sink.add(kVanished, to_double(s.tracker.vanished));
  sink.add(kLateEvents, to_double(s.tracker.late_events));
  sink.add(kWithoutCounters, to_double(s.tracker.closes_without_counters));
}

// "32768\t60999\n"; the kernel's default where it cannot be read (the sysctl collector says so).
PortRange ephemeral_ports(const KernelSource& kernel) {
  const auto text = kernel.read("sys/net/ipv4/ip_local_port_range");
  if (!text) return kDefaultEphemeral;
  PortRange range;
  const char* end = text->data() + text->size();
  const auto first = std::from_chars(text->data(), end, range.first);
  const char* rest = std::find_if(first.ptr, end, [](char c) { return c >= '0' && c <= '9'; });
  const auto last = std::from_chars(rest, end, range.last);
  return first.ec == std::errc() && last.ec == std::errc() ? range : kDefaultEphemeral;
}

// Tcp: RetransSegs; nothing where it cannot be read (the snmp collector says so).
std::optional<double> host_retransmits(const KernelSource& kernel) {
  const auto text = kernel.read("net/snmp");
  if (!text) return std::nullopt;
  const auto fields = parse_snmp(*text);
  if (!fields) return std::nullopt;
  const auto field = fields->find("TcpRetransSegs");
  if (field == fields->end()) return std::nullopt;
  return field->second;
}

double attributed_retransmits(const Snapshot& s) {
  return std::accumulate(s.groups.begin(), s.groups.end(), 0.0,
                         [](double sum, const Snapshot::Group& g) {
                           return sum + to_double(g.stats.retransmitted_segments);
                         });
}

class ConnectionsCollector final : public Collector {
 public:
  ConnectionsCollector(const KernelSource& kernel, const ConnectionsOptions& options)
      : kernel_(kernel), retransmits_at_start_(host_retransmits(kernel)) {
    auto sockets = options.open_sockets(options.event_buffer_bytes);
    if (!sockets) {
      open_error_ = std::move(sockets.error());
      return;
    }
    sampler_ = std::make_unique<Sampler>(
        std::move(*sockets), SamplerOptions{.cpu_budget = options.cpu_budget,
                                            .limits = {.connections = options.max_connections},
                                            .max_groups = options.max_groups,
                                            .ephemeral = ephemeral_ports(kernel)});
  }

  std::string_view name() const override { return "connections"; }
  std::span<const MetricDesc> metrics() const override { return kAllMetrics; }

  Result<void> collect(Sink& sink, TimePoint deadline) override {
    if (!sampler_) return Error(open_error_);
    const auto sample = sampler_->sample(deadline);
    if (!sample) return Error(sample.error());
    const Snapshot& s = **sample;
    emit_host(sink, s);
    emit_group_states(sink, s);
    emit_group_counters(sink, s);
    emit_group_times(sink, s);
    emit_group_distributions(sink, s);
    emit_listeners(sink, s);
    emit_own(sink, s);
    emit_attributed(sink, s);
    return {};
  }

 private:
  void emit_attributed(Sink& sink, const Snapshot& s) const {
    const auto now = host_retransmits(kernel_);
    if (!now || !retransmits_at_start_) return;
    const double all = *now - *retransmits_at_start_;
    sink.add(kAttributed, all > 0 ? attributed_retransmits(s) / all : 1);
  }

  const KernelSource& kernel_;
  const std::optional<double> retransmits_at_start_;
  Error open_error_;
  std::unique_ptr<Sampler> sampler_;
};

}  // namespace

std::unique_ptr<Collector> make_connections_collector(const KernelSource& kernel,
                                                      const ConnectionsOptions& options) {
  return std::make_unique<ConnectionsCollector>(kernel, options);
}

}  // namespace tcpvitals
