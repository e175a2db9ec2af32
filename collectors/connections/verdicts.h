// Verdicts: what the last tcp_info of a connection proves, and no more. Pure functions of the
// evidence; a field that the kernel did not return is no evidence.
//
// The evidence of an end, each line seen in a run:
//
//   remote port 0      The kernel ran tcp_disconnect() first: a close with zero linger, a
//                      disconnect, a blocking connect that failed, the close of an MPTCP subflow.
//                      Counters and the ages of what came in are cleared; min_rtt_us is not.
//   segs_in 0          of an attempt: no TCP segment came back. A lost SYN, an ICMP error (a REJECT
//                      rule, a host that answers no ARP) and an application that closes the attempt
//                      leave the same traces: the time until it ended, and how often the SYN was
//                      sent, are chance.
//   retransmits,       of what is unacknowledged, or of a silent peer: back to 0 with the next
//   probes             acknowledgement. Above 0 at the end: the peer no longer acknowledged.
//                      Whether the kernel then gave up or a reset came last cannot be told.
//   last_data_sent,    both are set when a connection is established, and at its data: it is
//   last_data_received at least that old, and as old as it was busy
#pragma once

#include <chrono>
#include <cstdint>

#include "collectors/attribution/groups.h"
#include "collectors/connections/connection_table.h"
#include "collectors/sock_diag/inet_diag.h"
#include "collectors/sock_diag/tcp_info.h"

namespace tcpvitals {

// Whether the event's counters are those of the connection.
inline bool has_final_counters(const SocketRow& event) { return event.remote_port != 0; }

// Whether an inbound event is of a socket that the kernel made and did not use. Two CPUs may each
// make one of the same handshake, from its last ACK and from the data behind it; one is kept, two
// are counted in PassiveOpens. The other never had its SYN-ACK delivered.
bool is_spare_of_handshake(const SocketRow& event, const TcpInfoSample& sample);

// How an established connection ended whose last counters are `event`'s.
ConnectionEnd end_of(const SocketRow& event, const TcpInfoSample& sample, bool outbound,
                     TcpState last_seen);

// Why an attempt ended that never was established.
ConnectFailure failure_of(const SocketRow& event, const TcpInfoSample& sample);

// A lower bound of the time since a connection was established; 0: nothing is known.
std::chrono::milliseconds age_of(const SocketRow& row, const TcpInfoSample& sample);

// Whether a row or event with these ends and counters is of another connection than `c`, which had
// the same socket: a u64 that fell, or a u32 that cannot have wrapped.
bool is_reused(const TrackedConnection& c, std::uint32_t ends, const TcpInfo& info);

// Of both addresses and the remote port: what connections must share to compete for local ports.
std::uint32_t ends_hash(const SocketRow& row);

}  // namespace tcpvitals
