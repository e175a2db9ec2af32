#include "collectors/host/sockstat.h"

#include <fmt/format.h>

#include <array>

#include "collectors/host/proc_text.h"

namespace tcpvitals {
namespace {

constexpr std::array kTable = in_each_namespace(std::to_array<FieldMetric>({
    machine_gauge_row(
        "tcp_host_sockets", "/proc/net/sockstat TCP:alloc",
        "TCP sockets on the whole machine, of both address families, in any state but TIME_WAIT."),
    gauge_row("tcp_host_ipv4_sockets_in_use", "/proc/net/sockstat TCP:inuse",
              "IPv4 TCP sockets that are bound, listening or connected."),
    machine_gauge_row("tcp_host_orphans", "/proc/net/sockstat TCP:orphan",
                      "Unfinished TCP connections on the whole machine that no process holds any "
                      "more; compare with tcp_host_orphans_limit."),
    gauge_row("tcp_host_time_wait", "/proc/net/sockstat TCP:tw",
              "Sockets in TIME_WAIT, and sockets in FIN_WAIT2 that their process has closed; "
              "compare with tcp_host_time_wait_limit."),
    machine_gauge_row("tcp_host_memory_bytes", "/proc/net/sockstat TCP:mem",
                      "Memory used by the buffers of all TCP sockets on the whole machine; compare "
                      "with tcp_host_memory_limit_bytes.",
                      Unit::kPages),
}));
constexpr auto kMetrics = descs_of(kTable);

constexpr std::array kTable6 = in_each_namespace(std::to_array<FieldMetric>({
    gauge_row(
        "tcp_host_ipv6_sockets_in_use", "/proc/net/sockstat6 TCP6:inuse",
        "IPv6 TCP sockets that are bound, listening or connected, including dual-stack listeners."),
}));
constexpr auto kMetrics6 = descs_of(kTable6);

bool is_name(std::string_view word) {
  return (word[0] >= 'a' && word[0] <= 'z') || (word[0] >= 'A' && word[0] <= 'Z');
}

}  // namespace

Parsed<Fields> parse_sockstat(std::string_view text, std::string_view protocol) {
  FieldsBuilder fields;
  const std::string wanted = fmt::format("{}:", protocol);
  for (const auto& [number, words] : split_lines(text, fields.errors())) {
    if (!words[0].ends_with(':')) fields.reject(number, "no section name");
    if (words[0] != wanted) continue;
    // A name whose value is missing is followed by the next name.
    for (std::size_t w = 1; w < words.size(); ++w) {
      if (!is_name(words[w])) {
        fields.reject(number, fmt::format("\"{:.32}\" has no name", words[w]));
      } else if (w + 1 == words.size() || is_name(words[w + 1])) {
        fields.reject(number, fmt::format("no value for {:.32}", words[w]));
      } else {
        fields.add(number, wanted, words[w], words[w + 1]);
        ++w;
      }
    }
  }
  return std::move(fields).take();
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
