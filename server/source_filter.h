// A filter for a listening IPv4 socket: the kernel lets through what comes from the ends that it
// names, and drops all else before it is anybody's connection. The sockets that the listener
// accepts inherit the filter as it is then. Linux 6.18 wants CAP_NET_ADMIN for it.
#pragma once

#include <linux/filter.h>

#include <span>
#include <vector>

#include "base/ip.h"
#include "base/result.h"

namespace tcpvitals {

// The classic BPF program. `sources` are sorted; about 4000 of them fit into one that the kernel
// takes.
std::vector<sock_filter> source_filter(std::span<const Endpoint> sources);

// Puts the program in force at a socket, in place of the one before.
Result<void> attach_filter(int socket, std::span<const sock_filter> program);

// Everything is let through again.
void detach_filter(int socket);

}  // namespace tcpvitals
