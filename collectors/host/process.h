// The collector `process`: what the agent itself costs, under the names that every Prometheus
// client uses.
#pragma once

#include <memory>
#include <optional>
#include <string_view>

#include "base/result.h"
#include "collectors/collector.h"
#include "collectors/kernel_source.h"

namespace tcpvitals {

// From /proc/self/stat, in the kernel's units.
struct ProcessStat {
  double cpu_ticks = 0;  // user and system
  double threads = 0;
  double start_ticks = 0;  // since boot
  double virtual_bytes = 0;
  double resident_pages = 0;

  bool operator==(const ProcessStat&) const = default;
};

// All pure; any thread.
Result<ProcessStat> parse_process_stat(std::string_view text);
// The soft limit of open files in /proc/self/limits; nothing if there is none.
Result<std::optional<double>> parse_open_files_limit(std::string_view text);
// When the machine booted, in seconds since 1970: btime in /proc/stat.
Result<double> parse_boot_time(std::string_view text);

std::unique_ptr<Collector> make_process_collector(const KernelSource& source);

}  // namespace tcpvitals
