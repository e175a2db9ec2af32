// The collectors of this room in one list, and the files that their metrics come from.
//
// A file is known by the metrics that name it in their source: a metric with the label `netns` is
// enough to have its file opened in every network namespace.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "collectors/collector.h"
#include "collectors/kernel_source.h"

namespace tcpvitals {

struct HostOptions {
  std::string netstat_fields;  // see make_netstat_collector()
};

struct HostCollector {
  std::string_view name;
  Result<std::unique_ptr<Collector>> (*make)(const KernelSource& source,
                                             const HostOptions& options);
};

// In the order in which they are shown. Static storage.
std::span<const HostCollector> host_collectors();

// The files and directories that a metric comes from, as KernelSource::read() wants them: the words
// of its source that begin with /proc/. Pure.
std::vector<std::string_view> files_of(const MetricDesc& desc);

// The files that a network namespace has of its own: those of the metrics with the label `netns`.
// Sorted, each once. Static storage; any thread.
std::span<const std::string> namespace_files();

}  // namespace tcpvitals
