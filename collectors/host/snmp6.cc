#include "collectors/host/snmp6.h"

#include <fmt/format.h>

#include <array>

#include "collectors/host/proc_text.h"

namespace tcpvitals {
namespace {

constexpr std::array kTable = in_each_namespace(std::to_array<FieldMetric>({
    counter_row("tcp_host_ipv6_too_big_received_total", "/proc/net/snmp6 Icmp6InPktTooBigs",
                "ICMPv6 packet-too-big messages received: path MTU discovery at work, or a path "
                "that shrank."),
    counter_row(
        "tcp_host_ipv6_too_big_sent_total", "/proc/net/snmp6 Icmp6OutPktTooBigs",
        "ICMPv6 packet-too-big messages sent about packets that this host could not forward."),
    counter_row("tcp_host_ipv6_unreachables_received_total", "/proc/net/snmp6 Icmp6InDestUnreachs",
                "ICMPv6 messages received that a destination is unreachable."),
    counter_row("tcp_host_ipv6_no_route_total", "/proc/net/snmp6 Ip6OutNoRoutes",
                "IPv6 packets of any protocol not sent because there was no route."),
    counter_row("tcp_host_ipv6_send_discards_total", "/proc/net/snmp6 Ip6OutDiscards",
                "IPv6 packets of any protocol dropped on their way out though nothing was wrong "
                "with them."),
    counter_row(
        "tcp_host_ipv6_receive_discards_total", "/proc/net/snmp6 Ip6InDiscards",
        "IPv6 packets of any protocol dropped on their way in though nothing was wrong with them."),
    counter_row("tcp_host_ipv6_ce_marked_packets_total", "/proc/net/snmp6 Ip6InCEPkts",
                "IPv6 packets of any protocol received with the mark of congestion experienced."),
}));
constexpr auto kMetrics = descs_of(kTable);

}  // namespace

Result<Fields> parse_snmp6(std::string_view text) {
  const auto lines = split_lines(text);
  if (!lines) return lines.error();
  Fields fields;
  for (std::size_t i = 0; i < lines->size(); ++i) {
    const auto words = split_words((*lines)[i]);
    if (words.size() != 2) {
      return line_error(i + 1, fmt::format("{} words, not a name and a value", words.size()));
    }
    const auto number = parse_number(words[1]);
    if (!number) return line_error(i + 1, number.error().message);
    if (!fields.emplace(words[0], *number).second) {
      return line_error(i + 1, fmt::format("{:.32} appears twice", words[0]));
    }
  }
  return fields;
}

std::unique_ptr<Collector> make_snmp6_collector(const KernelSource& source) {
  return std::make_unique<FieldCollector>(
      source, FieldCollector::Spec{"snmp6", "net/snmp6", parse_snmp6, kTable, kMetrics});
}

}  // namespace tcpvitals
