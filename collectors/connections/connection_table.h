// ConnectionTable: the connections that are tracked, by cookie, in 108 bytes each.
//
// The kernel walks its table in the same order each time, so the row that comes next is known from
// the last dump, and its line is prefetched while others are worked on; only what is new or out of
// order is looked up. The index then needs no keys: it holds slab positions and compares cookies
// there. 100,000 rows: 0.8 ms instead of 12 ms for prefetched lookups in a map from cookie to
// position, and 8 bytes a connection less.
//
// Not thread-safe: the tracker's thread only. Positions and references stay good while others come
// and go.
#pragma once

#include <absl/container/flat_hash_set.h>
#include <absl/hash/hash.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "collectors/attribution/groups.h"
#include "collectors/sock_diag/tcp_meter.h"

namespace tcpvitals {

// Whether a connection in this state was established, at the latest now.
constexpr bool established(TcpState state) {
  return state != TcpState::kSynSent && state != TcpState::kSynReceived &&
         state != TcpState::kClose && state != TcpState::kListen;
}

struct TrackedConnection : TcpMeter {
  PackedU64 cookie;                    // 0: a free slot
  std::uint32_t ends = 0;              // hash of both addresses and the remote port
  std::uint32_t first_seen = 0;        // by our clock in seconds; 0: it is of the baseline
  std::uint32_t close_wait_since = 0;  // likewise, while in that state
  GroupId group = 0;
  std::uint16_t dump : 12 = 0;  // low bits of the number of the dump that saw it last
  bool missed : 1 = false;      // by the last complete dump
  bool vanished : 1 = false;    // by two
  bool regroup : 1 = false;     // when it is seen next: `group` is of an earlier grouping

  // Counted as opened, or in at_start.
  bool opened() const { return established(state); }
};
static_assert(sizeof(TrackedConnection) <= 108);

class ConnectionTable {
 public:
  using Index = std::uint32_t;
  static constexpr Index kNone = 0xffffffff;

  ConnectionTable() = default;
  ConnectionTable(const ConnectionTable&) = delete;
  ConnectionTable& operator=(const ConnectionTable&) = delete;

  TrackedConnection& operator[](Index i) { return chunks_[i >> kChunkBits][i & (kChunk - 1)]; }
  const TrackedConnection& operator[](Index i) const {
    return chunks_[i >> kChunkBits][i & (kChunk - 1)];
  }

  Index find(std::uint64_t cookie) const;
  Index add(std::uint64_t cookie);
  void remove(Index index);

  // Of the running dump: the connection whose row has come, found by the order of the last dump.
  void begin_dump();
  Index find_next(std::uint64_t cookie);
  void mark_seen(Index index);
  // The kernel was disconnecting the socket while it wrote the row: ports and counters may be
  // cleared already. It is there, if it is known, and no more than that; its event tells the rest.
  void mark_there(Index index) {
    if (index != kNone && !(*this)[index].vanished && !is_seen((*this)[index])) mark_seen(index);
  }
  std::size_t seen() const { return seen_; }  // of those that are in the table still
  bool is_seen(const TrackedConnection& c) const { return c.dump == dump_; }
  void end_dump();

  // Positions below this one are in use, or were: a free one has cookie 0.
  Index end() const { return used_; }
  std::size_t memory_bytes() const;

 private:
  static constexpr std::size_t kChunkBits = 10;  // a chunk is 108 KiB and never moves
  static constexpr std::size_t kChunk = std::size_t{1} << kChunkBits;
  static constexpr std::size_t kWindow = 8;     // expected rows that may be missing in a row
  static constexpr std::size_t kPrefetch = 16;  // rows

  struct CookieHash {
    using is_transparent = void;
    const ConnectionTable* table;
    std::size_t operator()(std::uint64_t cookie) const { return absl::HashOf(cookie); }
    std::size_t operator()(Index i) const { return (*this)(std::uint64_t{(*table)[i].cookie}); }
  };
  struct CookieEqual {
    using is_transparent = void;
    const ConnectionTable* table;
    bool operator()(Index a, Index b) const { return a == b; }
    bool operator()(Index i, std::uint64_t cookie) const { return (*table)[i].cookie == cookie; }
  };

  absl::flat_hash_set<Index, CookieHash, CookieEqual> index_{0, CookieHash{this},
                                                             CookieEqual{this}};
  std::vector<std::unique_ptr<TrackedConnection[]>> chunks_;
  std::vector<Index> free_;
  Index used_ = 0;  // slots ever used

  std::vector<Index> order_;      // of the rows in the last complete dump
  std::vector<Index> new_order_;  // in the running one
  std::size_t expected_ = 0;      // position in order_ of the row that should come next
  std::size_t seen_ = 0;
  std::uint16_t dump_ = 0;  // number of the running dump, or the last: 12 bits
};

}  // namespace tcpvitals
