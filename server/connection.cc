#include "server/connection.h"

#include <utility>

namespace tcpvitals {

void PendingOutput::drop(std::size_t sent) {
  sent_ += sent;
  if (sent_ < size()) return;
  bytes_ = std::vector<char>(waiting().begin(), waiting().end());
  sent_ = 0;
}

void ConnectionSlab::add_chunk() {
  const auto first = static_cast<std::uint32_t>(chunks_.size() * kChunk);
  auto& chunk = chunks_.emplace_back(std::make_unique<Connection[]>(kChunk));
  for (std::uint32_t i = kChunk; i-- > 0;) {
    chunk[i].slot = first + i;
    chunk[i].timer.next = std::exchange(free_, first + i);
  }
}

Connection& ConnectionSlab::acquire(Fd fd) {
  if (free_ == kNone) add_chunk();
  Connection& connection = at(free_);
  free_ = std::exchange(connection.timer, {}).next;
  connection.fd = std::move(fd);
  ++live_;
  return connection;
}

void ConnectionSlab::release(Connection& connection) {
  const std::uint32_t slot = connection.slot;
  const std::uint32_t generation = connection.generation + 1;
  connection = Connection{};
  connection.slot = slot;
  connection.generation = generation != 0 ? generation : 1;
  connection.timer.next = std::exchange(free_, slot);
  --live_;
}

Connection* ConnectionSlab::find(std::uint64_t tag) {
  const auto slot = static_cast<std::uint32_t>(tag);
  if (slot / kChunk >= chunks_.size()) return nullptr;
  Connection& connection = at(slot);
  return connection.tag() == tag && connection.fd.valid() ? &connection : nullptr;
}

}  // namespace tcpvitals
