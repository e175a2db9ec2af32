// The collectors `sockstat` and `sockstat6`: how many TCP sockets there are, and the memory they
// take. Two, because a host without IPv6 has only the first file.
#pragma once

#include <memory>
#include <string_view>

#include "collectors/host/fields.h"

namespace tcpvitals {

// Lines of `TCP: name value name value ...`; a field is called TCP:name. The line of `protocol`
// (TCP or TCP6) is read. Pure; any thread.
Parsed<Fields> parse_sockstat(std::string_view text, std::string_view protocol);

std::unique_ptr<Collector> make_sockstat_collector(const KernelSource& source);
std::unique_ptr<Collector> make_sockstat6_collector(const KernelSource& source);

}  // namespace tcpvitals
