// ConnectionsConfig: what an operator decides about how connections are counted: names for peers
// and ports, which labels, what is left out, and the bounds.
//
// A plain value with a default for everything; whoever reads one from a file checks it
// (agent/config.h). It may be replaced while the agent runs: Sampler::reconfigure().
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "base/ip.h"

namespace tcpvitals {

// Both ends included.
struct PortRange {
  std::uint16_t first = 0;
  std::uint16_t last = 0;

  bool contains(std::uint16_t port) const { return first <= port && port <= last; }
  auto operator<=>(const PortRange&) const = default;
};

// A name may have many prefixes or ranges: one entry each.
struct NamedPrefix {
  std::string name;
  IpPrefix prefix;

  bool operator==(const NamedPrefix&) const = default;
};
struct NamedPorts {
  std::string name;
  PortRange ports;

  bool operator==(const NamedPorts&) const = default;
};

// The labels that make a group; one that is off is left out of every series.
struct GroupBy {
  bool direction = true;
  bool port = true;
  bool peer = true;
  bool cgroup = false;
  bool netns = false;

  bool operator==(const GroupBy&) const = default;
};

// Sockets that are kept out of dumps and events, in the kernel.
struct Excludes {
  bool loopback = false;         // the peer is in 127.0.0.0/8 or is ::1
  std::vector<PortRange> ports;  // of either end: in the kernel there is no direction
  std::vector<IpPrefix> peers;   // the remote address

  bool empty() const { return !loopback && ports.empty() && peers.empty(); }
  bool operator==(const Excludes&) const = default;
};

// What lies above a limit is counted in `other`, or in a counter of its own; never lost in silence.
struct ConnectionLimits {
  std::size_t connections = 262'144;  // tracked one by one; further ones count when they close
  std::size_t groups = 200;           // besides those of `other`, which are few
  std::size_t peers = 64;             // names of peers, the built-in ones included
  std::size_t cgroups = 100;          // names of cgroups
  std::size_t namespaces = 64;        // network namespaces, ours included

  bool operator==(const ConnectionLimits&) const = default;
};

struct ConnectionsConfig {
  std::vector<NamedPrefix> peers;  // beside the built-in ones; the longest prefix wins
  std::vector<NamedPorts> ports;   // the narrowest range wins
  GroupBy group_by;
  Excludes excludes;
  ConnectionLimits limits;
  double cpu_budget = 0.05;                       // of one core, for full dumps
  std::chrono::seconds group_idle{3600};          // without a socket for that long, a group leaves
  std::chrono::seconds close_wait_threshold{60};  // older ones are counted
  std::size_t ephemeral_destinations = 10;        // groups that show their use of local ports

  bool operator==(const ConnectionsConfig&) const = default;
};

}  // namespace tcpvitals
