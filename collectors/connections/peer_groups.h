// PeerGroups: which group of peers an address belongs to, by the longest prefix that contains it.
//
// Built in: loopback, link_local, private, and public for the rest. A value; immutable once made.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/ip.h"

namespace tcpvitals {

using PeerId = std::uint8_t;

class PeerGroups {
 public:
  PeerGroups();

  PeerId find(const IpAddress& address) const;
  std::string_view name(PeerId id) const { return names_[id]; }

 private:
  struct Entry {
    IpPrefix prefix;
    PeerId id;
  };

  std::vector<std::string> names_;
  std::vector<Entry> entries_;  // longest prefix first; the last two contain everything
};

}  // namespace tcpvitals
