#include "collectors/all.h"

#include <algorithm>
#include <utility>

#include "collectors/host/host_collectors.h"
#include "collectors/host/proc_tcp.h"

namespace tcpvitals {
namespace {

constexpr std::string_view kConnections = "connections";
constexpr std::string_view kProcTcp = "proc_tcp";

bool contains(std::span<const std::string> names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

}  // namespace

std::span<const std::string_view> collector_names() {
  static const std::vector<std::string_view> names = [] {
    std::vector<std::string_view> all{kConnections, kProcTcp};
    for (const HostCollector& host : host_collectors()) all.push_back(host.name);
    return all;
  }();
  return names;
}

Result<Collectors> make_collectors(const KernelSource& source, const CollectorOptions& options) {
  const auto known = collector_names();
  for (const std::string& name : options.names) {
    if (std::find(known.begin(), known.end(), name) == known.end()) {
      return Error{"no collector is called \"" + name + "\""};
    }
  }
  Collectors collectors;
  if (contains(options.names, kConnections)) {
    auto connections = std::make_unique<ConnectionsCollector>(source, options.connections);
    collectors.connections = connections.get();
    collectors.all.push_back(std::move(connections));
  }
  if (contains(options.names, kProcTcp)) {
    // Where connections are not wanted, nothing stands in for them.
    const ConnectionsCollector* const connections = collectors.connections;
    collectors.all.push_back(make_proc_tcp_collector(source, [connections] {
      return connections == nullptr ? std::nullopt : connections->stand_in_budget();
    }));
  }
  for (const HostCollector& host : host_collectors()) {
    if (!contains(options.names, host.name)) continue;
    auto made = host.make(source, options.host);
    if (!made) return std::move(made.error());
    collectors.all.push_back(std::move(*made));
  }
  return collectors;
}

}  // namespace tcpvitals
