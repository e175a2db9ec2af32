// The collector `process`: what the agent itself costs, under the names that every Prometheus
// client uses.
#pragma once

#include <memory>
#include <optional>
#include <string_view>

#include "collectors/collector.h"
#include "collectors/kernel_source.h"
#include "collectors/parse_errors.h"

namespace tcpvitals {

// From /proc/self/stat, in the kernel's units; each is nothing where the text does not have it.
struct ProcessStat {
  std::optional<double> cpu_ticks;  // user and system
  std::optional<double> threads;
  std::optional<double> start_ticks;  // since boot
  std::optional<double> virtual_bytes;
  std::optional<double> resident_pages;

  bool operator==(const ProcessStat&) const = default;
};

// All pure; any thread.
Parsed<ProcessStat> parse_process_stat(std::string_view text);
// The soft limit of open files in /proc/self/limits; nothing if there is none.
Parsed<std::optional<double>> parse_open_files_limit(std::string_view text);
// When the machine booted, in seconds since 1970: btime in /proc/stat.
Parsed<std::optional<double>> parse_boot_time(std::string_view text);

std::unique_ptr<Collector> make_process_collector(const KernelSource& source);

}  // namespace tcpvitals
