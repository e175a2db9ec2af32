#include "server/relay_table.h"

#include <utility>
#include <vector>

namespace tcpvitals {

void RelayTable::add(const Endpoint& relay, Client client) {
  const std::lock_guard lock(mutex_);
  clients_.insert_or_assign(relay, std::move(client));
  admit();
}

void RelayTable::remove(const Endpoint& relay) {
  const std::lock_guard lock(mutex_);
  clients_.erase(relay);
  admit();
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

Result<void> RelayTable::guard(int listener) {
  auto opened = SourceGuard::open(listener);
  if (!opened) return std::move(opened.error());
  const std::lock_guard lock(mutex_);
  guard_.emplace(std::move(*opened));
  admit();
  return {};
}

void RelayTable::unguard() {
  const std::lock_guard lock(mutex_);
  guard_.reset();
}

// Those before would lock new relays out: rather no guard. The backend itself asks the table, too.
void RelayTable::admit() {
  if (!guard_) return;
  std::vector<Endpoint> relays;
  relays.reserve(clients_.size());
  for (const auto& [relay, client] : clients_) relays.push_back(relay);
  if (!guard_->admit(relays)) guard_.reset();
}

}  // namespace tcpvitals
