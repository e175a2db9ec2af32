// Who opened a connection, as far as its own counters tell.
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

enum class OpenedBy { kUs, kPeer };

// Of a row or an event. Nothing where the counters are missing, were cleared by a disconnect, or
// fit both: of an event that is a connection whose FIN left with its last data.
std::optional<OpenedBy> opened_by(const SocketRow& row);

}  // namespace tcpvitals
