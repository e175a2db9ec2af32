#include "server/access.h"

#include <absl/hash/hash.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <utility>

namespace tcpvitals {
namespace {

// Of one family first: in the numbers of the addresses ::/0 would contain all of IPv4.
bool before(const IpPrefix& a, const IpPrefix& b) {
  return std::pair(a.address.is_v4(), a) < std::pair(b.address.is_v4(), b);
}

// Prefixes lie inside each other or apart, and in this order each comes after those around it.
std::vector<IpPrefix> sorted(std::vector<IpPrefix> prefixes) {
  std::sort(prefixes.begin(), prefixes.end(), before);
  std::vector<IpPrefix> apart;
  for (const IpPrefix& prefix : prefixes) {
    if (apart.empty() || !apart.back().contains(prefix.address)) apart.push_back(prefix);
  }
  return apart;
}

bool contains(const std::vector<IpPrefix>& prefixes, const IpAddress& address) {
  const auto after =
      std::upper_bound(prefixes.begin(), prefixes.end(), IpPrefix{address, 128}, before);
  return after != prefixes.begin() && std::prev(after)->contains(address);
}

std::uint64_t random_seed() {
  std::random_device random;
  return std::uint64_t{random()} << 32 | random();
}

std::int64_t nanoseconds(TimePoint time) {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(time.time_since_epoch()).count();
}

std::int64_t token_interval(const PeerLimitOptions& options) {
  return options.rate > 0 ? std::llround(std::max(1.0, 1e9 / options.rate)) : 0;
}

std::int64_t bucket_size(const PeerLimitOptions& options) {
  if (options.burst > 0) return options.burst;
  return std::max<std::int64_t>(1, std::llround(options.rate));
}

}  // namespace

AccessList::AccessList(std::vector<IpPrefix> allow, std::vector<IpPrefix> deny)
    : allow_(sorted(std::move(allow))), deny_(sorted(std::move(deny))) {}

bool AccessList::allows(const IpAddress& address) const {
  return !contains(deny_, address) && (allow_.empty() || contains(allow_, address));
}

PeerLimits::PeerLimits(const PeerLimitOptions& options)
    : options_(options),
      seed_(random_seed()),
      interval_ns_(token_interval(options)),
      bucket_ns_(interval_ns_ * bucket_size(options)),
      shard_capacity_((options.max_entries + kShards - 1) / kShards) {
  if (!options_.limits()) return;
  for (Shard& shard : shards_) {
    shard.chains.assign(shard_capacity_, kNone);
    shard.entries.reserve(shard_capacity_);  // whose pages the kernel gives when they are used
  }
}

IpAddress PeerLimits::peer_of(const IpAddress& address) const {
  const int length = address.is_v4() ? 96 + options_.ipv4_length : options_.ipv6_length;
  return prefix_of(address, static_cast<std::uint8_t>(length)).address;
}

std::size_t PeerLimits::hash(const IpAddress& peer) const {
  return absl::HashOf(seed_, peer.bytes);
}

PeerLimits::Verdict PeerLimits::admit(const IpAddress& address, TimePoint now) {
  if (!options_.limits()) return Verdict::kUncounted;
  const IpAddress peer = peer_of(address);
  const std::size_t h = hash(peer);
  Shard& shard = shards_[h % kShards];
  const std::lock_guard lock(shard.mutex);
  shard.now_ns = std::max(shard.now_ns, nanoseconds(now));
  forget_idle(shard);
  Entry* entry = shard.find(peer, h / kShards);
  if (entry == nullptr) entry = shard.add(peer, h / kShards, shard_capacity_);
  if (entry == nullptr) return Verdict::kUncounted;
  if (options_.max_connections != 0 && entry->live >= options_.max_connections) {
    return Verdict::kTooMany;
  }
  const std::int64_t full_at_ns = std::max(entry->full_at_ns, shard.now_ns) + interval_ns_;
  if (full_at_ns - shard.now_ns > bucket_ns_) return Verdict::kTooFast;
  entry->full_at_ns = full_at_ns;
  if (entry->live++ == 0) shard.wake(*entry);
  return Verdict::kAdmitted;
}

bool PeerLimits::adopt(const IpAddress& address) {
  if (!options_.limits()) return false;
  const IpAddress peer = peer_of(address);
  const std::size_t h = hash(peer);
  Shard& shard = shards_[h % kShards];
  const std::lock_guard lock(shard.mutex);
  Entry* entry = shard.find(peer, h / kShards);
  if (entry == nullptr) entry = shard.add(peer, h / kShards, shard_capacity_);
  if (entry == nullptr) return false;
  if (entry->live++ == 0) shard.wake(*entry);
  return true;
}

void PeerLimits::give_back(const IpAddress& address, std::int64_t token_ns) {
  if (!options_.limits()) return;
  const IpAddress peer = peer_of(address);
  const std::size_t h = hash(peer);
  Shard& shard = shards_[h % kShards];
  const std::lock_guard lock(shard.mutex);
  Entry* const entry = shard.find(peer, h / kShards);
  if (entry == nullptr || entry->live == 0) return;
  entry->full_at_ns -= token_ns;
  if (--entry->live == 0) shard.rest(*entry);
}

// Two at most for one that may come, so that the table shrinks as the buckets fill; one whose
// bucket is not full goes to the end of the queue, so that it holds up nobody.
void PeerLimits::forget_idle(Shard& shard) {
  for (int i = 0; i < 2 && shard.oldest_idle != kNone; ++i) {
    Entry& entry = shard.entries[shard.oldest_idle];
    shard.wake(entry);
    if (entry.full_at_ns <= shard.now_ns) {
      shard.remove(entry, hash(entry.peer) / kShards);
    } else {
      shard.rest(entry);
    }
  }
}

std::size_t PeerLimits::entries() const {
  std::size_t total = 0;
  for (const Shard& shard : shards_) {
    const std::lock_guard lock(shard.mutex);
    total += shard.used;
  }
  return total;
}

std::uint32_t PeerLimits::Shard::index(const Entry& entry) const {
  return static_cast<std::uint32_t>(&entry - entries.data());
}

PeerLimits::Entry* PeerLimits::Shard::find(const IpAddress& peer, std::size_t hash) {
  for (std::uint32_t i = chain(hash); i != kNone; i = entries[i].next) {
    if (entries[i].peer == peer) return &entries[i];
  }
  return nullptr;
}

// It is idle; null if there is no room.
PeerLimits::Entry* PeerLimits::Shard::add(const IpAddress& peer, std::size_t hash,
                                          std::size_t capacity) {
  if (free == kNone && entries.size() == capacity) return nullptr;
  if (free == kNone) {
    entries.emplace_back();
    free = static_cast<std::uint32_t>(entries.size() - 1);
  }
  const std::uint32_t i = free;
  free = entries[i].next;
  entries[i] = {.peer = peer, .next = chain(hash)};
  chain(hash) = i;
  ++used;
  rest(entries[i]);
  return &entries[i];
}

void PeerLimits::Shard::remove(Entry& entry, std::size_t hash) {
  const std::uint32_t i = index(entry);
  std::uint32_t* link = &chain(hash);
  while (*link != i) link = &entries[*link].next;
  *link = entry.next;
  entry.next = std::exchange(free, i);
  --used;
}

void PeerLimits::Shard::rest(Entry& entry) {
  const std::uint32_t i = index(entry);
  entry.idle_previous = newest_idle;
  entry.idle_next = kNone;
  (newest_idle == kNone ? oldest_idle : entries[newest_idle].idle_next) = i;
  newest_idle = i;
}

void PeerLimits::Shard::wake(Entry& entry) {
  const std::uint32_t previous = entry.idle_previous;
  const std::uint32_t next = entry.idle_next;
  (previous == kNone ? oldest_idle : entries[previous].idle_next) = next;
  (next == kNone ? newest_idle : entries[next].idle_previous) = previous;
}

std::uint32_t AcceptRate::running_second(TimePoint now) {
  const auto second = static_cast<std::uint32_t>(nanoseconds(now) / 1'000'000'000);
  std::uint32_t newest = second_.load(std::memory_order_relaxed);
  while (newest < second &&
         !second_.compare_exchange_weak(newest, second, std::memory_order_relaxed)) {
  }
  return std::max(newest, second);
}

AcceptRate::Verdict AcceptRate::accept(TimePoint now) {
  const std::uint32_t second = running_second(now);
  std::atomic<std::uint64_t>& slot = seconds_[second % kSeconds];
  // The first connection of a second begins it; the slot then held one of a minute ago.
  std::uint64_t word = slot.load(std::memory_order_relaxed);
  while (word >> 32 < second) {
    slot.compare_exchange_weak(word, std::uint64_t{second} << 32, std::memory_order_relaxed);
  }
  const auto count = static_cast<std::uint32_t>(slot.fetch_add(1, std::memory_order_relaxed)) + 1;
  const std::uint32_t soft = soft_.load(std::memory_order_relaxed);
  const std::uint32_t hard = hard_.load(std::memory_order_relaxed);
  const bool passes_soft = soft != 0 && count == soft + 1;
  if (passes_soft) soft_seconds_.fetch_add(1, std::memory_order_relaxed);
  if (hard != 0 && count > hard) {
    refused_.fetch_add(1, std::memory_order_relaxed);
    return Verdict::kRefused;
  }
  return passes_soft ? Verdict::kSoftLimit : Verdict::kAccepted;
}

std::uint32_t AcceptRate::peak(TimePoint now) const {
  const auto second = static_cast<std::uint64_t>(nanoseconds(now) / 1'000'000'000);
  std::uint32_t most = 0;
  for (const auto& slot : seconds_) {
    const std::uint64_t word = slot.load(std::memory_order_relaxed);
    if ((word >> 32) + kSeconds > second) most = std::max(most, static_cast<std::uint32_t>(word));
  }
  return most;
}

}  // namespace tcpvitals
