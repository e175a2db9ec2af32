#include "collectors/attribution/peer_groups.h"

#include <algorithm>
#include <cassert>

namespace tcpvitals {
namespace {

using Number = unsigned __int128;

struct BuiltIn {
  std::string_view name;
  std::string_view prefix;
};

// 100.64.0.0/10 is shared address space (RFC 6598): a carrier's or a cloud's inside, not the
// Internet.
constexpr BuiltIn kBuiltIn[] = {
    {"loopback", "127.0.0.0/8"},   {"loopback", "::1"},          {"link_local", "169.254.0.0/16"},
    {"link_local", "fe80::/10"},   {"private", "10.0.0.0/8"},    {"private", "172.16.0.0/12"},
    {"private", "192.168.0.0/16"}, {"private", "100.64.0.0/10"}, {"private", "fc00::/7"},
    {"public", "0.0.0.0/0"},       {"public", "::/0"},
};

Number number(const IpAddress& address) {
  Number n = 0;
  for (const std::uint8_t byte : address.bytes) n = n << 8 | byte;
  return n;
}

// Both ends included.
struct Range {
  Number first;
  Number last;
  PeerId id;
};

Range range(const IpPrefix& prefix, PeerId id) {
  const Number first = number(prefix.address);
  const Number rest = prefix.length == 0 ? ~Number{0} : (Number{1} << (128 - prefix.length)) - 1;
  return {first, first | rest, id};
}

}  // namespace

PeerGroups::PeerGroups(std::span<const NamedPrefix> named) {
  std::vector<Range> ranges;
  for (const BuiltIn& row : kBuiltIn) {
    ranges.push_back(range(*parse_ip_prefix(row.prefix), add_name(row.name)));
  }
  for (const NamedPrefix& row : named) ranges.push_back(range(row.prefix, add_name(row.name)));

  // Prefixes lie inside each other or apart. In this order a prefix comes after those around it.
  std::stable_sort(ranges.begin(), ranges.end(), [](const Range& a, const Range& b) {
    return a.first != b.first ? a.first < b.first : a.last > b.last;
  });
  const auto begin_range = [this](Number start, PeerId id) {
    if (!starts_.empty() && starts_.back() == start) {
      ids_.back() = id;
    } else {
      starts_.push_back(start);
      ids_.push_back(id);
    }
  };
  std::vector<Range> around;  // the prefixes that contain where we are, the longest last
  for (const Range& next : ranges) {
    while (!around.empty() && around.back().last < next.first) {
      const Number end = around.back().last + 1;
      around.pop_back();
      begin_range(end, around.back().id);
    }
    begin_range(next.first, next.id);
    around.push_back(next);
  }
  // What is left ends with the address space, or goes back to what is around it.
  for (; around.back().last != ~Number{0}; around.pop_back()) {
    begin_range(around.back().last + 1, around[around.size() - 2].id);
  }
}

PeerId PeerGroups::add_name(std::string_view name) {
  if (const auto known = id_of(name)) return *known;
  assert(names_.size() < kMaxNames);
  names_.emplace_back(name);
  return static_cast<PeerId>(names_.size() - 1);
}

std::optional<PeerId> PeerGroups::id_of(std::string_view name) const {
  const auto at = std::find(names_.begin(), names_.end(), name);
  if (at == names_.end()) return std::nullopt;
  return static_cast<PeerId>(at - names_.begin());
}

PeerId PeerGroups::find(const IpAddress& address) const {
  // The first range starts at zero, so there is always one.
  const auto after = std::upper_bound(starts_.begin(), starts_.end(), number(address));
  return ids_[static_cast<std::size_t>(after - starts_.begin()) - 1];
}

}  // namespace tcpvitals
