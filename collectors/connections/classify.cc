#include "collectors/connections/classify.h"

namespace tcpvitals {

Direction Classifier::direction(const SocketRow& row) const {
  if (row.state == TcpState::kSynSent) return Direction::kOutbound;
  const IpAddress local = row.local_address();
  if (listeners_.inbound(local, row.local_port)) return Direction::kInbound;
  // From an ephemeral port to a service's: a client. Anything else may be the connection of a
  // listener that is younger than the table.
  const bool client = ephemeral_.contains(row.local_port) && !ephemeral_.contains(row.remote_port);
  if (!client && refresh_ && refresh_() && listeners_.inbound(local, row.local_port)) {
    return Direction::kInbound;
  }
  return Direction::kOutbound;
}

GroupKey Classifier::classify(const SocketRow& row) const {
  GroupKey key;
  key.direction = direction(row);
  key.peer = peers_.find(row.remote_address());
  // A disconnected socket keeps its local port but loses its remote one: an outbound service is
  // unknown then, an inbound one is not.
  const std::uint16_t service =
      key.direction == Direction::kInbound ? row.local_port : row.remote_port;
  key.port = service == 0 ? kPortUnknown : ephemeral_.contains(service) ? kPortEphemeral : service;
  return key;
}

}  // namespace tcpvitals
