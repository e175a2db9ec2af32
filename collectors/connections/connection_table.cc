#include "collectors/connections/connection_table.h"

#include <algorithm>

namespace tcpvitals {

ConnectionTable::Index ConnectionTable::find(std::uint64_t cookie) const {
  const auto it = index_.find(cookie);
  return it == index_.end() ? kNone : *it;
}

ConnectionTable::Index ConnectionTable::find_next(std::uint64_t cookie) {
  const auto gone = [&](const TrackedConnection& c) { return c.cookie == 0 || is_seen(c); };
  while (expected_ < order_.size() && gone((*this)[order_[expected_]])) ++expected_;
  const std::size_t end = std::min(order_.size(), expected_ + kWindow);
  for (std::size_t i = expected_; i < end; ++i) {
    if ((*this)[order_[i]].cookie != cookie) continue;
    expected_ = i + 1;
    if (i + kPrefetch < order_.size()) {
      const char* line = reinterpret_cast<const char*>(&(*this)[order_[i + kPrefetch]]);
      __builtin_prefetch(line, 1);
      __builtin_prefetch(line + 64, 1);
      __builtin_prefetch(line + sizeof(TrackedConnection) - 1, 1);
    }
    return order_[i];
  }
  return find(cookie);
}

ConnectionTable::Index ConnectionTable::add(std::uint64_t cookie) {
  Index index;
  if (!free_.empty()) {
    index = free_.back();
    free_.pop_back();
  } else {
    if (used_ == chunks_.size() * kChunk) {
      chunks_.push_back(std::make_unique<TrackedConnection[]>(kChunk));
    }
    index = used_++;
  }
  (*this)[index] = TrackedConnection{};
  (*this)[index].cookie = cookie;
  index_.insert(index);
  return index;
}

void ConnectionTable::remove(Index index) {
  TrackedConnection& c = (*this)[index];
  if (is_seen(c) && !c.vanished) --seen_;
  index_.erase(index);
  c.cookie = 0;
  free_.push_back(index);
}

void ConnectionTable::begin_dump() {
  dump_ = (dump_ + 1) & 0xfff;
  expected_ = 0;
  seen_ = 0;
  new_order_.clear();
}

void ConnectionTable::mark_seen(Index index) {
  TrackedConnection& c = (*this)[index];
  c.dump = dump_ & 0xfff;
  c.missed = false;
  new_order_.push_back(index);
  ++seen_;
}

void ConnectionTable::end_dump() {
  order_.swap(new_order_);
  // What growth left over: the next dump is as long as this one.
  if (order_.capacity() > order_.size() + order_.size() / 8) order_.shrink_to_fit();
  new_order_.clear();
  if (new_order_.capacity() > order_.size() + order_.size() / 8) new_order_.shrink_to_fit();
  new_order_.reserve(order_.size());
}

std::size_t ConnectionTable::memory_bytes() const {
  return chunks_.size() * kChunk * sizeof(TrackedConnection) +
         index_.capacity() * (sizeof(Index) + 1) +
         (order_.capacity() + new_order_.capacity() + free_.capacity()) * sizeof(Index);
}

}  // namespace tcpvitals
