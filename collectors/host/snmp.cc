#include "collectors/host/snmp.h"

#include <array>

namespace tcpvitals {
namespace {

constexpr std::array kTable = in_each_namespace(std::to_array<FieldMetric>({
    counter_row("tcp_host_segments_sent_total", "/proc/net/snmp TcpOutSegs",
                "TCP segments sent, including pure acknowledgements but not retransmissions; the "
                "denominator of the host's retransmit ratio."),
    counter_row("tcp_host_segments_received_total", "/proc/net/snmp TcpInSegs",
                "TCP segments received, including those with errors."),
    counter_row("tcp_host_segments_retransmitted_total", "/proc/net/snmp TcpRetransSegs",
                "TCP segments retransmitted, whether data, SYN or FIN; divide by "
                "tcp_host_segments_sent_total for the host's retransmit ratio."),
    counter_row("tcp_host_connections_opened_total",
                "/proc/net/snmp TcpActiveOpens TcpPassiveOpens",
                "Outgoing connects, including those that failed later (active), and incoming "
                "handshakes that completed (passive).",
                {"by", {"active", "passive"}}),
    counter_row("tcp_host_connect_failures_total", "/proc/net/snmp TcpAttemptFails",
                "Outgoing and incoming handshakes that failed: reset, timed out or rejected by "
                "ICMP; a connect that its own program gave up is not counted; compare with "
                "tcp_host_connections_opened_total."),
    counter_row("tcp_host_established_resets_total", "/proc/net/snmp TcpEstabResets",
                "Connections that went from ESTABLISHED or CLOSE_WAIT straight to closed: reset by "
                "either end, or timed out; compare with tcp_host_connections_opened_total."),
    counter_row("tcp_host_resets_sent_total", "/proc/net/snmp TcpOutRsts",
                "TCP segments sent with the RST flag; compare with tcp_host_segments_sent_total."),
    counter_row("tcp_host_receive_errors_total", "/proc/net/snmp TcpInErrs",
                "TCP segments received with an error and discarded, including wrong checksums; "
                "compare with tcp_host_segments_received_total."),
    counter_row("tcp_host_checksum_errors_total", "/proc/net/snmp TcpInCsumErrors",
                "TCP segments received with a wrong checksum; compare with "
                "tcp_host_segments_received_total."),
    gauge_row("tcp_host_connections_established", "/proc/net/snmp TcpCurrEstab",
              "Connections in ESTABLISHED or CLOSE_WAIT now, by the kernel's own count."),
    gauge_row("tcp_host_retransmission_timeout_min_seconds", "/proc/net/snmp TcpRtoMin",
              "Shortest time that the kernel waits for an acknowledgement before it retransmits.",
              Unit::kMilliseconds),
    gauge_row("tcp_host_retransmission_timeout_max_seconds", "/proc/net/snmp TcpRtoMax",
              "Longest time that the kernel waits between two retransmissions.",
              Unit::kMilliseconds),
    counter_row("tcp_host_ipv4_no_route_total", "/proc/net/snmp IpOutNoRoutes",
                "IPv4 packets of any protocol not sent because there was no route."),
    counter_row("tcp_host_ipv4_send_discards_total", "/proc/net/snmp IpOutDiscards",
                "Outgoing IPv4 packets of any protocol that this host dropped although nothing was "
                "wrong with them, for example for lack of buffer space."),
    counter_row("tcp_host_ipv4_receive_discards_total", "/proc/net/snmp IpInDiscards",
                "Incoming IPv4 packets of any protocol that this host dropped although nothing was "
                "wrong with them, for example for lack of buffer space."),
    counter_row("tcp_host_ipv4_unreachables_received_total", "/proc/net/snmp IcmpInDestUnreachs",
                "ICMP destination-unreachable messages received: host, port or route rejected, or "
                "a packet too big for the path."),
}));
constexpr auto kMetrics = descs_of(kTable);

}  // namespace

Parsed<Fields> parse_snmp(std::string_view text) {
  constexpr std::string_view kSections[] = {"Ip", "Icmp", "Tcp"};
  return parse_sections(text, kSections);
}

std::unique_ptr<Collector> make_snmp_collector(const KernelSource& source) {
  return std::make_unique<FieldCollector>(
      source, FieldCollector::Spec{"snmp", "net/snmp", parse_snmp, kTable, kMetrics});
}

}  // namespace tcpvitals
