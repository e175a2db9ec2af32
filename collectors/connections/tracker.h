// Tracker: counts every connection exactly once, from two views that each miss something. A dump
// shows what lives but not what came and went between two dumps; a DESTROY event shows the final
// counters but not what was counted before. Joined by the socket cookie:
//
//   opened, segments, bytes ...   move by the difference to the value last seen for the cookie
//   a cookie only an event shows  was born and died between two dumps: all of it counts
//   a cookie of the first dump    is a baseline: its past is not counted, its future is
//   always, for every group       opened - closed + at_start = connections tracked as established
//
// One tracker watches one network namespace, for cookies are unique in no more than that on older
// kernels; trackers share the groups and the bound on connections.
//
// Cost: 104 bytes per row, and no lookup for most. The kernel walks its table in the same
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
#include <optional>
#include <vector>

#include "base/clock.h"
#include "collectors/attribution/classify.h"
#include "collectors/attribution/groups.h"
#include "collectors/connections/config.h"
#include "collectors/sock_diag/exclude.h"
#include "collectors/sock_diag/inet_diag.h"

namespace tcpvitals {

// Totals of the tracker itself. They never fall.
struct TrackerStats {
  // Each socket once, when it is seen first, those of the baseline left out; and attempts that
  // failed. To be held against the host's ActiveOpens, PassiveOpens and AttemptFails.
  std::uint64_t attempts = 0;  // of ours to connect
  std::uint64_t accepted = 0;  // that others opened
  std::uint64_t failed = 0;  // those we gave up ourselves left out: the kernel does not count them
  std::uint64_t retransmitted_segments = 0;

  std::uint64_t untracked = 0;  // sockets over the limit, each once in each dump
  std::uint64_t events = 0;     // DESTROY events of connections and attempts
  std::uint64_t closes_without_counters =
      0;                       // the kernel cleared them first: zero linger, disconnect
  std::uint64_t vanished = 0;  // tracked, then missing from two dumps with no event so far
  std::uint64_t late_events =
      0;  // events of vanished connections, which then did get their final counters

  TrackerStats& operator+=(const TrackerStats& other);
};

// What the trackers of all namespaces share.
struct TrackerShared {
  GroupTable& groups;
  std::size_t max_connections = 262'144;  // tracked at most; further ones count when they close
  std::size_t connections = 0;            // tracked now
  std::chrono::seconds close_wait_threshold{60};

  // Local ports in use by destination, in the dump of a namespace that runs: a bucket for each hash
  // of the two addresses and the remote port. Two destinations of one bucket add up.
  std::vector<std::uint16_t> ports_in_use = std::vector<std::uint16_t>(std::size_t{1} << 16);

  // Around the dumps of all namespaces.
  void begin_dump() { groups.begin_dump(); }
  void end_dump() { groups.end_dump(); }
};

class Tracker {
 public:
  // Both must outlive the tracker.
  Tracker(TrackerShared& shared, const Classifier& classifier)
      : shared_(shared), groups_(shared.groups), classifier_(classifier) {}
  ~Tracker() { end_all(); }
  Tracker(const Tracker&) = delete;
  Tracker& operator=(const Tracker&) = delete;

  // One full dump: begin, its rows, then end or, if it broke off, abandon. Events may come at any
  // time, between two rows included. The first dump that ends is the baseline; until then events of
  // unknown cookies are ignored. `events_lost`: since the last dump began, so that a cookie which
  // this one does not show is gone; else a dump may skip a socket, and only a second miss is an
  // end.
  void begin_dump(TimePoint now, bool events_lost = false);
  void add_row(const SocketRow& row);
  void end_dump(TimePoint now);
  void abandon_dump();

  // The classifier groups in another way from now on: every connection moves to its group when it
  // is seen next. The kernel must leave out no more than both excludes do: the next complete dump
  // takes what only `before` excluded as a baseline; what `now` excludes is taken out of the
  // account, until the kernel leaves it out by itself.
  void regroup(Excludes before, Excludes now);
  void kernel_excludes() { excluded_now_ = {}; }

  // These cgroups have names now: a connection of theirs that was put under `unknown` moves to its
  // group when the next dump shows it. What it did until then stays where it was counted.
  void add_found_cgroups(const absl::flat_hash_set<std::uint64_t>& ids) {
    found_cgroups_.insert(ids.begin(), ids.end());
  }
  bool has_found_cgroups() const { return !found_cgroups_.empty(); }

  void add_event(const SocketRow& event);

  // The namespace is gone: whatever is still tracked has ended, how is not known.
  void end_all();

  // Whether a baseline was taken, so that the groups' numbers are true.
  bool started() const { return started_; }

  // Sockets by state, time-wait and listening ones included, in the last complete dump.
  const std::array<std::uint32_t, kTcpStates>& host_states() const { return host_states_; }

  const TrackerStats& stats() const { return stats_; }
  std::size_t tracked() const { return live_; }
  std::size_t untracked() const {
    return untracked_;
  }  // connections of the last dump over the limit
  std::size_t memory_bytes() const;

  // What is known of a socket beyond its row.
  struct Known {
    Direction direction;
    GroupKey key;
    TimePoint first_seen;  // min(): it was there before tracking began; max(): not tracked
  };
  Known known(const SocketRow& row) const;

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

    bool operator==(const Counters&) const = default;
  };

  struct Connection {
    std::uint64_t cookie = 0;  // 0: a free slot
    Counters seen;
    std::uint32_t acked_bytes = 0;       // low half of bytes_acked at the last RTT observation
    std::uint32_t ends = 0;              // hash of both addresses and the remote port
    std::uint32_t first_seen = 0;        // by our clock in seconds; 0: it is of the baseline
    std::uint32_t close_wait_since = 0;  // likewise, while in that state
    GroupId group = 0;
    std::uint16_t retransmission_timeouts = 0;
    std::uint16_t dump = 0;  // number of the dump that saw it last, modulo 2^16
    TcpState state = TcpState::kClose;
    bool outbound : 1 = false;
    bool opened : 1 = false;  // counted as opened, or in at_start
    bool rtt_observed : 1 = false;
    bool missed : 1 = false;        // by the last complete dump
    bool vanished : 1 = false;      // by two
    bool byte_held : 1 = false;     // the last byte received is not counted yet: it may be a FIN
    std::uint8_t grouping : 2 = 0;  // number of the grouping that gave it `group`, modulo 4
  };
  static_assert(sizeof(Connection) == 104);

  struct Vanished {
    std::uint64_t cookie;
    TimePoint since;
    std::uint16_t dump;  // that saw it last: another one, and it lived again since
  };

  using Index = std::uint32_t;
  static constexpr Index kNone = 0xffffffff;
  static constexpr std::size_t kChunkBits = 12;  // a slab chunk is 416 KiB and never moves
  static constexpr std::size_t kChunk = std::size_t{1} << kChunkBits;
  static constexpr std::size_t kWindow = 8;     // expected rows that may be missing in a row
  static constexpr std::size_t kPrefetch = 16;  // rows
  // A socket that was reset is in no dump, and sends its event when its application lets go of it.
  static constexpr auto kVanishedRemembered = std::chrono::hours(1);
  static constexpr std::size_t kMaxVanished = 65'536;

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
  void begin(Index index, const SocketRow& row, std::uint32_t ends);
  void end_unseen(Index index);
  void pass_over(Index index);
  void mark_seen(Index index);
  void advance(Connection& c, const SocketRow& row, const TcpInfo& info);
  void count_local_port(GroupId group, std::uint16_t port, std::uint32_t ends);
  void add_to_dump(Connection& c, const SocketRow& row, const TcpInfo& info);
  void return_to_life(Connection& c);
  void add_counters(Connection& c, GroupStats& group, const TcpInfo& info, bool got_fin,
                    bool was_open);
  void observe_path(Connection& c, GroupStats& group, const TcpInfo& info);
  void count_final(Connection& c, GroupStats& group, const TcpInfo& info, bool was_open);
  void stop_counting(const Connection& c);
  void leave(const Connection& c, ConnectionEnd end);
  void end_reused(const Connection& c);
  bool left_out(const SocketRow& event) const;
  void finish_known(Index index, const SocketRow& event);
  void finish_unknown(const SocketRow& event);
  void count_failure(GroupStats& group, ConnectFailure reason);
  void move(Connection& c, const SocketRow& row);
  void take_out(Index index);
  std::uint32_t seconds_now() const;
  void sweep(TimePoint now);
  void forget_vanished(TimePoint now);

  bool is_misplaced(const Connection& c, const SocketRow& row) const;

  static bool ends_with_fin(Connection& c, const SocketRow& row, const TcpInfo& info);
  static bool is_reused(const Connection& c, std::uint32_t ends, const TcpInfo& info);
  static ConnectFailure failure_of_cleared(const Connection& c);
  static Counters read_counters(const TcpInfo& info, bool got_fin);
  static void add_difference(GroupStats& group, const Counters& before, const Counters& now);

  TrackerShared& shared_;
  GroupTable& groups_;
  const Classifier& classifier_;

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
  bool one_miss_ends_ = false;                        // in the running dump
  std::uint8_t grouping_ = 0;                         // of the classifier, modulo 4
  Excludes excluded_before_;                          // until a dump ends
  Excludes excluded_now_;                             // until the kernel excludes it
  absl::flat_hash_set<std::uint64_t> found_cgroups_;  // until a dump ends
  TimePoint now_{};                                   // when the running dump, or the last, began
  std::uint16_t dump_ = 0;
  std::size_t seen_ = 0;  // live connections that the running dump has shown
  std::array<std::uint32_t, kTcpStates> dump_states_{};
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
