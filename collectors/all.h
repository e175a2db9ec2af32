// Every collector of the host there is, in one list.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "collectors/collector.h"
#include "collectors/connections/connections_collector.h"
#include "collectors/host/host_collectors.h"
#include "collectors/kernel_source.h"

namespace tcpvitals {

// The names of the collectors that make_collectors() knows, in the order of the list; for
// --[no-]collector.NAME and METRICS.md. Static storage.
std::span<const std::string_view> collector_names();

struct CollectorOptions {
  std::vector<std::string> names;  // those to build; each must be in collector_names()
  HostOptions host;
  ConnectionsOptions connections;
};

struct Collectors {
  std::vector<std::unique_ptr<Collector>> all;  // in the order of the list
  ConnectionsCollector* connections = nullptr;  // one of them; null: not among options.names
};

// The collectors of options.names. `source` must outlive them.
Result<Collectors> make_collectors(const KernelSource& source, const CollectorOptions& options);

}  // namespace tcpvitals
