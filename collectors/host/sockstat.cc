#include "collectors/host/sockstat.h"

#include <fmt/format.h>

#include <array>

#include "collectors/host/proc_text.h"

namespace tcpvitals {
namespace {

constexpr std::array kTable = in_each_namespace(std::to_array<FieldMetric>({
    machine_gauge_row(
        "tcp_host_sockets", "/proc/net/sockstat TCP:alloc",
        "TCP sockets that exist on the whole machine, of both address families and in any "
        "state but TIME_WAIT."),
    gauge_row("tcp_host_ipv4_sockets_in_use", "/proc/net/sockstat TCP:inuse",
              "IPv4 TCP sockets that are bound, listening or connected."),
    machine_gauge_row(
        "tcp_host_orphans", "/proc/net/sockstat TCP:orphan",
        "TCP connections on the whole machine that no process holds any more but that are "
        "not finished; compare with tcp_host_orphans_limit."),
    gauge_row("tcp_host_time_wait", "/proc/net/sockstat TCP:tw",
              "Sockets in TIME_WAIT; compare with tcp_host_time_wait_limit."),
    machine_gauge_row(
        "tcp_host_memory_bytes", "/proc/net/sockstat TCP:mem",
        "Memory that the buffers of all TCP sockets on the whole machine take; compare with "
        "tcp_host_memory_limit_bytes.",
        Unit::kPages),
}));
constexpr auto kMetrics = descs_of(kTable);

constexpr std::array kTable6 = in_each_namespace(std::to_array<FieldMetric>({
    gauge_row(
        "tcp_host_ipv6_sockets_in_use", "/proc/net/sockstat6 TCP6:inuse",
        "IPv6 TCP sockets that are bound, listening or connected, dual-stack listeners included."),
}));
constexpr auto kMetrics6 = descs_of(kTable6);

}  // namespace

Result<Fields> parse_sockstat(std::string_view text, std::string_view protocol) {
  const auto lines = split_lines(text);
  if (!lines) return lines.error();
  const std::string wanted = fmt::format("{}:", protocol);
  for (std::size_t i = 0; i < lines->size(); ++i) {
    const auto words = split_words((*lines)[i]);
    if (words.empty() || words[0] != wanted) continue;
    if (words.size() % 2 == 0) {
      return line_error(i + 1, fmt::format("no value for {:.32}", words.back()));
    }
    Fields fields;
    for (std::size_t w = 1; w < words.size(); w += 2) {
      const auto number = parse_number(words[w + 1]);
      if (!number) return line_error(i + 1, number.error().message);
      if (!fields.emplace(fmt::format("{}{}", wanted, words[w]), *number).second) {
        return line_error(i + 1, fmt::format("{:.32} appears twice", words[w]));
      }
    }
    return fields;
  }
  return Error{fmt::format("no line {}", wanted)};
}

std::unique_ptr<Collector> make_sockstat_collector(const KernelSource& source) {
  constexpr auto parse = [](std::string_view text) { return parse_sockstat(text, "TCP"); };
  return std::make_unique<FieldCollector>(
      source, FieldCollector::Spec{"sockstat", "net/sockstat", parse, kTable, kMetrics});
}

std::unique_ptr<Collector> make_sockstat6_collector(const KernelSource& source) {
  constexpr auto parse = [](std::string_view text) { return parse_sockstat(text, "TCP6"); };
  return std::make_unique<FieldCollector>(
      source, FieldCollector::Spec{"sockstat6", "net/sockstat6", parse, kTable6, kMetrics6});
}

}  // namespace tcpvitals
