// PortNames: the name an operator gave to a service's port, if any. Of several ranges that contain
// a port the narrowest names it; of equally narrow ones the first.
//
// A value; immutable once made. find() is one look into a table of all ports, 128 KiB, which is
// there only if there are names.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/ip.h"

namespace tcpvitals {

// A name may have many ranges: one entry each.
struct NamedPorts {
  std::string name;
  PortRange ports;

  bool operator==(const NamedPorts&) const = default;
};

using PortNameId = std::uint16_t;

class PortNames {
 public:
  static constexpr std::size_t kMaxNames = 65'535;

  // At most kMaxNames names.
  explicit PortNames(std::span<const NamedPorts> named = {});

  std::optional<PortNameId> find(std::uint16_t port) const {
    if (names_.empty() || by_port_[port] == kNone) return std::nullopt;
    return by_port_[port];
  }

  std::size_t size() const { return names_.size(); }  // names, in the order they first came
  std::string_view name(PortNameId id) const { return names_[id]; }
  std::optional<PortNameId> id_of(std::string_view name) const;

 private:
  static constexpr PortNameId kNone = 65'535;

  std::vector<std::string> names_;
  std::vector<PortNameId> by_port_;
};

}  // namespace tcpvitals
