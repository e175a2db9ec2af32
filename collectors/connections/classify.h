// Classifier: which group a socket belongs to. Direction by the listener table, the service's port
// by the direction, the peer's group by longest prefix.
#pragma once

#include <functional>
#include <utility>

#include "collectors/connections/config.h"
#include "collectors/connections/groups.h"
#include "collectors/connections/listeners.h"
#include "collectors/connections/peer_groups.h"

namespace tcpvitals {

// The kernel's default for net.ipv4.ip_local_port_range.
inline constexpr PortRange kDefaultEphemeral{32768, 60999};

// Refers to `listeners`, which must outlive it. Not thread-safe: the sampler's thread only.
class Classifier {
 public:
  // Called when the listener table may be too old to tell a direction. True if it was renewed.
  using Refresh = std::function<bool()>;

  Classifier(const ListenerTable& listeners, PortRange ephemeral, Refresh refresh = {})
      : listeners_(listeners), ephemeral_(ephemeral), refresh_(std::move(refresh)) {}

  GroupKey classify(const SocketRow& row) const;

  const PeerGroups& peers() const { return peers_; }

 private:
  Direction direction(const SocketRow& row) const;

  const ListenerTable& listeners_;
  PortRange ephemeral_;
  Refresh refresh_;
  PeerGroups peers_;
};

}  // namespace tcpvitals
