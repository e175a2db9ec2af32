#include "collectors/host/host_collectors.h"

#include <algorithm>
#include <array>
#include <set>

#include "collectors/host/conntrack.h"
#include "collectors/host/fields.h"
#include "collectors/host/netstat.h"
#include "collectors/host/proc_text.h"
#include "collectors/host/process.h"
#include "collectors/host/snmp.h"
#include "collectors/host/snmp6.h"
#include "collectors/host/sockstat.h"
#include "collectors/host/sysctl.h"

namespace tcpvitals {
namespace {

using Made = Result<std::unique_ptr<Collector>>;

template <std::unique_ptr<Collector> (*make)(const KernelSource&)>
Made plain(const KernelSource& source, const HostOptions& /*options*/) {
  return make(source);
}

Made make_netstat(const KernelSource& source, const HostOptions& options) {
  return make_netstat_collector(source, options.netstat_fields);
}

constexpr std::array kCollectors = std::to_array<HostCollector>({
    {"snmp", plain<make_snmp_collector>},
    {"snmp6", plain<make_snmp6_collector>},
    {"netstat", make_netstat},
    {"sockstat", plain<make_sockstat_collector>},
    {"sockstat6", plain<make_sockstat6_collector>},
    {"conntrack", plain<make_conntrack_collector>},
    {"sysctl", plain<make_sysctl_collector>},
    {"process", plain<make_process_collector>},
});

std::vector<std::string> find_namespace_files() {
  const ProcSource unread("/proc");
  std::set<std::string_view> files;
  for (const HostCollector& entry : kCollectors) {
    const Made collector = entry.make(unread, {});
    if (!collector) continue;  // only options can be wrong, and these are the defaults
    for (const MetricDesc& desc : (*collector)->metrics()) {
      const auto labels = std::span(desc.labels).first(desc.label_count());
      if (std::find(labels.begin(), labels.end(), kNetnsLabel) == labels.end()) continue;
      const auto own = files_of(desc);
      files.insert(own.begin(), own.end());
    }
  }
  return {files.begin(), files.end()};
}

}  // namespace

std::span<const HostCollector> host_collectors() { return kCollectors; }

std::vector<std::string_view> files_of(const MetricDesc& desc) {
  constexpr std::string_view kProc = "/proc/";
  std::vector<std::string_view> files;
  for (std::string_view word : split_words(desc.source)) {
    if (!word.starts_with(kProc)) continue;
    word.remove_prefix(kProc.size());
    if (word.ends_with(',')) word.remove_suffix(1);
    files.push_back(word);
  }
  return files;
}

std::span<const std::string> namespace_files() {
  static const std::vector<std::string> files = find_namespace_files();
  return files;
}

}  // namespace tcpvitals
