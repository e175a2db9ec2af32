#include "server/connection.h"

#include <utility>

namespace tcpvitals {

void ConnectionSlab::add_chunk() {
  const auto first = static_cast<std::uint32_t>(chunks_.size() * kChunk);
  auto& chunk = chunks_.emplace_back(std::make_unique<Connection[]>(kChunk));
  for (std::uint32_t i = kChunk; i-- > 0;) {
    chunk[i].slot = first + i;
    chunk[i].next_free = std::exchange(free_, first + i);
  }
}

Connection& ConnectionSlab::acquire(Fd fd) {
  if (free_ == kNone) add_chunk();
  Connection& connection = at(free_);
  free_ = connection.next_free;
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
  connection.next_free = std::exchange(free_, slot);
  --live_;
}

Connection* ConnectionSlab::find(std::uint64_t tag) {
  const auto slot = static_cast<std::uint32_t>(tag);
  if (slot / kChunk >= chunks_.size()) return nullptr;
  Connection& connection = at(slot);
  return connection.tag() == tag && connection.fd.valid() ? &connection : nullptr;
}

}  // namespace tcpvitals
