#include "collectors/host/snmp6.h"

#include <fmt/format.h>

#include <array>

#include "collectors/host/proc_text.h"

namespace tcpvitals {
namespace {

constexpr std::array kTable = in_each_namespace(std::to_array<FieldMetric>({
    counter_row("tcp_host_ipv6_too_big_received_total", "/proc/net/snmp6 Icmp6InPktTooBigs",
                "ICMPv6 packet-too-big messages received: path MTU discovery at work, or a path "
                "whose MTU shrank."),
    counter_row(
        "tcp_host_ipv6_too_big_sent_total", "/proc/net/snmp6 Icmp6OutPktTooBigs",
        "ICMPv6 packet-too-big messages sent for packets that this host could not forward."),
    counter_row("tcp_host_ipv6_unreachables_received_total", "/proc/net/snmp6 Icmp6InDestUnreachs",
                "ICMPv6 destination-unreachable messages received: host, port or route rejected."),
    counter_row("tcp_host_ipv6_no_route_total", "/proc/net/snmp6 Ip6OutNoRoutes",
                "IPv6 packets of any protocol not sent because there was no route."),
    counter_row("tcp_host_ipv6_send_discards_total", "/proc/net/snmp6 Ip6OutDiscards",
                "Outgoing IPv6 packets of any protocol that this host dropped although nothing was "
                "wrong with them, for example for lack of buffer space."),
    counter_row("tcp_host_ipv6_receive_discards_total", "/proc/net/snmp6 Ip6InDiscards",
                "Incoming IPv6 packets of any protocol that this host dropped although nothing was "
                "wrong with them, for example for lack of buffer space."),
    counter_row("tcp_host_ipv6_ce_marked_packets_total", "/proc/net/snmp6 Ip6InCEPkts",
                "IPv6 packets of any protocol received with the congestion-experienced (CE) mark."),
}));
constexpr auto kMetrics = descs_of(kTable);

}  // namespace

Parsed<Fields> parse_snmp6(std::string_view text) {
  FieldsBuilder fields;
  for (const auto& [number, words] : split_lines(text, fields.errors())) {
    if (words.size() == 2) {
      fields.add(number, "", words[0], words[1]);
    } else {
      fields.reject(
          number, fmt::format("{:.32}: {} words, not a name and a value", words[0], words.size()));
    }
  }
  return std::move(fields).take();
}

std::unique_ptr<Collector> make_snmp6_collector(const KernelSource& source) {
  return std::make_unique<FieldCollector>(
      source, FieldCollector::Spec{"snmp6", "net/snmp6", parse_snmp6, kTable, kMetrics});
}

}  // namespace tcpvitals
