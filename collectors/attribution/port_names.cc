#include "collectors/attribution/port_names.h"

#include <algorithm>
#include <cassert>

namespace tcpvitals {

PortNames::PortNames(std::span<const NamedPorts> named) {
  if (named.empty()) return;
  std::vector<NamedPorts> widest_first(named.rbegin(), named.rend());
  std::stable_sort(widest_first.begin(), widest_first.end(),
                   [](const NamedPorts& a, const NamedPorts& b) {
                     return a.ports.last - a.ports.first > b.ports.last - b.ports.first;
                   });
  for (const NamedPorts& row : named) {
    if (!id_of(row.name)) names_.push_back(row.name);
  }
  assert(names_.size() <= kMaxNames);
  by_port_.assign(65'536, kNone);
  for (const NamedPorts& row : widest_first) {
    std::fill(by_port_.begin() + row.ports.first, by_port_.begin() + row.ports.last + 1,
              *id_of(row.name));
  }
}

std::optional<PortNameId> PortNames::id_of(std::string_view name) const {
  const auto at = std::find(names_.begin(), names_.end(), name);
  if (at == names_.end()) return std::nullopt;
  return static_cast<PortNameId>(at - names_.begin());
}

}  // namespace tcpvitals
