// LocalPorts: the ports that the kernel of a network namespace gives to connections which did not
// choose one: net.ipv4.ip_local_port_range without net.ipv4.ip_local_reserved_ports. A plain value.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "base/ip.h"
#include "base/result.h"

namespace tcpvitals {

struct LocalPorts {
  PortRange range;
  std::vector<PortRange> reserved;  // ascending, no two overlap

  bool contains(std::uint16_t port) const;
  std::size_t size() const;

  bool operator==(const LocalPorts&) const = default;
};

// From the two files: "32768\t60999\n" and "8080,9000-9009\n". A kernel that reserves nothing has
// an empty line there.
Result<LocalPorts> parse_local_ports(std::string_view range, std::string_view reserved);

}  // namespace tcpvitals
