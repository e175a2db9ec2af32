#include "server/relay_table.h"

#include <utility>

namespace tcpvitals {

void RelayTable::add(const Endpoint& relay, Client client) {
  const std::lock_guard lock(mutex_);
  clients_.insert_or_assign(relay, std::move(client));
}

void RelayTable::remove(const Endpoint& relay) {
  const std::lock_guard lock(mutex_);
  clients_.erase(relay);
}

std::optional<RelayTable::Client> RelayTable::find(const Endpoint& relay) const {
  const std::lock_guard lock(mutex_);
  const auto client = clients_.find(relay);
  if (client == clients_.end()) return std::nullopt;
  return client->second;
}

std::size_t RelayTable::size() const {
  const std::lock_guard lock(mutex_);
  return clients_.size();
}

}  // namespace tcpvitals
