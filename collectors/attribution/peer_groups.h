// PeerGroups: which group of peers an address belongs to, by the longest prefix that contains it.
//
// Built in: loopback, link_local, private, and public for the rest. Configured prefixes stand
// beside them: one that is equal to a built-in one wins, one under a built-in name extends that
// group.
//
// A value; immutable once made. find() is a binary search, whatever the prefixes: 10,000 of them
// take 20,000 ranges, 340 KB, and a few milliseconds to make.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/ip.h"

namespace tcpvitals {

// A name may have many prefixes: one entry each.
struct NamedPrefix {
  std::string name;
  IpPrefix prefix;

  bool operator==(const NamedPrefix&) const = default;
};

using PeerId = std::uint8_t;

class PeerGroups {
 public:
  static constexpr std::size_t kMaxNames = 255;  // the four built-in ones included

  // Of two equal prefixes the later one counts. At most kMaxNames names.
  explicit PeerGroups(std::span<const NamedPrefix> named = {});

  PeerId find(const IpAddress& address) const;

  std::size_t size() const { return names_.size(); }  // names; the built-in ones come first
  std::string_view name(PeerId id) const { return names_[id]; }
  std::optional<PeerId> id_of(std::string_view name) const;

 private:
  using Number = unsigned __int128;  // an address, as one number

  PeerId add_name(std::string_view name);

  std::vector<std::string> names_;
  // Every address lies in the last range that starts at or before it.
  std::vector<Number> starts_;
  std::vector<PeerId> ids_;  // of the ranges
};

}  // namespace tcpvitals
