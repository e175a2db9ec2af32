#include "collectors/attribution/classify.h"

namespace tcpvitals {

namespace {

PortNameId name_of(PortLabel port) { return static_cast<PortNameId>(port - kPortNamed); }

}  // namespace

PortLabel Grouping::port_label(std::uint16_t service) const {
  if (service == 0) return kPortUnknown;
  if (const auto name = ports.find(service)) return kPortNamed + *name;
  return ephemeral.contains(service) ? kPortEphemeral : service;
}

std::string Grouping::direction_text(const GroupKey& key) const {
  return std::string(by.direction ? to_string(key.direction) : "");
}

std::string Grouping::port_text(const GroupKey& key) const {
  if (!by.port && key.port != kPortOther) return "";
  return port_text(key.port);
}

std::string Grouping::port_text(PortLabel port) const {
  switch (port) {
    case kPortEphemeral:
      return "ephemeral";
    case kPortUnknown:
      return "unknown";
    case kPortOther:
      return "other";
    default:
      return port < kPortNamed ? std::to_string(port) : std::string(ports.name(name_of(port)));
  }
}

std::string Grouping::peer_text(const GroupKey& key) const {
  return std::string(by.peer ? peers.name(key.peer) : "");
}

std::optional<GroupKey> Grouping::translate(const Grouping& old, const GroupKey& key) const {
  if (!(by == old.by)) return std::nullopt;
  GroupKey now = key;
  if (by.peer) {
    const auto peer = peers.id_of(old.peers.name(key.peer));
    if (!peer) return std::nullopt;
    now.peer = *peer;
  }
  if (key.port >= kPortNamed) {
    const auto name = ports.id_of(old.ports.name(name_of(key.port)));
    if (!name) return std::nullopt;
    now.port = kPortNamed + *name;
  } else if (by.port && key.port < kPortEphemeral &&
             ports.find(static_cast<std::uint16_t>(key.port))) {
    return std::nullopt;
  }
  return now;
}

Direction Classifier::direction(const SocketRow& row) const {
  if (row.state == TcpState::kSynSent) return Direction::kOutbound;
  const IpAddress local = row.local_address();
  if (listeners_.inbound(local, row.local_port)) return Direction::kInbound;
  // From an ephemeral port to a service's: a client. The other way round: a server whose listener
  // is gone, or was too short-lived to be seen. A port that the kernel withheld says nothing.
  const PortRange& ephemeral = grouping_->ephemeral;
  const bool here = ephemeral.contains(row.local_port);
  const bool there = row.remote_port == 0 ? !here : ephemeral.contains(row.remote_port);
  if (here != there) return here ? Direction::kOutbound : Direction::kInbound;
  // It may be the connection of a listener that is younger than the table.
  if (refresh_ && refresh_() && listeners_.inbound(local, row.local_port)) {
    return Direction::kInbound;
  }
  return Direction::kOutbound;
}

GroupKey Classifier::key(const SocketRow& row, Direction direction) const {
  const GroupBy& by = grouping_->by;
  GroupKey key;
  if (by.direction) key.direction = direction;
  if (by.peer) key.peer = grouping_->peers.find(row.remote_address());
  // A disconnected socket keeps its local port but loses its remote one: an outbound service is
  // unknown then, an inbound one is not.
  if (by.port) {
    key.port =
        grouping_->port_label(direction == Direction::kInbound ? row.local_port : row.remote_port);
  }
  if (by.cgroup) key.cgroup = cgroup(row, direction);
  if (by.netns) key.netns = netns_;
  return key;
}

// An event carries no cgroup, nor does a row without tcp_info; what came in through a listener is
// its cgroup's then.
CgroupLabel Classifier::cgroup(const SocketRow& row, Direction direction) const {
  std::uint64_t id = row.cgroup_id;
  if (id == 0 && direction == Direction::kInbound) {
    id = listeners_.cgroup_id(row.local_address(), row.local_port);
  }
  // What has no tcp_info is no connection yet, or no longer: it is not counted as one without a
  // name.
  if (!find_cgroup_ || (id == 0 && row.info == nullptr)) return kCgroupUnknown;
  return find_cgroup_(id);
}

}  // namespace tcpvitals
