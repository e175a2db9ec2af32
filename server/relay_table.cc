#include "server/relay_table.h"

#include <cerrno>
#include <utility>
#include <vector>

#include "server/source_filter.h"

namespace tcpvitals {

void RelayTable::add(const Endpoint& relay, Client client) {
  const std::lock_guard lock(mutex_);
  clients_.insert_or_assign(relay, std::move(client));
  (void)filter();
}

void RelayTable::remove(const Endpoint& relay) {
  const std::lock_guard lock(mutex_);
  clients_.erase(relay);
  (void)filter();
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
  if (listener < 0) return errno_error("listener", EBADF);
  const std::lock_guard lock(mutex_);
  guarded_ = listener;
  return filter();
}

void RelayTable::unguard() {
  const std::lock_guard lock(mutex_);
  if (guarded_ >= 0) detach_filter(std::exchange(guarded_, -1));
}

// An old filter would lock new relays out: rather none. The backend itself asks the table, too.
Result<void> RelayTable::filter() {
  if (guarded_ < 0) return {};
  std::vector<Endpoint> relays;
  relays.reserve(clients_.size());
  for (const auto& [relay, client] : clients_) relays.push_back(relay);
  auto attached = attach_filter(guarded_, source_filter(relays));
  if (!attached) detach_filter(guarded_);
  return attached;
}

}  // namespace tcpvitals
