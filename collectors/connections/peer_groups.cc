#include "collectors/connections/peer_groups.h"

#include <algorithm>

namespace tcpvitals {
namespace {

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

}  // namespace

PeerGroups::PeerGroups() {
  for (const BuiltIn& row : kBuiltIn) {
    const auto known = std::find(names_.begin(), names_.end(), row.name);
    const auto id = static_cast<PeerId>(known - names_.begin());
    if (known == names_.end()) names_.emplace_back(row.name);
    entries_.push_back({*parse_ip_prefix(row.prefix), id});
  }
  std::stable_sort(entries_.begin(), entries_.end(), [](const Entry& a, const Entry& b) {
    return a.prefix.length > b.prefix.length;
  });
}

PeerId PeerGroups::find(const IpAddress& address) const {
  return std::find_if(entries_.begin(), entries_.end(),
                      [&](const Entry& e) { return e.prefix.contains(address); })
      ->id;
}

}  // namespace tcpvitals
