// Reads all that a sock_diag row tells of one socket, what `ss -tinem` shows and a little more.
// Pure, safe on any bytes; meant for a few sockets, not for every row of a dump.
#pragma once

#include "collectors/connections/inet_diag.h"
#include "collectors/connections/query.h"

namespace tcpvitals {

// `row` as InetDiagReader gave it; the datagram it points into must still be there. What a dump of
// less than DumpDetail::kEverything did not bring is absent; so is an attribute of another size
// than this program knows.
SocketDetail read_detail(const SocketRow& row);

}  // namespace tcpvitals
