#include "collectors/host/process.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <iterator>
#include <vector>

#include "collectors/host/fields.h"
#include "collectors/host/file_reader.h"
#include "collectors/host/proc_text.h"

namespace tcpvitals {
namespace {

constexpr std::array kMetrics = std::to_array<MetricDesc>({
    {"process_cpu_seconds_total",
     MetricType::kCounter,
     "CPU time used by this process, user and system together.",
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
     "Start time of this process, Unix seconds.",
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

// The largest address space, of five levels of page tables.
constexpr double kMostBytes = 0x1p57;

class ProcessCollector final : public Collector {
 public:
  explicit ProcessCollector(const KernelSource& source) : source_(source) {}

  std::string_view name() const override { return "process"; }
  std::span<const MetricDesc> metrics() const override { return kMetrics; }

  Result<void> collect(Sink& sink, TimePoint /*deadline*/) override {
    FileReader files(source_, sink);
    const auto gauge = [&](const MetricDesc& desc, std::optional<double> value, double most,
                           Unit unit = Unit::kBase) {
      if (value && *value > most) {
        files.reject(files.ours(), desc.source,
                     fmt::format("{:.0f} is more than there can be", *value));
      } else if (value) {
        sink.add(desc, to_base(unit, *value));
      }
    };
    const auto stat =
        files.read(files.ours(), "self/stat", parse_process_stat).value_or(ProcessStat());
    if (stat.cpu_ticks) sink.add(kCpu, to_base(Unit::kTicks, *stat.cpu_ticks));
    gauge(kResident, stat.resident_pages, kMostThings, Unit::kPages);
    gauge(kVirtual, stat.virtual_bytes, kMostBytes);
    gauge(kThreads, stat.threads, kMostThings);
    if (!boot_time_) {
      boot_time_ = files.read(files.ours(), "stat", parse_boot_time).value_or(std::nullopt);
    }
    if (boot_time_ && stat.start_ticks) {
      sink.add(kStartTime, *boot_time_ + to_base(Unit::kTicks, *stat.start_ticks));
    }
    const auto limit = files.read(files.ours(), "self/limits", parse_open_files_limit);
    gauge(kMaxFds, limit.value_or(std::nullopt), kMostThings);
    const auto open_fds = source_.count_entries("self/fd");
    if (!open_fds) {
      files.unreadable(files.ours(), open_fds.error());
    } else if (*open_fds > 0) {
      sink.add(kOpenFds, static_cast<double>(*open_fds) - 1);  // without the one that counted
    }
    return files.outcome();
  }

 private:
  const KernelSource& source_;
  // Read once: on a machine with many interrupts /proc/stat is expensive, and when the clock is set
  // the start of the process should stay what it was.
  std::optional<double> boot_time_;
};

using Words = std::vector<std::string_view>;

// What stands after `name` in the line that begins with it.
std::optional<Words> find_words(std::string_view text, std::string_view name, ParseErrors& errors) {
  const Words wanted = split_words(name);
  for (const Line& line : split_lines(text, errors)) {
    if (line.words.size() < wanted.size()) continue;
    const auto rest = line.words.begin() + std::ssize(wanted);
    if (std::equal(wanted.begin(), wanted.end(), line.words.begin())) {
      return Words(rest, line.words.end());
    }
  }
  errors.add(fmt::format("no line {}", name));
  return std::nullopt;
}

std::optional<double> number_in(const Words& words, std::string_view name, ParseErrors& errors) {
  const auto number = words.empty() ? Result<double>(Error{"no value"}) : parse_count(words[0]);
  if (number) return *number;
  errors.add(fmt::format("{}: {}", name, number.error().message));
  return std::nullopt;
}

}  // namespace

Parsed<ProcessStat> parse_process_stat(std::string_view text) {
  Parsed<ProcessStat> parsed;
  if (!text.ends_with('\n')) {
    parsed.errors.add(text.empty() ? "empty" : "cut off before its end");
    return parsed;
  }
  // The command stands in parentheses and may hold anything, newlines and parentheses too.
  const std::size_t command_end = text.rfind(')');
  if (command_end == std::string_view::npos) {
    parsed.errors.add("no command in parentheses");
    return parsed;
  }
  text.remove_prefix(command_end + 1);
  text.remove_suffix(1);
  const auto words = split_words(text);
  // proc(5) numbers the fields from 1; the first after the command is the third.
  const auto field = [&](std::size_t number) -> std::optional<double> {
    constexpr std::size_t kFirst = 3;
    const auto value = number - kFirst < words.size() ? parse_count(words[number - kFirst])
                                                      : Result<double>(Error{"missing"});
    if (value) return *value;
    parsed.errors.add(fmt::format("field {}: {}", number, value.error().message));
    return std::nullopt;
  };
  const auto user = field(14);
  const auto system = field(15);
  ProcessStat& stat = parsed.record;
  if (user && system) stat.cpu_ticks = *user + *system;
  stat.threads = field(20);
  stat.start_ticks = field(22);
  stat.virtual_bytes = field(23);
  stat.resident_pages = field(24);
  return parsed;
}

Parsed<std::optional<double>> parse_open_files_limit(std::string_view text) {
  Parsed<std::optional<double>> parsed;
  constexpr std::string_view kName = "Max open files";
  const auto limit = find_words(text, kName, parsed.errors);
  if (!limit || (!limit->empty() && limit->front() == "unlimited")) return parsed;
  parsed.record = number_in(*limit, kName, parsed.errors);
  return parsed;
}

Parsed<std::optional<double>> parse_boot_time(std::string_view text) {
  Parsed<std::optional<double>> parsed;
  constexpr std::string_view kName = "btime";
  const auto time = find_words(text, kName, parsed.errors);
  if (time) parsed.record = number_in(*time, kName, parsed.errors);
  return parsed;
}

std::unique_ptr<Collector> make_process_collector(const KernelSource& source) {
  return std::make_unique<ProcessCollector>(source);
}

}  // namespace tcpvitals
