#include "collectors/host/conntrack.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "collectors/host/sysctl.h"

namespace tcpvitals {
namespace {

// A gauge in truth; but linters reserve the suffix _count of a typed metric for histograms, and
// this is the name that operators know.
constexpr MetricDesc kCount{
    "tcp_conntrack_count",
    MetricType::kUntyped,
    "Connections of any protocol in the tracking table now; compare with tcp_conntrack_limit.",
    {kNetnsLabel},
    "/proc/sys/net/netfilter/nf_conntrack_count"};
constexpr MetricDesc kLimit{
    "tcp_conntrack_limit",
    MetricType::kGauge,
    "Connections that the tracking table holds at most; absent if it has no limit.",
    {kNetnsLabel},
    "/proc/sys/net/netfilter/nf_conntrack_max"};

constexpr std::array kTable = in_each_namespace(std::to_array<FieldMetric>({
    counter_row("tcp_conntrack_insert_failures_total", "/proc/net/stat/nf_conntrack insert_failed",
                "Connections of any protocol that could not be added to the tracking table, mostly "
                "because another one took the same addresses and ports first."),
    counter_row("tcp_conntrack_drops_total", "/proc/net/stat/nf_conntrack drop",
                "Packets of any protocol dropped because the tracking table was full or had no "
                "memory; compare tcp_conntrack_count with tcp_conntrack_limit."),
    counter_row("tcp_conntrack_early_drops_total", "/proc/net/stat/nf_conntrack early_drop",
                "Tracked connections of any protocol evicted to make room for new ones."),
    counter_row(
        "tcp_conntrack_invalid_packets_total", "/proc/net/stat/nf_conntrack invalid",
        "Packets of any protocol that belong to no tracked connection and cannot start one."),
    counter_row("tcp_conntrack_clashes_resolved_total", "/proc/net/stat/nf_conntrack clashres",
                "Connections of any protocol that were found in the tracking table when they were "
                "to be added, and shared that entry."),
    counter_row("tcp_conntrack_chain_overflows_total", "/proc/net/stat/nf_conntrack chainlength",
                "Connections of any protocol dropped because their hash chain was too long."),
    counter_row("tcp_conntrack_search_restarts_total", "/proc/net/stat/nf_conntrack search_restart",
                "Lookups started again because the tracking table changed under them, mostly while "
                "it was resized."),
}));

constexpr auto kMetrics = [] {
  constexpr auto stat = descs_of(kTable);
  std::array<MetricDesc, stat.size() + 2> all;
  all[0] = kCount;
  all[1] = kLimit;
  std::copy(stat.begin(), stat.end(), all.begin() + 2);
  return all;
}();

class ConntrackCollector final : public Collector {
 public:
  explicit ConntrackCollector(const KernelSource& source) : source_(source) {}

  std::string_view name() const override { return "conntrack"; }
  std::span<const MetricDesc> metrics() const override { return kMetrics; }

  Result<void> collect(Sink& sink, TimePoint /*deadline*/) override {
    FileReader files(source_, sink);
    for (const NamespaceSource& netns : files.namespaces()) {
      constexpr std::string_view kCountFile = "sys/net/netfilter/nf_conntrack_count";
      const auto count = read_value(files, netns, kCountFile);
      if (count && (*count < 0 || *count > kMostThings)) {
        files.reject(netns, kCountFile, fmt::format("there cannot be {:.0f} connections", *count));
      } else if (count) {
        sink.add(kCount, {netns.label}, *count);
      }
      // Without a limit it is 0; as an unsigned number it can look like -1.
      const auto limit = read_value(files, netns, "sys/net/netfilter/nf_conntrack_max");
      if (limit && *limit > 0) sink.add(kLimit, {netns.label}, *limit);
    }
    emit_fields(files, read_stats(files), kTable, sink);
    return files.outcome();
  }

 private:
  static std::optional<double> read_value(FileReader& files, const NamespaceSource& netns,
                                          std::string_view path) {
    const auto parse = [](std::string_view text) { return parse_sysctl(text, 1); };
    const auto values = files.read(netns, path, parse);
    return values && !values->empty() ? values->front() : std::nullopt;
  }

  std::vector<NamespaceFields> read_stats(FileReader& files) {
    constexpr std::string_view kStat = "net/stat/nf_conntrack";
    std::vector<NamespaceFields> stats;
    std::map<std::string, std::size_t> most_cpus;
    for (const NamespaceSource& netns : files.namespaces()) {
      auto stat = files.read(netns, kStat, parse_conntrack_stat);
      std::size_t& cpus = most_cpus[netns.label] = most_cpus_[netns.label];
      if (!stat) continue;
      // The kernel prints all CPUs that could ever be there, so their number does not change, and
      // fewer lines are a file cut off: its sums would make every counter fall.
      if (stat->cpus < cpus) {
        files.reject(netns, kStat, fmt::format("{} CPUs, {} before", stat->cpus, cpus));
        continue;
      }
      cpus = stat->cpus;
      stats.push_back({&netns, std::move(stat->totals)});
    }
    most_cpus_ = std::move(most_cpus);
    return stats;
  }

  const KernelSource& source_;
  std::map<std::string, std::size_t> most_cpus_;  // of each namespace that is there, so far
};

}  // namespace

Parsed<ConntrackStat> parse_conntrack_stat(std::string_view text) {
  Parsed<ConntrackStat> parsed;
  const auto lines = split_lines(text, parsed.errors);
  if (lines.size() < 2) return parsed;
  const auto& names = lines.front().words;
  std::vector<std::optional<double>> sums(names.size(), 0.0);  // nothing: not of every CPU
  bool whole = text.ends_with('\n');
  for (const auto& [number, values] : std::span(lines).subspan(1)) {
    if (values.size() != names.size()) {
      parsed.errors.add(
          at_line(number, fmt::format("{} names but {} values", names.size(), values.size())));
      whole = false;
      continue;
    }
    for (std::size_t i = 0; i < names.size(); ++i) {
      const auto value = parse_count(values[i], 16);
      if (!value) {
        parsed.errors.add(
            at_line(number, fmt::format("{:.32}: {}", names[i], value.error().message)));
        sums[i].reset();
      } else if (sums[i]) {
        *sums[i] += *value;
      }
    }
  }
  parsed.record.cpus = lines.size() - 1;
  if (!whole) return parsed;
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (std::count(names.begin(), names.end(), names[i]) > 1) {
      parsed.errors.add(at_line(1, fmt::format("{:.32} appears twice", names[i])));
    } else if (sums[i]) {
      parsed.record.totals.emplace(names[i], *sums[i]);
    }
  }
  return parsed;
}

std::unique_ptr<Collector> make_conntrack_collector(const KernelSource& source) {
  return std::make_unique<ConntrackCollector>(source);
}

}  // namespace tcpvitals
