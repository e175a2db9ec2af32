#include "collectors/host/conntrack.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <vector>

#include "collectors/host/proc_text.h"
#include "collectors/host/sysctl.h"

namespace tcpvitals {
namespace {

// A gauge in truth; but linters reserve the suffix _count of a typed metric for histograms, and
// this is the name that operators know.
constexpr MetricDesc kCount{
    "tcp_conntrack_count",
    MetricType::kUntyped,
    "Connections of any protocol that are tracked now; compare with tcp_conntrack_limit.",
    {},
    "/proc/sys/net/netfilter/nf_conntrack_count"};
constexpr MetricDesc kLimit{"tcp_conntrack_limit",
                            MetricType::kGauge,
                            "Connections that the tracking table holds at most.",
                            {},
                            "/proc/sys/net/netfilter/nf_conntrack_max"};

constexpr std::array kTable = std::to_array<FieldMetric>({
    counter_row("tcp_conntrack_insert_failures_total", "/proc/net/stat/nf_conntrack insert_failed",
                "Connections of any protocol that could not be added to the tracking table, mostly "
                "because another took the same addresses first."),
    counter_row("tcp_conntrack_drops_total", "/proc/net/stat/nf_conntrack drop",
                "Packets of any protocol dropped because the tracking table was full or had no "
                "memory; compare tcp_conntrack_count with tcp_conntrack_limit."),
    counter_row("tcp_conntrack_early_drops_total", "/proc/net/stat/nf_conntrack early_drop",
                "Tracked connections of any protocol evicted to make room for new ones."),
    counter_row("tcp_conntrack_invalid_packets_total", "/proc/net/stat/nf_conntrack invalid",
                "Packets of any protocol that fit no tracked connection."),
    counter_row(
        "tcp_conntrack_clashes_resolved_total", "/proc/net/stat/nf_conntrack clashres",
        "Connections of any protocol that raced for one entry and were given a shared one."),
    counter_row("tcp_conntrack_chain_overflows_total", "/proc/net/stat/nf_conntrack chainlength",
                "Connections of any protocol dropped because their hash chain was too long."),
    counter_row("tcp_conntrack_search_restarts_total", "/proc/net/stat/nf_conntrack search_restart",
                "Lookups begun again because the tracking table was being resized."),
});

constexpr auto kMetrics = [] {
  constexpr auto stat = descs_of(kTable);
  std::array<MetricDesc, stat.size() + 2> all;
  all[0] = kCount;
  all[1] = kLimit;
  std::copy(stat.begin(), stat.end(), all.begin() + 2);
  return all;
}();

Result<double> parse_value(std::string_view text) {
  const auto values = parse_sysctl(text, 1);
  if (!values) return values.error();
  return values->front();
}

class ConntrackCollector final : public Collector {
 public:
  explicit ConntrackCollector(const KernelSource& source) : source_(source) {}

  std::string_view name() const override { return "conntrack"; }
  std::span<const MetricDesc> metrics() const override { return kMetrics; }

  Result<void> collect(Sink& sink, TimePoint /*deadline*/) override {
    const auto count = read_parsed(source_, "sys/net/netfilter/nf_conntrack_count", parse_value);
    if (!count) return count.error();
    const auto limit = read_parsed(source_, "sys/net/netfilter/nf_conntrack_max", parse_value);
    if (!limit) return limit.error();
    sink.add(kCount, *count);
    sink.add(kLimit, *limit);
    return collect_stat(sink);
  }

 private:
  static constexpr std::string_view kStat = "net/stat/nf_conntrack";

  Result<void> collect_stat(Sink& sink) {
    const auto stat = read_parsed(source_, kStat, parse_conntrack_stat);
    if (!stat && stat.error().is_absent()) return {};
    if (!stat) return stat.error();
    // The kernel prints all CPUs that could ever be there, so their number does not change, and
    // fewer lines are a file cut off: its sums would make every counter fall.
    if (stat->cpus < cpus_) {
      return Error{fmt::format("{}: {} CPUs, {} before", kStat, stat->cpus, cpus_)};
    }
    cpus_ = stat->cpus;
    const NamespaceFields ours{"", stat->totals};
    const auto emitted = emit_fields({&ours, 1}, kTable, sink);
    if (!emitted) return Error(emitted.error()).in(kStat);
    return {};
  }

  const KernelSource& source_;
  std::size_t cpus_ = 0;
};

}  // namespace

Result<ConntrackStat> parse_conntrack_stat(std::string_view text) {
  const auto lines = split_lines(text);
  if (!lines) return lines.error();
  if (lines->size() == 1) return Error{"no CPUs"};
  const auto names = split_words(lines->front());
  std::vector<double> sums(names.size());
  for (std::size_t i = 1; i < lines->size(); ++i) {
    const auto values = split_words((*lines)[i]);
    if (values.size() != names.size()) {
      return line_error(i + 1, fmt::format("{} names but {} values", names.size(), values.size()));
    }
    for (std::size_t j = 0; j < names.size(); ++j) {
      const auto number = parse_number(values[j], 16);
      if (!number) return line_error(i + 1, number.error().message);
      sums[j] += *number;
    }
  }
  ConntrackStat stat{{}, lines->size() - 1};
  for (std::size_t j = 0; j < names.size(); ++j) {
    if (!stat.totals.emplace(names[j], sums[j]).second) {
      return line_error(1, fmt::format("{:.32} appears twice", names[j]));
    }
  }
  return stat;
}

std::unique_ptr<Collector> make_conntrack_collector(const KernelSource& source) {
  return std::make_unique<ConntrackCollector>(source);
}

}  // namespace tcpvitals
