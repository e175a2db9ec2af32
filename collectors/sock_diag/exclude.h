// Excludes, carried out by the kernel: one program that a dump runs over every socket before it
// makes a row of it, and one that the event socket runs over every DESTROY datagram before it
// queues it. What is excluded costs neither a row, nor a copy, nor a wake-up.
//
//   dump    INET_DIAG bytecode (include/uapi/linux/inet_diag.h, net/ipv4/inet_diag.c)
//   events  classic BPF, for SO_ATTACH_FILTER
//
// Both say the same as excluded(), with one limit of the kernel's: a connection that was aborted
// with zero linger has lost its remote port by the time of its event, so that an exclude of that
// port does not match. Its local port and its remote address are still there.
//
// Pure; no I/O.
#pragma once

#include <linux/filter.h>

#include <cstddef>
#include <vector>

#include "base/ip.h"
#include "base/result.h"
#include "collectors/sock_diag/inet_diag.h"

namespace tcpvitals {

// Sockets that are kept out of dumps and events, in the kernel.
struct Excludes {
  bool loopback = false;         // the peer is in 127.0.0.0/8 or is ::1
  std::vector<PortRange> ports;  // of either end: in the kernel there is no direction
  std::vector<IpPrefix> peers;   // the remote address

  bool empty() const { return !loopback && ports.empty() && peers.empty(); }
  bool operator==(const Excludes&) const = default;
};

// Whether `row` is left out. A socket without a peer (a listener) never is: the states of a host
// would lack it, and a direction could not be told.
bool excluded(const Excludes& excludes, const SocketRow& row);

// Both empty if nothing is excluded.
struct ExcludePrograms {
  std::vector<std::byte> dump;
  std::vector<sock_filter> events;
};

// Fails if the programs would be longer than the kernel takes: from 500 IPv4 prefixes, 300 of IPv6,
// or 500 ranges of ports; of a mixture, in proportion. Prefixes are a decision tree: hundreds cost
// a dump as much as ten. Port ranges are tried one by one: 10 ns each, for every socket.
Result<ExcludePrograms> compile_excludes(const Excludes& excludes);

}  // namespace tcpvitals
