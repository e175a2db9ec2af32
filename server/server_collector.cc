#include "server/server_collector.h"

#include <array>
#include <cstddef>
#include <optional>
#include <string>

namespace tcpvitals {
namespace {

using enum MetricType;

constexpr std::size_t kNothing = 0;

// A number of one listener or of one connection: what it is, what it needs, how it is had.
template <typename T>
struct Row {
  MetricDesc desc;
  std::size_t needs;
  std::optional<double> (*value)(const T&);
};

struct HistogramRow {
  MetricDesc desc;
  std::size_t needs;
  HistogramSample (*sample)(const ListenerStatistics&);
  bool tls = false;  // of listeners with TLS alone
};

using Listeners = const ListenerReport&;
using Connections = const ConnectionReport&;

constexpr MetricDesc of_listener(std::string_view name, MetricType type, std::string_view source,
                                 std::string_view help) {
  return {name, type, help, {"listener"}, source};
}
constexpr MetricDesc of_connection(std::string_view name, MetricType type, std::string_view source,
                                   std::string_view help) {
  return {name, type, help, {"listener", "connection"}, source};
}

// A counter of a listener by one more label.
struct LabelledRow {
  MetricDesc desc;
  std::span<const std::string_view> values;
  std::uint64_t (*count)(const ListenerStatistics&, std::size_t value);
  bool tls = false;  // of listeners with TLS alone
};

constexpr LabelledRow kLabelledRows[] = {
    {{"tcp_server_connections_closed_total",
      kCounter,
      "Connections the embedded server closed, by what ended them; accepted minus closed is live.",
      {"listener", "cause"},
      "embedded server"},
     kCloseCauses,
     [](const ListenerStatistics& s, std::size_t i) { return s.closed[i]; }},
    {{"tcp_server_connections_rejected_total",
      kCounter,
      "Connections refused with a reset, by what they offended: the allow and deny lists, the "
      "list of trusted proxies, a limit of one peer, the hard limit of new connections a second, "
      "or of TLS handshakes at once.",
      {"listener", "reason"},
      "embedded server"},
     kRejectReasons,
     [](const ListenerStatistics& s, std::size_t i) { return s.rejected[i]; }},
    {{"tcp_server_accept_pauses_total",
      kCounter,
      "Times a worker stopped accepting for a moment: the listener at its connection limit, no "
      "descriptors left, or another error.",
      {"listener", "reason"},
      "embedded server"},
     kPauseReasons,
     [](const ListenerStatistics& s, std::size_t i) { return s.pauses[i]; }},
    {{"tcp_server_tls_handshakes_total",
      kCounter,
      "TLS handshakes, by how they ended: well, with no version or no cipher suite in common, with "
      "a certificate that one side does not take, with something that is not TLS, too late, or "
      "with the end of the connection.",
      {"listener", "outcome"},
      "embedded server"},
     kTlsOutcomes,
     [](const ListenerStatistics& s, std::size_t i) { return s.handshakes[i]; },
     true},
};

constexpr MetricDesc kWorkerConnections{
    "tcp_server_worker_connections",
    kGauge,
    "Connections that each worker carries now: the kernel spreads them, and long-lived ones may "
    "gather.",
    {"listener", "worker"},
    "embedded server"};

std::optional<double> unix_seconds(std::chrono::sys_seconds t) {
  if (t == std::chrono::sys_seconds()) return std::nullopt;  // not yet
  return std::chrono::duration<double>(t.time_since_epoch()).count();
}

// Where it cannot be, it is absent, never zero.
std::optional<double> only_if(bool there, std::uint64_t value) {
  return there ? std::optional(double(value)) : std::nullopt;
}

constexpr Row<ListenerReport> kListenerRows[] = {
    {of_listener("tcp_server_connections_accepted_total", kCounter, "embedded server",
                 "Connections the embedded server accepted."),
     kNothing, [](Listeners l) { return std::optional(double(l.statistics.accepted)); }},
    {of_listener("tcp_server_connections", kGauge, "embedded server",
                 "Connections the embedded server carries now."),
     kNothing, [](Listeners l) { return std::optional(double(l.statistics.live())); }},
    {of_listener(
         "tcp_server_connections_limit", kGauge, "embedded server",
         "Connections a listener carries at most; further ones wait in the kernel's queue."),
     kNothing, [](Listeners l) { return std::optional(double(l.gauges.limit)); }},
    {of_listener("tcp_server_accepts_per_second_peak", kGauge, "embedded server",
                 "Most new connections in one second of the last minute, those over the hard limit "
                 "included. Clients refused by a list or a limit of their own do not count."),
     kNothing, [](Listeners l) { return std::optional(double(l.gauges.accept_peak)); }},
    {of_listener("tcp_server_accept_soft_limit_seconds_total", kCounter, "embedded server",
                 "Seconds in which more connections came than the soft limit; they were accepted."),
     kNothing,
     [](Listeners l) { return std::optional(double(l.gauges.accept_soft_limit_seconds)); }},
    {of_listener("tcp_server_limited_peers", kGauge, "embedded server",
                 "Peers that the limits of each peer count now."),
     kNothing,
     [](Listeners l) {
       return only_if(l.gauges.limited_peers.has_value(), l.gauges.limited_peers.value_or(0));
     }},
    {of_listener("tcp_server_unlimited_connections_total", kCounter, "embedded server",
                 "Connections that the limits of each peer let through uncounted, for the table of "
                 "peers was full of others with connections."),
     kNothing,
     [](Listeners l) {
       return only_if(l.gauges.limited_peers.has_value(), l.gauges.unlimited_peers);
     }},
    {of_listener("tcp_server_backend_connections_total", kCounter, "embedded server",
                 "Connections a relay made to its backend."),
     kNothing,
     [](Listeners l) { return only_if(l.gauges.connects, l.statistics.backend_connections); }},
    {of_listener("tcp_server_backend_failures_total", kCounter, "embedded server",
                 "Connections a relay could not make to its backend: refused, unreachable, or not "
                 "answered in time."),
     kNothing,
     [](Listeners l) { return only_if(l.gauges.connects, l.statistics.backend_failures); }},
    {of_listener(
         "tcp_server_tls_certificate_expiry_timestamp_seconds", kGauge, "embedded server",
         "When the first of the certificates that the listener sends ends, those of its chain "
         "included, in Unix time."),
     kNothing,
     [](Listeners l) {
       return l.gauges.tls ? unix_seconds(l.gauges.tls->not_after) : std::nullopt;
     }},
    {of_listener("tcp_server_tls_files_usable", kGauge, "embedded server",
                 "Whether the listener's certificate files can be used as they are now. 0: the "
                 "listener is closed, or uses those that it loaded before."),
     kNothing,
     [](Listeners l) {
       return l.gauges.tls ? std::optional(l.gauges.tls->usable ? 1.0 : 0.0) : std::nullopt;
     }},
    {of_listener("tcp_server_tls_reload_timestamp_seconds", kGauge, "embedded server",
                 "When the certificate in use was loaded, in Unix time."),
     kNothing,
     [](Listeners l) { return l.gauges.tls ? unix_seconds(l.gauges.tls->loaded) : std::nullopt; }},
    {of_listener("tcp_server_tls_reload_failures_total", kCounter, "embedded server",
                 "Times new certificate files were refused; the old certificate stays in use."),
     kNothing,
     [](Listeners l) {
       return l.gauges.tls ? std::optional(double(l.gauges.tls->reload_failures)) : std::nullopt;
     }},
    {of_listener(
         "tcp_server_output_buffer_bytes", kGauge, "embedded server",
         "Bytes held now for peers that do not read; nothing is read from those meanwhile."),
     kNothing, [](Listeners l) { return std::optional(double(l.statistics.output_buffer_bytes)); }},
};

constexpr MetricDesc kRetransmittedSyns =
    of_listener("tcp_server_retransmitted_syns_total", kCounter,
                "TCP_INFO tcpi_total_retrans, tcpi_bytes_retrans",
                "Part of tcp_server_retransmitted_segments_total without data: SYN-ACKs, and FINs, "
                "which cannot "
                "be told from them.");

constexpr HistogramRow kHistogramRows[] = {
    {of_listener(
         "tcp_server_rtt_seconds", kHistogram, "TCP_INFO tcpi_rtt",
         "Smoothed round-trip time of a connection, observed when data was acknowledged: at most "
         "once in ten seconds, and at its close. The peer's delayed acknowledgements are part of "
         "it."),
     TCPVITALS_NEEDS(rtt_us), [](const ListenerStatistics& s) { return s.tcp.rtt.sample(); }},
    {of_listener("tcp_server_min_rtt_seconds", kHistogram, "TCP_INFO tcpi_min_rtt",
                 "Shortest round-trip time of each connection that closed."),
     TCPVITALS_NEEDS(min_rtt_us),
     [](const ListenerStatistics& s) { return s.tcp.min_rtt.sample(); }},
    {of_listener("tcp_server_delivery_rate_bytes_per_second", kHistogram,
                 "TCP_INFO tcpi_delivery_rate, tcpi_delivery_rate_app_limited",
                 "Rate at which the network delivered data, observed with tcp_server_rtt_seconds, "
                 "only where the handler had more to send: what the path can carry."),
     TCPVITALS_NEEDS(delivery_rate),
     [](const ListenerStatistics& s) { return s.tcp.delivery_rate.sample(); }},
    {of_listener("tcp_server_lifetime_seconds", kHistogram, "embedded server",
                 "Time from accept to close of each connection that closed."),
     kNothing, [](const ListenerStatistics& s) { return s.lifetime.sample(); }},
    {of_listener("tcp_server_tls_handshake_seconds", kHistogram, "embedded server",
                 "Time from the first byte that was awaited to the end of each TLS handshake that "
                 "ended well."),
     kNothing, [](const ListenerStatistics& s) { return s.handshake_time.sample(); }, true},
};

constexpr Row<ConnectionReport> kConnectionRows[] = {
    {of_connection("tcp_server_connection_rtt_seconds", kGauge, "TCP_INFO tcpi_rtt",
                   "Smoothed round-trip time of one of the worst connections."),
     TCPVITALS_NEEDS(rtt_us), [](Connections c) { return std::optional(c.vitals.rtt_us / 1e6); }},
    {of_connection("tcp_server_connection_min_rtt_seconds", kGauge, "TCP_INFO tcpi_min_rtt",
                   "Shortest round-trip time of one of the worst connections."),
     TCPVITALS_NEEDS(min_rtt_us),
     [](Connections c) {
       return c.vitals.has_min_rtt() ? std::optional(c.vitals.min_rtt_us / 1e6) : std::nullopt;
     }},
    {of_connection(
         "tcp_server_connection_retransmit_ratio", kGauge,
         "TCP_INFO tcpi_total_retrans / tcpi_data_segs_out",
         "Share of data segments that were repeats on one of the worst connections, which "
         "are those where it is highest; 0 while none was sent."),
     TCPVITALS_NEEDS(data_segs_out),
     [](Connections c) { return std::optional(c.vitals.retransmit_ratio()); }},
    {of_connection("tcp_server_connection_data_segments_sent_total", kCounter,
                   "TCP_INFO tcpi_data_segs_out",
                   "Segments with data sent on one of the worst connections, retransmissions "
                   "included."),
     TCPVITALS_NEEDS(data_segs_out),
     [](Connections c) { return std::optional(double(c.vitals.data_segments_sent)); }},
    {of_connection("tcp_server_connection_retransmitted_segments_total", kCounter,
                   "TCP_INFO tcpi_total_retrans",
                   "Segments sent again on one of the worst connections; divide by "
                   "tcp_server_connection_data_segments_sent_total."),
     TCPVITALS_NEEDS(total_retrans),
     [](Connections c) { return std::optional(double(c.vitals.retransmitted_segments)); }},
    {of_connection("tcp_server_connection_sent_bytes_total", kCounter, "TCP_INFO tcpi_bytes_sent",
                   "Payload bytes sent on one of the worst connections, retransmissions included."),
     TCPVITALS_NEEDS(bytes_sent),
     [](Connections c) { return std::optional(double(c.vitals.sent_bytes)); }},
    {of_connection("tcp_server_connection_received_bytes_total", kCounter,
                   "TCP_INFO tcpi_bytes_received",
                   "Payload bytes received on one of the worst connections."),
     TCPVITALS_NEEDS(bytes_received),
     [](Connections c) { return std::optional(double(c.vitals.received_bytes)); }},
    {of_connection(
         "tcp_server_connection_age_seconds", kGauge, "embedded server",
         "Time since one of the worst connections was accepted. A connection has series of its "
         "own while it lives, if it was the worst of those older than a minute when a "
         "place was free."),
     kNothing, [](Connections c) { return std::optional(seconds(c.age)); }},
};

// The labels of a row of kServerTcpCounters. Where one metric has several rows, the first describes
// it.
constexpr MetricDesc desc_of(const TcpCounterRow& row) {
  MetricDesc desc = of_listener(row.metric, kCounter, row.source, row.help);
  if (!row.by.empty()) desc.labels[1] = "by";
  return desc;
}

constexpr std::size_t kTcpMetrics = [] {
  std::size_t n = 0;
  for (const TcpCounterRow& row : kServerTcpCounters) n += row.help.empty() ? 0 : 1;
  return n;
}();

constexpr auto kMetrics = [] {
  std::array<MetricDesc, 2 + std::size(kLabelledRows) + std::size(kListenerRows) + kTcpMetrics +
                             std::size(kHistogramRows) + std::size(kConnectionRows)>
      descs{kWorkerConnections, kRetransmittedSyns};
  std::size_t n = 2;
  for (const auto& row : kLabelledRows) descs[n++] = row.desc;
  for (const auto& row : kListenerRows) descs[n++] = row.desc;
  for (const auto& row : kServerTcpCounters) {
    if (!row.help.empty()) descs[n++] = desc_of(row);
  }
  for (const auto& row : kHistogramRows) descs[n++] = row.desc;
  for (const auto& row : kConnectionRows) descs[n++] = row.desc;
  return descs;
}();

void emit_tcp(const ListenerReport& listener, std::size_t length, Sink& sink) {
  const TcpTotals& totals = listener.statistics.tcp;
  for (const TcpCounterRow& row : kServerTcpCounters) {
    if (row.needs > length) continue;
    const std::string_view labels[] = {listener.name, row.by};
    sink.add(desc_of(row), std::span(labels).first(row.by.empty() ? 1 : 2),
             double(totals.*row.total) * row.unit);
  }
  if (length >= TCPVITALS_NEEDS(bytes_retransmitted)) {
    sink.add(kRetransmittedSyns, {listener.name}, double(totals.retransmitted_syns));
  }
}

}  // namespace

std::span<const MetricDesc> server_metrics() { return kMetrics; }

Result<void> ServerCollector::collect(Sink& sink, TimePoint deadline) {
  const auto snapshot = server_.snapshot(deadline);
  if (!snapshot) return snapshot.error();
  emit(*snapshot, sink);
  return {};
}

void emit(const ServerSnapshot& snapshot, Sink& sink) {
  for (const ListenerReport& listener : snapshot.listeners) {
    const ListenerStatistics& statistics = listener.statistics;
    for (const auto& row : kLabelledRows) {
      if (row.tls && !listener.gauges.tls) continue;
      for (std::size_t i = 0; i < row.values.size(); ++i) {
        sink.add(row.desc, {listener.name, row.values[i]}, double(row.count(statistics, i)));
      }
    }
    for (std::size_t i = 0; i < listener.live_by_worker.size(); ++i) {
      sink.add(kWorkerConnections, {listener.name, std::to_string(i)},
               double(listener.live_by_worker[i]));
    }
    for (const auto& row : kListenerRows) {
      if (row.needs > snapshot.tcp_info_length) continue;
      if (const auto value = row.value(listener)) sink.add(row.desc, {listener.name}, *value);
    }
    emit_tcp(listener, snapshot.tcp_info_length, sink);
    for (const auto& row : kHistogramRows) {
      if (row.needs > snapshot.tcp_info_length || (row.tls && !listener.gauges.tls)) continue;
      sink.add_histogram(row.desc, {listener.name}, row.sample(statistics));
    }
  }
  for (const ConnectionReport& connection : snapshot.series) {
    const std::string& listener = snapshot.listeners[connection.listener].name;
    const std::string id = std::to_string(connection.id);
    for (const auto& row : kConnectionRows) {
      if (row.needs > snapshot.tcp_info_length) continue;
      if (const auto value = row.value(connection)) sink.add(row.desc, {listener, id}, *value);
    }
  }
}

}  // namespace tcpvitals
