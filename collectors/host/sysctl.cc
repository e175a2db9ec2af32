#include "collectors/host/sysctl.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string>

#include "collectors/host/fields.h"
#include "collectors/host/file_reader.h"
#include "collectors/host/local_ports.h"
#include "collectors/host/proc_text.h"

namespace tcpvitals {
namespace {

constexpr std::array kMetrics = std::to_array<MetricDesc>({
    {"tcp_sysctl_value",
     MetricType::kGauge,
     "Value of a kernel setting in the agent's network namespace, in the kernel's own unit; the "
     "key is its sysctl name, with the part in brackets where it has several numbers.",
     {"key"},
     "/proc/sys/net/core, /proc/sys/net/ipv4"},
    {"tcp_host_memory_limit_bytes",
     MetricType::kGauge,
     "Thresholds of tcp_host_memory_bytes on the whole machine: memory pressure begins above "
     "pressure and ends below low; above high, allocations fail.",
     {"threshold"},
     "/proc/sys/net/ipv4/tcp_mem"},
    {"tcp_host_orphans_limit",
     MetricType::kGauge,
     "Number of tcp_host_orphans above which the kernel resets orphaned connections.",
     {},
     "/proc/sys/net/ipv4/tcp_max_orphans"},
    {"tcp_host_time_wait_limit",
     MetricType::kGauge,
     "Number of tcp_host_time_wait above which connections close without TIME_WAIT.",
     {kNetnsLabel},
     "/proc/sys/net/ipv4/tcp_max_tw_buckets"},
    {"tcp_host_ephemeral_ports_limit",
     MetricType::kGauge,
     "Local ports available to outgoing connections to one remote address and port: the port range "
     "minus the reserved ports.",
     {kNetnsLabel},
     "/proc/sys/net/ipv4/ip_local_port_range, /proc/sys/net/ipv4/ip_local_reserved_ports"},
});
constexpr const MetricDesc& kValue = kMetrics[0];
constexpr const MetricDesc& kMemoryLimit = kMetrics[1];
constexpr const MetricDesc& kOrphansLimit = kMetrics[2];
constexpr const MetricDesc& kTimeWaitLimit = kMetrics[3];
constexpr const MetricDesc& kPortsLimit = kMetrics[4];

struct Setting {
  std::string_view key;                     // as sysctl(8) spells it
  std::array<std::string_view, 3> parts{};  // the names of its numbers, where it has several
  bool in_each_namespace = false;           // a limit of things that each namespace has

  std::size_t count() const {
    const auto named = [](std::string_view part) { return !part.empty(); };
    return std::max<std::size_t>(
        1, static_cast<std::size_t>(std::count_if(parts.begin(), parts.end(), named)));
  }
};

constexpr std::string_view kPortRange = "net.ipv4.ip_local_port_range";
constexpr std::string_view kMem = "net.ipv4.tcp_mem";
constexpr std::string_view kMaxOrphans = "net.ipv4.tcp_max_orphans";
constexpr std::string_view kMaxTimeWait = "net.ipv4.tcp_max_tw_buckets";

constexpr Setting kSettings[] = {
    {"net.core.netdev_max_backlog"},
    {"net.core.rmem_default"},
    {"net.core.rmem_max"},
    {"net.core.somaxconn"},
    {"net.core.wmem_default"},
    {"net.core.wmem_max"},
    {kPortRange, {"low", "high"}, true},
    {"net.ipv4.tcp_abort_on_overflow"},
    {"net.ipv4.tcp_ecn"},
    {"net.ipv4.tcp_fastopen"},
    {"net.ipv4.tcp_fin_timeout"},
    {"net.ipv4.tcp_keepalive_intvl"},
    {"net.ipv4.tcp_keepalive_probes"},
    {"net.ipv4.tcp_keepalive_time"},
    {kMaxOrphans},
    {"net.ipv4.tcp_max_syn_backlog"},
    {kMaxTimeWait, {}, true},
    {kMem, {"low", "pressure", "high"}},
    {"net.ipv4.tcp_moderate_rcvbuf"},
    {"net.ipv4.tcp_mtu_probing"},
    {"net.ipv4.tcp_notsent_lowat"},
    {"net.ipv4.tcp_orphan_retries"},
    {"net.ipv4.tcp_retries1"},
    {"net.ipv4.tcp_retries2"},
    {"net.ipv4.tcp_rmem", {"min", "default", "max"}},
    {"net.ipv4.tcp_sack"},
    {"net.ipv4.tcp_slow_start_after_idle"},
    {"net.ipv4.tcp_syn_retries"},
    {"net.ipv4.tcp_synack_retries"},
    {"net.ipv4.tcp_syncookies"},
    {"net.ipv4.tcp_timestamps"},
    {"net.ipv4.tcp_tw_reuse"},
    {"net.ipv4.tcp_window_scaling"},
    {"net.ipv4.tcp_wmem", {"min", "default", "max"}},
};

// net.ipv4.tcp_mem -> sys/net/ipv4/tcp_mem
std::string path_of(std::string_view key) {
  std::string path = fmt::format("sys/{}", key);
  std::replace(path.begin(), path.end(), '.', '/');
  return path;
}

using Values = std::vector<std::optional<double>>;

void emit_values(const Setting& setting, const Values& values, Sink& sink) {
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (!values[i]) continue;
    const std::string_view part = setting.parts[i];
    sink.add(kValue,
             {part.empty() ? std::string(setting.key) : fmt::format("{}[{}]", setting.key, part)},
             *values[i]);
  }
}

void emit_ports_limit(FileReader& files, const NamespaceSource& netns, const Values& numbers,
                      Sink& sink) {
  if (!numbers[0] || !numbers[1]) return;
  const auto range = port_range(numbers);
  if (!range) {
    return files.reject(
        netns, path_of(kPortRange),
        fmt::format("{:.0f} to {:.0f} is no range of ports", *numbers[0], *numbers[1]));
  }
  const auto reserved = files.read(netns, "sys/net/ipv4/ip_local_reserved_ports", parse_port_list);
  const LocalPorts ports{*range, reserved.value_or(std::vector<PortRange>())};
  sink.add(kPortsLimit, {netns.label}, static_cast<double>(ports.size()));
}

// The same numbers in the words and units of the gauges they limit. The kernel compares with a
// sign: a limit below zero is as good as none left.
void emit_limits(FileReader& files, const Setting& setting, const NamespaceSource& netns,
                 const Values& values, Sink& sink) {
  if (setting.key == kMem) {
    for (std::size_t i = 0; i < values.size(); ++i) {
      if (!values[i]) continue;
      sink.add(kMemoryLimit, {setting.parts[i]}, to_base(Unit::kPages, *values[i]));
    }
  } else if (setting.key == kMaxOrphans && values[0]) {
    sink.add(kOrphansLimit, std::max(0.0, *values[0]));
  } else if (setting.key == kMaxTimeWait && values[0]) {
    sink.add(kTimeWaitLimit, {netns.label}, std::max(0.0, *values[0]));
  } else if (setting.key == kPortRange) {
    emit_ports_limit(files, netns, values, sink);
  }
}

class SysctlCollector final : public Collector {
 public:
  explicit SysctlCollector(const KernelSource& source) : source_(source) {}

  std::string_view name() const override { return "sysctl"; }
  std::span<const MetricDesc> metrics() const override { return kMetrics; }

  Result<void> collect(Sink& sink, TimePoint /*deadline*/) override {
    FileReader files(source_, sink);
    for (const NamespaceSource& netns : files.namespaces()) {
      const bool ours = &netns == &files.ours();
      for (const Setting& setting : kSettings) {
        if (!ours && !setting.in_each_namespace) continue;
        const auto parse = [&](std::string_view text) {
          return parse_sysctl(text, setting.count());
        };
        const auto values = files.read(netns, path_of(setting.key), parse);
        if (!values || values->empty()) continue;
        if (ours) emit_values(setting, *values, sink);
        emit_limits(files, setting, netns, *values, sink);
      }
    }
    return files.outcome();
  }

 private:
  const KernelSource& source_;
};

}  // namespace

Parsed<std::vector<std::optional<double>>> parse_sysctl(std::string_view text, std::size_t count) {
  Parsed<Values> parsed;
  const auto lines = split_lines(text, parsed.errors);
  if (lines.empty()) return parsed;
  if (lines.size() != 1 || lines[0].words.size() != count) {
    parsed.errors.add(fmt::format("not one line of {} number{}", count, count == 1 ? "" : "s"));
    return parsed;
  }
  for (const std::string_view word : lines[0].words) {
    const auto number = parse_signed(word);
    if (!number) parsed.errors.add(number.error().message);
    parsed.record.push_back(number ? std::optional(*number) : std::nullopt);
  }
  return parsed;
}

std::unique_ptr<Collector> make_sysctl_collector(const KernelSource& source) {
  return std::make_unique<SysctlCollector>(source);
}

}  // namespace tcpvitals
