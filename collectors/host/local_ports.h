// LocalPorts: the ports that the kernel of a network namespace gives to connections which did not
// choose one: net.ipv4.ip_local_port_range without net.ipv4.ip_local_reserved_ports. A plain value.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "base/ip.h"
#include "collectors/parse_errors.h"

namespace tcpvitals {

struct LocalPorts {
  PortRange range;
  std::vector<PortRange> reserved;  // ascending, no two overlap

  bool contains(std::uint16_t port) const;
  std::size_t size() const;

  bool operator==(const LocalPorts&) const = default;
};

// The two numbers of ip_local_port_range, as parse_sysctl() tells them; nothing if they are no
// range of ports. Pure; any thread.
std::optional<PortRange> port_range(std::span<const std::optional<double>> numbers);

// The line of ip_local_reserved_ports, "8080,9148-9150"; an empty line: none. What is no ascending
// range of ports is left out. Pure; any thread.
Parsed<std::vector<PortRange>> parse_port_list(std::string_view text);

}  // namespace tcpvitals
