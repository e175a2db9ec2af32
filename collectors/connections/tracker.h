// Tracker: counts every connection exactly once, from two views that each miss something. A dump
// shows what lives but not what came and went between two dumps; a DESTROY event shows the final
// counters but not what was counted before. Joined by the socket cookie:
//
//   opened, segments, bytes ...   move by the difference to the value last seen for the cookie
//   a cookie only an event shows  was born and died between two dumps: all of it counts
//   a cookie of the first dump    is a baseline: its past is not counted, its future is
//   always, for every group       opened - closed + at_start = connections tracked as established
//
// Cost: one 96-byte line per row, and no lookup for most. The kernel walks its table in the same
// order each time, so the row that comes next is known from the last dump, and its line is
// prefetched while others are worked on; only what is new or out of order is looked up. The index
// then needs no keys: it holds slab positions and compares cookies there. 100,000 rows: 0.8 ms
// instead of 12 ms for prefetched lookups in a map from cookie to position, and 8 bytes a
// connection less. Rejected: deriving totals by summing live sockets (falls when one closes).
//
// Not thread-safe: the sampler's thread only.
#pragma once

#include <absl/container/flat_hash_set.h>
#include <absl/hash/hash.h>

#include <array>
#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "base/clock.h"
#include "collectors/connections/classify.h"
#include "collectors/connections/groups.h"
#include "collectors/connections/inet_diag.h"

namespace tcpvitals {

// Totals of the tracker itself. They never fall.
struct TrackerStats {
  std::uint64_t events = 0;  // DESTROY events of connections and attempts
  std::uint64_t closes_without_counters =
      0;                       // the kernel cleared them first: zero linger, disconnect
  std::uint64_t vanished = 0;  // tracked, then missing from two dumps with no event so far
  std::uint64_t late_events =
      0;  // events of vanished connections, which then did get their final counters
};

class Tracker {
 public:
  struct Limits {
    std::size_t connections = 262'144;  // tracked at most; further ones count when they close
    std::size_t vanished = 65'536;      // remembered, in case their event is late
  };

  // Both must outlive the tracker.
  Tracker(GroupTable& groups, const Classifier& classifier, Limits limits)
      : groups_(groups), classifier_(classifier), limits_(limits) {}
  Tracker(const Tracker&) = delete;
  Tracker& operator=(const Tracker&) = delete;

  // One full dump: begin, its rows, then end or, if it broke off, abandon. Events may come at any
  // time, between two rows included. The first dump that ends is the baseline; until then events of
  // unknown cookies are ignored.
  void begin_dump(TimePoint now);
  void add_row(const SocketRow& row);
  void end_dump(TimePoint now);
  void abandon_dump();

  void add_event(const SocketRow& event);

  // Whether a baseline was taken, so that the groups' numbers are true.
  bool started() const { return started_; }

  // Sockets by state, time-wait and listening ones included, in the last complete dump.
  const std::array<std::uint32_t, kTcpStates>& host_states() const { return host_states_; }

  const TrackerStats& stats() const { return stats_; }
  std::size_t tracked() const { return live_; }
  std::size_t untracked() const {
    return untracked_;
  }  // connections of the last dump over the limit
  std::size_t limit() const { return limits_.connections; }
  std::size_t memory_bytes() const;

  // Bytes of tcp_info this kernel returns; 0 before the first socket that has one.
  std::uint32_t info_length() const { return info_length_; }

 private:
  // The counters of one connection, as last seen.
  struct Counters {
    std::uint64_t sent_bytes = 0;
    std::uint64_t retransmitted_bytes = 0;
    std::uint64_t received_bytes = 0;
    std::uint64_t busy_us = 0;
    std::uint64_t receive_window_limited_us = 0;
    std::uint64_t send_buffer_limited_us = 0;
    std::uint32_t retransmitted_segments = 0;
    std::uint32_t data_segments_sent = 0;
    std::uint32_t spurious_retransmissions = 0;
    std::uint32_t delivered_segments = 0;
    std::uint32_t ce_marked_segments = 0;
    std::uint32_t reordering_events = 0;
  };

  struct Connection {
    std::uint64_t cookie = 0;  // 0: a free slot
    Counters seen;
    std::uint32_t acked_bytes = 0;  // low half of bytes_acked at the last RTT observation
    std::uint32_t remote = 0;       // hash of the peer's address and port
    GroupId group = 0;
    std::uint16_t retransmission_timeouts = 0;
    std::uint16_t dump = 0;  // number of the dump that saw it last, modulo 2^16
    TcpState state = TcpState::kClose;
    bool opened : 1 = false;  // counted as opened, or in at_start
    bool rtt_observed : 1 = false;
    bool missed : 1 = false;     // by the last complete dump
    bool vanished : 1 = false;   // by two
    bool byte_held : 1 = false;  // the last byte received is not counted yet: it may be a FIN
  };
  static_assert(sizeof(Connection) == 96);

  struct Vanished {
    std::uint64_t cookie;
    TimePoint since;
  };

  using Index = std::uint32_t;
  static constexpr Index kNone = 0xffffffff;
  static constexpr std::size_t kChunkBits = 12;  // a slab chunk is 384 KiB and never moves
  static constexpr std::size_t kChunk = std::size_t{1} << kChunkBits;
  static constexpr std::size_t kWindow = 8;     // expected rows that may be missing in a row
  static constexpr std::size_t kPrefetch = 16;  // rows
  static constexpr auto kVanishedRemembered = std::chrono::seconds(60);

  Connection& at(Index i) { return chunks_[i >> kChunkBits][i & (kChunk - 1)]; }
  const Connection& at(Index i) const { return chunks_[i >> kChunkBits][i & (kChunk - 1)]; }

  // The index holds positions, and finds them by the cookie in the slab.
  struct CookieHash {
    using is_transparent = void;
    const Tracker* tracker;
    std::size_t operator()(std::uint64_t cookie) const { return absl::HashOf(cookie); }
    std::size_t operator()(Index i) const { return (*this)(tracker->at(i).cookie); }
  };
  struct CookieEqual {
    using is_transparent = void;
    const Tracker* tracker;
    bool operator()(Index a, Index b) const { return a == b; }
    bool operator()(Index i, std::uint64_t cookie) const { return tracker->at(i).cookie == cookie; }
  };

  Index find(std::uint64_t cookie) const;
  Index find_expected(std::uint64_t cookie);
  Index allocate(std::uint64_t cookie);
  void release(Index index);

  void add_socket_without_counters(const SocketRow& row);
  void begin(Index index, const SocketRow& row);
  void mark_seen(Index index);
  void advance(Connection& c, const SocketRow& row, const TcpInfo& info);
  void return_to_life(Connection& c);
  void add_counters(Connection& c, GroupStats& group, const TcpInfo& info, bool got_fin);
  void count_final(Connection& c, GroupStats& group, const TcpInfo& info, Direction direction);
  void remove(Connection& c);
  void finish_known(Index index, const SocketRow& event);
  void finish_unknown(const SocketRow& event);
  void sweep(TimePoint now);
  void forget_vanished(TimePoint now);

  static bool ends_with_fin(Connection& c, const SocketRow& row, const TcpInfo& info);
  static bool is_reused(const Connection& c, const SocketRow& row, const TcpInfo& info);
  static Counters read_counters(const TcpInfo& info, bool got_fin);
  static void add_difference(GroupStats& group, const Counters& before, const Counters& now);

  GroupTable& groups_;
  const Classifier& classifier_;
  Limits limits_;

  absl::flat_hash_set<Index, CookieHash, CookieEqual> index_{0, CookieHash{this},
                                                             CookieEqual{this}};
  std::vector<std::unique_ptr<Connection[]>> chunks_;
  std::vector<Index> free_;
  Index used_ = 0;        // slots ever used
  std::size_t live_ = 0;  // tracked and not vanished

  std::vector<Index> order_;      // of the rows in the last complete dump
  std::vector<Index> new_order_;  // in the running one
  std::size_t expected_ = 0;      // position in order_ of the row that should come next

  bool started_ = false;
  bool dumping_ = false;
  std::uint16_t dump_ = 0;
  std::size_t seen_ = 0;  // live connections that the running dump has shown
  std::array<std::uint32_t, kTcpStates> dump_states_{};
  std::vector<GroupStats::LastDump> dump_groups_;  // by GroupId; of the running dump
  std::size_t dump_untracked_ = 0;
  absl::flat_hash_set<std::uint64_t>
      destroyed_;  // while a dump runs: late rows must not revive them

  std::array<std::uint32_t, kTcpStates> host_states_{};
  std::size_t untracked_ = 0;
  std::deque<Vanished> vanished_;  // oldest first
  TrackerStats stats_;
  std::uint32_t info_length_ = 0;
};

}  // namespace tcpvitals
