// The collector `netstat`: the counters of /proc/net/netstat that tell in an incident what TCP was
// doing; the others on request.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "collectors/host/fields.h"

namespace tcpvitals {

// The sections TcpExt and IpExt. Pure; any thread.
Parsed<Fields> parse_netstat(std::string_view text);

// `fields`: a POSIX extended regular expression. A field that has no metric of its own, and whose
// whole name as nstat prints it (TcpExtTCPHPHits) matches, becomes tcp_host_netstat_value{field}.
// Empty: none.
Result<std::unique_ptr<Collector>> make_netstat_collector(const KernelSource& source,
                                                          const std::string& fields);

}  // namespace tcpvitals
