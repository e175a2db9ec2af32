#include "collectors/host/snmp.h"

#include <array>

namespace tcpvitals {
namespace {

constexpr std::array kTable = in_each_namespace(std::to_array<FieldMetric>({
    counter_row("tcp_host_segments_sent_total", "/proc/net/snmp TcpOutSegs",
                "Segments sent, pure acknowledgements included and retransmissions not: the "
                "denominator of the host's retransmit ratio."),
    counter_row("tcp_host_segments_received_total", "/proc/net/snmp TcpInSegs",
                "Segments received, those in error included."),
    counter_row("tcp_host_segments_retransmitted_total", "/proc/net/snmp TcpRetransSegs",
                "Segments sent again, whether data, SYN or FIN; divide by "
                "tcp_host_segments_sent_total for the retransmit ratio."),
    counter_row("tcp_host_connections_opened_total",
                "/proc/net/snmp TcpActiveOpens TcpPassiveOpens",
                "Connections begun by a connect of this host (active, failed attempts included) "
                "and incoming handshakes completed (passive).",
                {"by", {"active", "passive"}}),
    counter_row("tcp_host_connect_failures_total", "/proc/net/snmp TcpAttemptFails",
                "Handshakes, outgoing or incoming, that ended before the connection was "
                "established; compare with tcp_host_connections_opened_total."),
    counter_row("tcp_host_established_resets_total", "/proc/net/snmp TcpEstabResets",
                "Established connections that ended at once, by a reset from either end or a "
                "timeout instead of a FIN; compare with tcp_host_connections_opened_total."),
    counter_row("tcp_host_resets_sent_total", "/proc/net/snmp TcpOutRsts",
                "Segments sent with RST; compare with tcp_host_segments_sent_total."),
    counter_row("tcp_host_receive_errors_total", "/proc/net/snmp TcpInErrs",
                "Segments received in error and discarded, wrong checksums included; compare with "
                "tcp_host_segments_received_total."),
    counter_row("tcp_host_checksum_errors_total", "/proc/net/snmp TcpInCsumErrors",
                "Segments received with a wrong TCP checksum; compare with "
                "tcp_host_segments_received_total."),
    gauge_row("tcp_host_connections_established", "/proc/net/snmp TcpCurrEstab",
              "Connections in ESTABLISHED or CLOSE_WAIT now, by the kernel's own count."),
    gauge_row(
        "tcp_host_retransmission_timeout_min_seconds", "/proc/net/snmp TcpRtoMin",
        "The shortest time that the kernel waits for an acknowledgement before it retransmits.",
        Unit::kMilliseconds),
    gauge_row("tcp_host_retransmission_timeout_max_seconds", "/proc/net/snmp TcpRtoMax",
              "The longest time that the kernel waits between two retransmissions.",
              Unit::kMilliseconds),
    counter_row("tcp_host_ipv4_no_route_total", "/proc/net/snmp IpOutNoRoutes",
                "IPv4 packets of any protocol not sent because there was no route."),
    counter_row("tcp_host_ipv4_send_discards_total", "/proc/net/snmp IpOutDiscards",
                "IPv4 packets of any protocol dropped on their way out though nothing was wrong "
                "with them."),
    counter_row(
        "tcp_host_ipv4_receive_discards_total", "/proc/net/snmp IpInDiscards",
        "IPv4 packets of any protocol dropped on their way in though nothing was wrong with them."),
    counter_row("tcp_host_ipv4_unreachables_received_total", "/proc/net/snmp IcmpInDestUnreachs",
                "ICMP messages received that a destination is unreachable, or a packet too big for "
                "the path."),
}));
constexpr auto kMetrics = descs_of(kTable);

}  // namespace

Result<Fields> parse_snmp(std::string_view text) {
  constexpr std::string_view kSections[] = {"Ip", "Icmp", "Tcp"};
  return parse_sections(text, kSections);
}

std::unique_ptr<Collector> make_snmp_collector(const KernelSource& source) {
  return std::make_unique<FieldCollector>(
      source, FieldCollector::Spec{"snmp", "net/snmp", parse_snmp, kTable, kMetrics});
}

}  // namespace tcpvitals
