#include "collectors/attribution/netns_names.h"

#include <algorithm>

#include "collectors/namespaces/namespace_list.h"

namespace tcpvitals {

NetnsNames::NetnsNames()
    : names_{"", std::string(kOtherNamespacesLabel), std::string(kOwnNamespaceLabel)} {}

NetnsId NetnsNames::id_of(const std::string& label) {
  const auto others = names_.begin() + kNetnsHost + 1;
  auto named = std::find(others, names_.end(), label);
  if (named == names_.end()) named = std::find(others, names_.end(), "");
  if (named == names_.end()) named = names_.insert(named, "");
  *named = label;
  return static_cast<NetnsId>(named - names_.begin());
}

void NetnsNames::retain(const std::function<bool(NetnsId)>& used) {
  for (std::size_t id = kNetnsHost + 1; id < names_.size(); ++id) {
    if (!used(static_cast<NetnsId>(id))) names_[id].clear();
  }
}

}  // namespace tcpvitals
