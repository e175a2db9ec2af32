// The collector `snmp`: what /proc/net/snmp counts for TCP on this host: segments, connections,
// failures, and what IPv4 below it lost.
#pragma once

#include <memory>
#include <string_view>

#include "collectors/host/fields.h"

namespace tcpvitals {

// The sections Ip, Icmp and Tcp. Pure; any thread.
Parsed<Fields> parse_snmp(std::string_view text);

std::unique_ptr<Collector> make_snmp_collector(const KernelSource& source);

}  // namespace tcpvitals
