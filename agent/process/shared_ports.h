// Who else listens on our ports: with SO_REUSEPORT, which several workers need, the kernel lets
// every process of this user join them, and spreads connections over all.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "base/ip.h"
#include "base/result.h"
#include "server/ports.h"

namespace tcpvitals {

struct ListeningSocket {
  std::uint64_t cookie = 0;
  Endpoint endpoint;
};

// Of ours those that a socket of `all` shares connections with, and that is none of ours. Pure.
std::vector<Endpoint> shared_endpoints(const std::vector<ListeningSocket>& ours,
                                       const std::vector<ListeningSocket>& all);

// The same, of listening sockets with names, asking the kernel for all others of this
// network namespace: a tenth of a millisecond each. Fails where the kernel has no sock_diag.
Result<std::vector<Endpoint>> find_shared_endpoints(
    const std::vector<std::pair<std::string, SharedFd>>& ours);

}  // namespace tcpvitals
