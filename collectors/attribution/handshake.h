// Whether a connection was established, and who opened it, as far as its own counters tell.
//
// A disconnect (tcp_disconnect) clears the counters and the ages of what came in; min_rtt_us it
// leaves, so a socket that is used again has that of its former life.
//
// The peer's acknowledgement of our SYN is a byte of bytes_acked, that of our SYN-ACK is none, and
// our FIN is one too. So
//
//   bytes_acked + bytes in flight - (bytes_sent - bytes_retransmitted) = SYN + FIN
//
// is 0 or 1 for SYN by who connected, and the state says what is known of the FIN. Holds on every
// kernel since 4.19, which has all the fields; what was restored from another process (TCP_REPAIR)
// looks accepted.
#pragma once

#include <optional>

#include "collectors/sock_diag/inet_diag.h"

namespace tcpvitals {

// Whether the row's counters are those of a disconnect: of what is or was established, a segment
// came in. The kernel reads ports and state first and locks the socket for the counters, so a
// disconnect may come in between.
bool is_cleared(const TcpInfo& info);

// Whether the connection ever was. min_rtt_us is asked where nothing else is left: of a socket that
// was disconnected, and before Linux 4.18.
bool was_established(const SocketRow& row, const TcpInfoSample& sample);

enum class OpenedBy { kUs, kPeer };

// Of a row or an event. Nothing where the counters are missing, were cleared by a disconnect, or
// fit both: of an event that is a connection whose FIN left with its last data.
std::optional<OpenedBy> opened_by(const SocketRow& row);

}  // namespace tcpvitals
