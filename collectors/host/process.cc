#include "collectors/host/process.h"

#include <fmt/format.h>

#include <array>
#include <vector>

#include "collectors/host/fields.h"
#include "collectors/host/proc_text.h"

namespace tcpvitals {
namespace {

constexpr std::array kMetrics = std::to_array<MetricDesc>({
    {"process_cpu_seconds_total",
     MetricType::kCounter,
     "Processor time that this process has used, user and system together.",
     {},
     "/proc/self/stat utime stime"},
    {"process_resident_memory_bytes",
     MetricType::kGauge,
     "Memory of this process that is in RAM.",
     {},
     "/proc/self/stat rss"},
    {"process_virtual_memory_bytes",
     MetricType::kGauge,
     "Address space of this process.",
     {},
     "/proc/self/stat vsize"},
    {"process_threads",
     MetricType::kGauge,
     "Threads of this process.",
     {},
     "/proc/self/stat num_threads"},
    {"process_start_time_seconds",
     MetricType::kGauge,
     "When this process started, in seconds since 1970.",
     {},
     "/proc/self/stat starttime, /proc/stat btime"},
    {"process_open_fds",
     MetricType::kGauge,
     "File descriptors that this process has open; compare with process_max_fds.",
     {},
     "/proc/self/fd"},
    {"process_max_fds",
     MetricType::kGauge,
     "File descriptors that this process may have open, absent if there is no limit.",
     {},
     "/proc/self/limits Max open files"},
});
constexpr const MetricDesc& kCpu = kMetrics[0];
constexpr const MetricDesc& kResident = kMetrics[1];
constexpr const MetricDesc& kVirtual = kMetrics[2];
constexpr const MetricDesc& kThreads = kMetrics[3];
constexpr const MetricDesc& kStartTime = kMetrics[4];
constexpr const MetricDesc& kOpenFds = kMetrics[5];
constexpr const MetricDesc& kMaxFds = kMetrics[6];

class ProcessCollector final : public Collector {
 public:
  explicit ProcessCollector(const KernelSource& source) : source_(source) {}

  std::string_view name() const override { return "process"; }
  std::span<const MetricDesc> metrics() const override { return kMetrics; }

  Result<void> collect(Sink& sink, TimePoint /*deadline*/) override {
    const auto stat = read_parsed(source_, "self/stat", parse_process_stat);
    if (!stat) return stat.error();
    const auto max_fds = read_parsed(source_, "self/limits", parse_open_files_limit);
    if (!max_fds) return max_fds.error();
    const auto open_fds = source_.count_entries("self/fd");
    if (!open_fds) return open_fds.error();
    if (!boot_time_) {
      const auto boot_time = read_parsed(source_, "stat", parse_boot_time);
      if (!boot_time) return boot_time.error();
      boot_time_ = *boot_time;
    }
    sink.add(kCpu, to_base(Unit::kTicks, stat->cpu_ticks));
    sink.add(kResident, to_base(Unit::kPages, stat->resident_pages));
    sink.add(kVirtual, stat->virtual_bytes);
    sink.add(kThreads, stat->threads);
    sink.add(kStartTime, *boot_time_ + to_base(Unit::kTicks, stat->start_ticks));
    sink.add(kOpenFds, static_cast<double>(*open_fds) - 1);  // without the one that counted
    if (*max_fds) sink.add(kMaxFds, **max_fds);
    return {};
  }

 private:
  const KernelSource& source_;
  // Read once: on a machine with many interrupts /proc/stat is expensive, and when the clock is set
  // the start of the process should stay what it was.
  std::optional<double> boot_time_;
};

}  // namespace

Result<ProcessStat> parse_process_stat(std::string_view text) {
  const auto lines = split_lines(text);
  if (!lines) return lines.error();
  // The command stands in parentheses and may hold anything, newlines and parentheses too.
  const std::size_t command_end = text.rfind(')');
  if (command_end == std::string_view::npos) return Error{"no command in parentheses"};
  text.remove_prefix(command_end + 1);
  text.remove_suffix(1);
  // proc(5) numbers the fields from 1; the first after the command is the third.
  constexpr std::size_t kFirst = 3;
  constexpr std::size_t kFields = 52;
  const auto words = split_words(text);
  if (words.size() < kFields - kFirst + 1) {
    return Error{fmt::format("{} fields, not {}", words.size() + kFirst - 1, kFields)};
  }
  std::array<double, 6> values{};
  constexpr std::array<std::size_t, 6> kWanted{14, 15, 20, 22, 23, 24};
  for (std::size_t i = 0; i < kWanted.size(); ++i) {
    const auto number = parse_number(words[kWanted[i] - kFirst]);
    if (!number) return Error(number.error()).in(fmt::format("field {}", kWanted[i]));
    values[i] = *number;
  }
  const auto [utime, stime, threads, start, vsize, rss] = values;
  return ProcessStat{utime + stime, threads, start, vsize, rss};
}

Result<std::optional<double>> parse_open_files_limit(std::string_view text) {
  constexpr std::string_view kName = "Max open files";
  const auto lines = split_lines(text);
  if (!lines) return lines.error();
  for (std::size_t i = 0; i < lines->size(); ++i) {
    const std::string_view line = (*lines)[i];
    if (!line.starts_with(kName)) continue;
    const auto words = split_words(line.substr(kName.size()));
    if (words.empty()) return line_error(i + 1, "no limit");
    if (words[0] == "unlimited") return std::optional<double>();
    const auto number = parse_number(words[0]);
    if (!number) return line_error(i + 1, number.error().message);
    return std::optional<double>(*number);
  }
  return Error{fmt::format("no line {}", kName)};
}

Result<double> parse_boot_time(std::string_view text) {
  const auto lines = split_lines(text);
  if (!lines) return lines.error();
  for (std::size_t i = 0; i < lines->size(); ++i) {
    const auto words = split_words((*lines)[i]);
    if (words.size() != 2 || words[0] != "btime") continue;
    const auto number = parse_number(words[1]);
    if (!number) return line_error(i + 1, number.error().message);
    return *number;
  }
  return Error{"no line btime"};
}

std::unique_ptr<Collector> make_process_collector(const KernelSource& source) {
  return std::make_unique<ProcessCollector>(source);
}

}  // namespace tcpvitals
