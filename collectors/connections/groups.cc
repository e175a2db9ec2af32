#include "collectors/connections/groups.h"

namespace tcpvitals {

std::string_view to_string(Direction direction) {
  return direction == Direction::kInbound ? "inbound" : "outbound";
}

std::string port_label(PortLabel port) {
  switch (port) {
    case kPortEphemeral:
      return "ephemeral";
    case kPortUnknown:
      return "unknown";
    case kPortOther:
      return "other";
    default:
      return std::to_string(port);
  }
}

std::string_view to_string(ConnectFailure reason) {
  constexpr std::array<std::string_view, kConnectFailures> kNames{"refused", "timeout", "aborted",
                                                                  "unknown"};
  return kNames[static_cast<std::size_t>(reason)];
}

GroupId GroupTable::find_or_add(GroupKey key) {
  const auto known = ids_.find(key.packed());
  if (known != ids_.end()) return known->second;
  if (key.port != kPortOther) {
    if (named_ == max_groups_) {
      ++overflowed_;
      return find_or_add({key.direction, kPortOther, key.peer});
    }
    ++named_;
  }
  const auto id = static_cast<GroupId>(keys_.size());
  ids_.emplace(key.packed(), id);
  keys_.push_back(key);
  stats_.emplace_back();
  return id;
}

}  // namespace tcpvitals
