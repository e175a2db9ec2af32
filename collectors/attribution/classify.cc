#include "collectors/attribution/classify.h"

#include <bitset>

#include "collectors/attribution/handshake.h"

namespace tcpvitals {

namespace {

// Below it the kernel gives no port unless it is told to.
constexpr std::uint16_t kFirstUnprivileged = 1024;

PortNameId name_of(PortLabel port) { return static_cast<PortNameId>(port - kPortNamed); }

}  // namespace

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

std::string Grouping::service_text(std::uint16_t port) const {
  const auto name = ports.find(port);
  return name ? std::string(ports.name(*name)) : std::to_string(port);
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

void Classifier::set_local_ports(std::optional<LocalPorts> ports, const GroupTable& groups) {
  for (ServicePorts& services : services_) services.set_limit(groups.limit());
  if (ports == local_ports_) return;
  local_ports_ = std::move(ports);
  for (const Direction direction : {Direction::kInbound, Direction::kOutbound}) {
    for (const GroupTable::Group& group : groups.groups()) {
      const auto port = static_cast<std::uint16_t>(group.key.port);
      if (shows_port(group, direction) && is_local(port)) services(direction).name(port);
    }
  }
}

bool Classifier::shows_port(const GroupTable::Group& group, Direction direction) const {
  const bool either = !grouping_->by.direction;
  return group.named && group.key.port < kPortEphemeral &&
         (either || group.key.direction == direction);
}

void Classifier::forget_ports(TimePoint now, const GroupTable& groups) {
  for (const Direction direction : {Direction::kInbound, Direction::kOutbound}) {
    std::bitset<65536> shown;
    for (const GroupTable::Group& g : groups.groups()) {
      if (shows_port(g, direction)) shown.set(g.key.port);
    }
    services(direction).retain(now, [&](std::uint16_t port) { return shown.test(port); });
  }
}

bool Classifier::is_local(std::uint16_t port) const {
  return local_ports_ ? local_ports_->contains(port) : port >= kFirstUnprivileged;
}

bool Classifier::served(std::uint16_t port) const { return !is_local(port) && served_[port]; }

bool Classifier::listens(const SocketRow& row) {
  const std::uint16_t port = row.local_port;
  if (!listeners_.listens(row.local_address(), port)) return false;
  if (is_local(port)) services(Direction::kInbound).name_early(port);
  return true;
}

Direction Classifier::direction(const SocketRow& row) {
  if (const auto by = opened_by(row)) {
    return *by == OpenedBy::kUs ? Direction::kOutbound : Direction::kInbound;
  }
  if (listens(row) || served(row.local_port)) return Direction::kInbound;
  if (services(Direction::kOutbound).contains(row.remote_port)) return Direction::kOutbound;
  if (is_local(row.local_port) && !is_local(row.remote_port)) return Direction::kOutbound;
  // The remote port was cleared: from a port that the kernel gives to nobody, most likely a
  // server's.
  if (row.remote_port == 0 && !is_local(row.local_port)) return Direction::kInbound;
  // It may be the connection of a listener that is younger than the table.
  if (!row.time_wait && refresh_ && refresh_() && listens(row)) return Direction::kInbound;
  const bool may_have = listeners_.may_have_listened(row.local_address(), row.local_port);
  return may_have ? Direction::kInbound : Direction::kOutbound;
}

void Classifier::learn(const SocketRow& row, Direction direction, bool established) {
  using Sign = ServicePorts::Sign;
  const bool inbound = direction == Direction::kInbound;
  const std::uint16_t port = inbound ? row.local_port : row.remote_port;
  if (!is_local(port)) {
    if (inbound) served_[port] = true;
    return;
  }
  // A connection to ourselves shows its listener here.
  const bool to_listener = inbound || (row.remote_address() == row.local_address() &&
                                       listeners_.listens(row.remote_address(), port));
  const Sign sign = !established  ? Sign::kFailure
                    : to_listener ? Sign::kListener
                                  : Sign::kConnection;
  if (services(direction).add(port, sign)) ++generation_;
}

PortLabel Classifier::port_label(std::uint16_t port, Direction direction) const {
  if (port == 0) return kPortUnknown;
  if (const auto name = grouping_->ports.find(port)) return kPortNamed + *name;
  return is_local(port) && !services(direction).contains(port) ? kPortEphemeral : port;
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
        port_label(direction == Direction::kInbound ? row.local_port : row.remote_port, direction);
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
