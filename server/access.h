// Who may connect, how often, and how many at once: what a listener asks of a peer's address before
// anything else is spent on it.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "base/clock.h"
#include "base/ip.h"
#include "server/options.h"

namespace tcpvitals {

// AccessList: which addresses a listener takes. Immutable; a binary search in each list.
class AccessList {
 public:
  // `deny` wins over `allow`; an empty `allow` is everyone.
  AccessList(std::vector<IpPrefix> allow, std::vector<IpPrefix> deny);

  bool allows(const IpAddress& address) const;

 private:
  std::vector<IpPrefix> allow_;  // both sorted, none inside another
  std::vector<IpPrefix> deny_;
};

// PeerLimits: how many connections each peer has, and a token bucket for each; a peer is a prefix.
//
// Thread-safe: 16 locks, each held for O(1). Bounded, whatever comes: 44 bytes for each of
// max_entries peers, taken as they come. A peer without a connection and with a full bucket is as
// one never seen, and is forgotten. When all others fill the table, a new peer is admitted without
// being counted: whoever has that many prefixes is not held by a limit for each, while refusing
// would lock everyone else out. max_connections of the listener holds for all.
class PeerLimits {
 public:
  enum class Verdict : std::uint8_t {
    kAdmitted,   // to be given back by leave()
    kUncounted,  // admitted too, without leave(): no limit is set, or the table is full
    kTooMany,
    kTooFast,
  };

  explicit PeerLimits(const PeerLimitOptions& options);

  // A refusal takes nothing from the bucket. `now` may be older than that of another thread's call:
  // the newest of all calls is the time.
  Verdict admit(const IpAddress& address, TimePoint now);
  // Counts a connection that lives already, whatever the limits; false: uncounted.
  bool adopt(const IpAddress& address);
  void leave(const IpAddress& address) { give_back(address, 0); }
  // Undoes an admission, its token included: another limit refused the connection.
  void withdraw(const IpAddress& address) { give_back(address, interval_ns_); }

  std::size_t entries() const;  // peers in the table

 private:
  static constexpr std::size_t kShards = 16;
  static constexpr std::uint32_t kNone = 0xffffffff;

  // The bucket is one time: when it will be full again (GCRA).
  struct Entry {
    IpAddress peer;
    std::int64_t full_at_ns = 0;
    std::uint32_t live = 0;
    std::uint32_t next = kNone;       // in its chain, or of the free ones
    std::uint32_t idle_next = kNone;  // while live == 0
    std::uint32_t idle_previous = kNone;
  };
  static_assert(sizeof(Entry) == 40);

  struct alignas(64) Shard {
    Entry* find(const IpAddress& peer, std::size_t hash);
    Entry* add(const IpAddress& peer, std::size_t hash, std::size_t capacity);
    void rest(Entry& entry);
    void wake(Entry& entry);
    void remove(Entry& entry, std::size_t hash);
    std::uint32_t index(const Entry& entry) const;
    std::uint32_t& chain(std::size_t hash) { return chains[hash % chains.size()]; }

    mutable std::mutex mutex;
    std::vector<std::uint32_t> chains;  // the first entry of each
    std::vector<Entry> entries;
    std::size_t used = 0;
    std::int64_t now_ns = 0;  // the newest time of all calls
    std::uint32_t free = kNone;
    std::uint32_t oldest_idle = kNone;
    std::uint32_t newest_idle = kNone;
  };

  IpAddress peer_of(const IpAddress& address) const;
  std::size_t hash(const IpAddress& peer) const;
  void forget_idle(Shard& shard);
  void give_back(const IpAddress& address, std::int64_t token_ns);

  const PeerLimitOptions options_;
  const std::uint64_t seed_;        // so that nobody can choose addresses of one chain
  const std::int64_t interval_ns_;  // between two tokens; 0: no limit
  const std::int64_t bucket_ns_;    // what a full bucket is worth
  const std::size_t shard_capacity_;
  std::array<Shard, kShards> shards_;
};

// AcceptRate: connections in each second of the steady clock, a soft and a hard limit for them, and
// the most in one second of the last minute.
//
// Thread-safe without locks: one atomic addition for each connection. What the hard limit refused
// counts towards the peak too. Seconds begin by the newest clock of all threads: a connection that
// a thread with an older one brings counts in the second that runs.
class AcceptRate {
 public:
  enum class Verdict : std::uint8_t {
    kAccepted,
    kSoftLimit,  // accepted, and the first over the soft limit in this second: for the log
    kRefused,    // over the hard limit
  };

  explicit AcceptRate(const AcceptRateOptions& options) { change(options); }

  // The second that runs may have passed a new soft limit untold.
  void change(const AcceptRateOptions& options) {
    soft_.store(options.soft, std::memory_order_relaxed);
    hard_.store(options.hard, std::memory_order_relaxed);
  }

  Verdict accept(TimePoint now);

  // The most in one of the last 60 seconds, the running one included.
  std::uint32_t peak(TimePoint now) const;
  // Seconds that were over the soft limit.
  std::uint64_t soft_limit_seconds() const { return soft_seconds_.load(std::memory_order_relaxed); }
  std::uint64_t refused() const { return refused_.load(std::memory_order_relaxed); }

 private:
  static constexpr std::uint32_t kSeconds = 60;

  std::uint32_t running_second(TimePoint now);

  std::atomic<std::uint32_t> soft_{0};
  std::atomic<std::uint32_t> hard_{0};
  std::atomic<std::uint32_t> second_{0};  // the newest
  std::atomic<std::uint64_t> soft_seconds_{0};
  std::atomic<std::uint64_t> refused_{0};
  // Of each second its number (upper half) and its connections (lower half), in one word.
  std::array<std::atomic<std::uint64_t>, kSeconds> seconds_{};
};

}  // namespace tcpvitals
