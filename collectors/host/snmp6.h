// The collector `snmp6`: what happened to TCP's packets in the IPv6 layer below it: paths too
// narrow, destinations unreachable, packets dropped. IPv6's own TCP counters are in `snmp` and
// `netstat`: the kernel keeps one set for both families.
#pragma once

#include <memory>
#include <string_view>

#include "collectors/host/fields.h"

namespace tcpvitals {

// Lines of one name and one value. Pure; any thread.
Parsed<Fields> parse_snmp6(std::string_view text);

std::unique_ptr<Collector> make_snmp6_collector(const KernelSource& source);

}  // namespace tcpvitals
