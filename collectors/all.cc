#include "collectors/all.h"

#include <algorithm>
#include <array>
#include <utility>

#include "collectors/host/conntrack.h"
#include "collectors/host/netstat.h"
#include "collectors/host/process.h"
#include "collectors/host/snmp.h"
#include "collectors/host/snmp6.h"
#include "collectors/host/sockstat.h"
#include "collectors/host/sysctl.h"

namespace tcpvitals {
namespace {

using Made = Result<std::unique_ptr<Collector>>;

struct Entry {
  std::string_view name;
  Made (*make)(const KernelSource& source, const CollectorOptions& options);
};

template <std::unique_ptr<Collector> (*make)(const KernelSource&)>
Made plain(const KernelSource& source, const CollectorOptions& /*options*/) {
  return make(source);
}

Made make_netstat(const KernelSource& source, const CollectorOptions& options) {
  return make_netstat_collector(source, options.netstat_fields);
}

Made make_connections(const KernelSource& source, const CollectorOptions& options) {
  return Made(std::make_unique<ConnectionsCollector>(source, options.connections));
}

constexpr std::array kEntries = std::to_array<Entry>({
    {"connections", make_connections},
    {"snmp", plain<make_snmp_collector>},
    {"snmp6", plain<make_snmp6_collector>},
    {"netstat", make_netstat},
    {"sockstat", plain<make_sockstat_collector>},
    {"sockstat6", plain<make_sockstat6_collector>},
    {"conntrack", plain<make_conntrack_collector>},
    {"sysctl", plain<make_sysctl_collector>},
    {"process", plain<make_process_collector>},
});

constexpr auto kNames = [] {
  std::array<std::string_view, kEntries.size()> names;
  for (std::size_t i = 0; i < names.size(); ++i) names[i] = kEntries[i].name;
  return names;
}();

bool contains(std::span<const std::string> names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

}  // namespace

std::span<const std::string_view> collector_names() { return kNames; }

Result<Collectors> make_collectors(const KernelSource& source, const CollectorOptions& options) {
  for (const std::string& name : options.names) {
    if (std::find(kNames.begin(), kNames.end(), name) == kNames.end()) {
      return Error{"no collector is called \"" + name + "\""};
    }
  }
  Collectors collectors;
  for (const Entry& entry : kEntries) {
    if (!contains(options.names, entry.name)) continue;
    Made made = entry.make(source, options);
    if (!made) return std::move(made.error());
    if (entry.make == make_connections) {
      collectors.connections = static_cast<ConnectionsCollector*>(made->get());
    }
    collectors.all.push_back(std::move(*made));
  }
  return collectors;
}

}  // namespace tcpvitals
