// The collector `conntrack`: how full the connection tracking table of netfilter is, and what it
// dropped, in each network namespace. It holds every protocol, but on most hosts TCP fills it. A
// host that does not track is absent, not zero; each of the three files can be missing on its own.
#pragma once

#include <memory>
#include <string_view>

#include "collectors/host/fields.h"

namespace tcpvitals {

// /proc/net/stat/nf_conntrack: a line of names, then one line of hexadecimal numbers for each CPU.
struct ConntrackStat {
  Fields totals;  // summed over the CPUs; none where a CPU's line cannot be used
  std::size_t cpus = 0;

  bool operator==(const ConntrackStat&) const = default;
};

// Pure; any thread.
Parsed<ConntrackStat> parse_conntrack_stat(std::string_view text);

std::unique_ptr<Collector> make_conntrack_collector(const KernelSource& source);

}  // namespace tcpvitals
