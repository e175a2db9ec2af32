// Classifier: which group a socket belongs to. Its direction, the service's port by the direction,
// the peer's group by longest prefix.
#pragma once

#include <array>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "collectors/attribution/groups.h"
#include "collectors/attribution/listeners.h"
#include "collectors/attribution/peer_groups.h"
#include "collectors/attribution/port_names.h"
#include "collectors/attribution/service_ports.h"
#include "collectors/host/local_ports.h"

namespace tcpvitals {

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
           std::span<const NamedPorts> named_ports)
      : by(labels), peers(named_peers), ports(named_ports) {}

  std::string port_text(PortLabel port) const;

  // The name of a service's port, else its number.
  std::string service_text(std::uint16_t port) const;

  // Label values; empty where the label is not grouped by.
  std::string direction_text(const GroupKey& key) const;
  std::string port_text(const GroupKey& key) const;
  std::string peer_text(const GroupKey& key) const;

  // The key that a group of `old` has here; nothing if no group is like it any more.
  std::optional<GroupKey> translate(const Grouping& old, const GroupKey& key) const;

  GroupBy by;
  PeerGroups peers;
  PortNames ports;
};

// Decides the direction and the group of the connections of one network namespace.
//
// Direction, by the first of these that knows:
//   1. A SYN_SENT socket is outbound, a SYN_RECV one inbound.
//   2. The connection's own counters: whether a SYN of ours was acknowledged (handshake.h). That
//      settles nearly every row and event, whatever the ports are.
//   3. A listener that accepts connections to the local end, now or in the last minute: inbound.
//   4. A local port that the kernel does not give and that connections came in through before:
//      inbound. A remote port that enough connections share: outbound.
//   5. The local port may be one that the kernel gave, the remote one may not: outbound.
//   6. A disconnect cleared the remote port, and the local one is none that the kernel gives:
//   inbound.
//   7. The listeners are asked for anew; then as 3, or if there may have been a listener too short
//      for any dump: inbound.
//   8. Else outbound: what nobody listens for, somebody here opened.
// What cannot be told: a connection that a disconnect cleared before any dump saw it (2 is silent)
// from or to a listener that lived between two dumps, where a socket was only bound and closed on
// the same port. It counts as inbound. So does a client's that bound itself to such a port as no
// kernel gives, where the disconnect cleared its remote port too.
//
// Port: the local one of an inbound connection, the remote one of an outbound one.
//   - A configured name stands for it, wherever it lies.
//   - Outside the ports that the kernel gives it is its number. Where they cannot be read, any port
//     from 1024 up may be one of them.
//   - Inside them it is its number if a listener has it, or had it when the connection came, at
//     either end if both are one address, or if enough connections to remote ends share it
//     (service_ports.h); else `ephemeral`. A port that is named takes its earlier connections
//     along.
//   - A port that had its number keeps it while a group shows it, also when the range changes.
//
// Refers to `listeners` and to a Grouping, which must outlive it. Not thread-safe: the sampler's
// thread only. Memory: 20 KiB.
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

  // The ports that the kernel gives here, as they are now; nothing: they cannot be read. What
  // `groups` show by its number keeps it.
  void set_local_ports(std::optional<LocalPorts> ports, const GroupTable& groups);
  const std::optional<LocalPorts>& local_ports() const { return local_ports_; }

  // To be settled at first sight, and then kept.
  Direction direction(const SocketRow& row);

  // To be told once of each connection that was established, and of each attempt that was not,
  // before its key() is asked for.
  void learn(const SocketRow& row, Direction direction, bool established);

  GroupKey key(const SocketRow& row, Direction direction) const;

  // Rises when a port was named: earlier connections may have another key now.
  std::uint32_t generation() const { return generation_; }

  // Forgets the named ports that none of `groups` has shown for an hour.
  void forget_ports(TimePoint now, const GroupTable& groups);

  const Grouping& grouping() const { return *grouping_; }

 private:
  ServicePorts& services(Direction direction) {
    return services_[static_cast<std::size_t>(direction)];
  }
  const ServicePorts& services(Direction direction) const {
    return services_[static_cast<std::size_t>(direction)];
  }
  bool is_local(std::uint16_t port) const;
  // Whether it shows a port by its number, of connections in that direction.
  bool shows_port(const GroupTable::Group& group, Direction direction) const;
  bool listens(const SocketRow& row);
  bool served(std::uint16_t port) const;
  PortLabel port_label(std::uint16_t port, Direction direction) const;
  CgroupLabel cgroup(const SocketRow& row, Direction direction) const;

  const ListenerTable& listeners_;
  const Grouping* grouping_;
  Refresh refresh_;
  FindCgroup find_cgroup_;
  NetnsId netns_;
  std::optional<LocalPorts> local_ports_;
  std::array<ServicePorts, kDirections> services_;       // inside the range
  std::vector<bool> served_ = std::vector<bool>(65536);  // outside: connections came in there
  std::uint32_t generation_ = 0;
};

}  // namespace tcpvitals
