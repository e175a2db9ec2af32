// ConnectionsConfig: what an operator decides about how connections are counted: names for peers
// and ports, which labels, what is left out, and the bounds.
//
// A plain value with a default for everything; whoever reads one from a file checks it
// (agent/config/config.h). It may be replaced while the agent runs: Sampler::reconfigure().
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "collectors/attribution/classify.h"
#include "collectors/attribution/peer_groups.h"
#include "collectors/attribution/port_names.h"
#include "collectors/sock_diag/exclude.h"

namespace tcpvitals {

// What lies above a limit is counted in `other`, or in a counter of its own; never lost in silence.
struct ConnectionLimits {
  std::size_t connections = 262'144;  // tracked one by one; further ones count when they close
  std::size_t groups = 200;           // besides those of `other`, which are few
  std::size_t peers = 64;             // names of peers, the built-in ones included
  std::size_t cgroups = 100;          // names of cgroups
  std::size_t namespaces = 64;        // network namespaces, ours included
  std::size_t listeners = 256;        // addresses and ports that listen and are shown

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

  Grouping grouping() const { return {group_by, peers, ports}; }
};

}  // namespace tcpvitals
