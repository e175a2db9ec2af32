// Classifier: which group a socket belongs to. Direction by the listener table, the service's port
// by the direction, the peer's group by longest prefix.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <utility>

#include "collectors/attribution/groups.h"
#include "collectors/attribution/listeners.h"
#include "collectors/attribution/peer_groups.h"
#include "collectors/attribution/port_names.h"

namespace tcpvitals {

// The kernel's default for net.ipv4.ip_local_port_range.
inline constexpr PortRange kDefaultEphemeral{32768, 60999};

// The labels that make a group; one that is off is left out of every series.
struct GroupBy {
  bool direction = true;
  bool port = true;
  bool peer = true;
  bool cgroup = false;
  bool netns = false;

  bool operator==(const GroupBy&) const = default;
};

// What a configuration says of groups, ready to be asked. Immutable.
struct Grouping {
  Grouping(GroupBy labels, std::span<const NamedPrefix> named_peers,
           std::span<const NamedPorts> named_ports, PortRange ephemeral_ports)
      : by(labels), peers(named_peers), ports(named_ports), ephemeral(ephemeral_ports) {}

  PortLabel port_label(std::uint16_t service) const;

  std::string port_text(PortLabel port) const;

  // Label values; empty where the label is not grouped by.
  std::string direction_text(const GroupKey& key) const;
  std::string port_text(const GroupKey& key) const;
  std::string peer_text(const GroupKey& key) const;

  // The key that a group of `old` has here; nothing if no group is like it any more.
  std::optional<GroupKey> translate(const Grouping& old, const GroupKey& key) const;

  GroupBy by;
  PeerGroups peers;
  PortNames ports;
  PortRange ephemeral;
};

// Of one network namespace. Refers to `listeners` and to a Grouping, which must outlive it. Not
// thread-safe: the sampler's thread only.
class Classifier {
 public:
  // Called when the listener table may be too old to tell a direction. True if it was renewed.
  using Refresh = std::function<bool()>;

  // The id of the cgroup with that inode number.
  using FindCgroup = std::function<CgroupLabel(std::uint64_t)>;

  Classifier(const ListenerTable& listeners, const Grouping& grouping, Refresh refresh = {},
             NetnsId netns = kNetnsHost, FindCgroup find_cgroup = {})
      : listeners_(listeners),
        grouping_(&grouping),
        refresh_(std::move(refresh)),
        find_cgroup_(std::move(find_cgroup)),
        netns_(netns) {}

  void set_grouping(const Grouping& grouping) { grouping_ = &grouping; }

  // To be settled at first sight, and then kept.
  Direction direction(const SocketRow& row) const;

  GroupKey key(const SocketRow& row, Direction direction) const;

  const Grouping& grouping() const { return *grouping_; }

 private:
  CgroupLabel cgroup(const SocketRow& row, Direction direction) const;

  const ListenerTable& listeners_;
  const Grouping* grouping_;
  Refresh refresh_;
  FindCgroup find_cgroup_;
  NetnsId netns_;
};

}  // namespace tcpvitals
