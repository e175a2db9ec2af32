#include "collectors/host/sysctl.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string>

#include "collectors/host/fields.h"
#include "collectors/host/proc_text.h"

namespace tcpvitals {
namespace {

constexpr std::array kMetrics = std::to_array<MetricDesc>({
    {"tcp_sysctl_value",
     MetricType::kGauge,
     "A kernel setting in the kernel's own unit, under its name in sysctl; one of several numbers "
     "has "
     "its own name in brackets.",
     {"key"},
     "/proc/sys/net"},
    {"tcp_host_memory_limit_bytes",
     MetricType::kGauge,
     "The thresholds of tcp_host_memory_bytes on the whole machine: pressure ends below low, "
     "begins "
     "above pressure, and above high allocations fail.",
     {"threshold"},
     "/proc/sys/net/ipv4/tcp_mem"},
    {"tcp_host_orphans_limit",
     MetricType::kGauge,
     "The number of tcp_host_orphans above which the kernel resets orphaned connections.",
     {},
     "/proc/sys/net/ipv4/tcp_max_orphans"},
    {"tcp_host_time_wait_limit",
     MetricType::kGauge,
     "The number of tcp_host_time_wait above which connections close without TIME_WAIT.",
     {},
     "/proc/sys/net/ipv4/tcp_max_tw_buckets"},
    {"tcp_host_ephemeral_ports_limit",
     MetricType::kGauge,
     "Local ports that outgoing connections to one remote address and port can choose from, "
     "reserved "
     "ones not subtracted.",
     {},
     "/proc/sys/net/ipv4/ip_local_port_range"},
});
constexpr const MetricDesc& kValue = kMetrics[0];
constexpr const MetricDesc& kMemoryLimit = kMetrics[1];
constexpr const MetricDesc& kOrphansLimit = kMetrics[2];
constexpr const MetricDesc& kTimeWaitLimit = kMetrics[3];
constexpr const MetricDesc& kPortsLimit = kMetrics[4];

struct Setting {
  std::string_view key;                     // as sysctl(8) spells it
  std::array<std::string_view, 3> parts{};  // the names of its numbers, where it has several

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
    {kPortRange, {"low", "high"}},
    {"net.ipv4.tcp_abort_on_overflow"},
    {"net.ipv4.tcp_ecn"},
    {"net.ipv4.tcp_fastopen"},
    {"net.ipv4.tcp_fin_timeout"},
    {"net.ipv4.tcp_keepalive_intvl"},
    {"net.ipv4.tcp_keepalive_probes"},
    {"net.ipv4.tcp_keepalive_time"},
    {kMaxOrphans},
    {"net.ipv4.tcp_max_syn_backlog"},
    {kMaxTimeWait},
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

void emit_values(const Setting& setting, const std::vector<double>& values, Sink& sink) {
  if (values.size() == 1) {
    sink.add(kValue, {setting.key}, values[0]);
    return;
  }
  for (std::size_t i = 0; i < values.size(); ++i) {
    sink.add(kValue, {fmt::format("{}[{}]", setting.key, setting.parts[i])}, values[i]);
  }
}

// The same numbers in the words and units of the gauges they limit.
Result<void> emit_limits(const Setting& setting, const std::vector<double>& values, Sink& sink) {
  if (setting.key == kMem) {
    for (std::size_t i = 0; i < values.size(); ++i) {
      sink.add(kMemoryLimit, {setting.parts[i]}, to_base(Unit::kPages, values[i]));
    }
  } else if (setting.key == kMaxOrphans) {
    sink.add(kOrphansLimit, values[0]);
  } else if (setting.key == kMaxTimeWait) {
    sink.add(kTimeWaitLimit, values[0]);
  } else if (setting.key == kPortRange) {
    if (values[1] < values[0]) return Error{"the last port is below the first"};
    sink.add(kPortsLimit, values[1] - values[0] + 1);
  }
  return {};
}

class SysctlCollector final : public Collector {
 public:
  explicit SysctlCollector(const KernelSource& source) : source_(source) {}

  std::string_view name() const override { return "sysctl"; }
  std::span<const MetricDesc> metrics() const override { return kMetrics; }

  Result<void> collect(Sink& sink, TimePoint /*deadline*/) override {
    bool any = false;
    for (const Setting& setting : kSettings) {
      const auto parse = [&](std::string_view text) { return parse_sysctl(text, setting.count()); };
      const std::string path = path_of(setting.key);
      const auto values = read_parsed(source_, path, parse);
      if (!values && values.error().is_absent()) continue;
      if (!values) return values.error();
      emit_values(setting, *values, sink);
      const auto limits = emit_limits(setting, *values, sink);
      if (!limits) return Error(limits.error()).in(path);
      any = true;
    }
    if (!any) return Error::absent("no setting of TCP in sys/net");
    return {};
  }

 private:
  const KernelSource& source_;
};

}  // namespace

Result<std::vector<double>> parse_sysctl(std::string_view text, std::size_t count) {
  const auto lines = split_lines(text);
  if (!lines) return lines.error();
  const auto words = split_words(lines->front());
  if (lines->size() != 1 || words.size() != count) {
    return Error{fmt::format("not one line of {} number{}", count, count == 1 ? "" : "s")};
  }
  std::vector<double> values;
  for (const std::string_view word : words) {
    const auto number = parse_number(word);
    if (!number) return number.error();
    values.push_back(*number);
  }
  return values;
}

std::unique_ptr<Collector> make_sysctl_collector(const KernelSource& source) {
  return std::make_unique<SysctlCollector>(source);
}

}  // namespace tcpvitals
