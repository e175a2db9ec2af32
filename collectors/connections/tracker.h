// Tracker: counts every connection exactly once, from two views that each miss something. A dump
// shows what lives but not what came and went between two dumps; a DESTROY event shows the final
// counters but not what was counted before. The socket cookie joins them. One tracker watches one
// network namespace, for on older kernels cookies are unique in no more than that; trackers share
// the groups and the bound on connections.
//
// The rules. Tests cite them by number.
//
//  1. Identity is the cookie. Each total moves by the difference to the value last seen for it,
//     across wraps of 32 and 16 bits, and never falls. (TcpMeter)
//  2. An event gives the final difference and forgets the cookie. A cookie that only an event shows
//     was born and died between two dumps: all of it counts, unless rule 3 says otherwise. `opened`
//     means established; an attempt that never was is a failure with a reason. An event with remote
//     port 0 has no counters: the connection counts, and closes_without_counters says so. Of two
//     sockets made of one handshake only the one that the kernel kept counts. A socket
//     that is used again (other ends, or a total that fell) carries a new connection. How a
//     connection ended, and why an attempt failed, is a verdict on its last counters. (verdicts.h)
//  3. What was there before counting began has no past. Subscribe, then dump: the first complete
//     dump is a baseline, and until it ends events of unknown cookies are ignored. Nor is an
//     unknown cookie new
//       - if it was over the limit in the baseline, or vanished so long ago that its record was
//         given up: such cookies are remembered (PastSockets), bounded
//       - if its ages show that it was established before the baseline began. A socket that was
//         reset before is in no dump, and its event comes when its application lets go of it
//       - if some remembered cookies had to be dropped, and its ages show that it was established
//         before the last complete dump, which did not show it.
//     In a dump it is then a baseline of its own; of its event nothing is counted but the event, in
//     closes_of_past. What stays uncertain: an attempt that failed before the start, and a socket
//     that was reset before and is closed with zero linger, have no ages and count as new; a
//     connection that the baseline's walk skipped and that moved data since counts whole. The first
//     two, AttemptFails, ActiveOpens and PassiveOpens show as unattributed below zero.
//  4. A cookie destroyed while a dump runs is remembered until that dump ends: a late row does not
//     revive it.
//  5. The kernel's walk may skip a socket: a cookie is gone when two complete dumps miss it, or one
//     if events were lost before it. It is then closed (`unknown`), and kept for an hour: a late
//     event adds only the difference, and a row brings it back to life.
//  6. Direction is settled at first sight and kept. (Classifier)
//  7. LISTEN rows are no connections. TIME_WAIT, FIN_WAIT2 of a closed socket and SYN_RECV rows
//     have no counters: they count in states only, each in the kernel's own. Of a row that the
//     kernel wrote during a disconnect (CLOSE, or all zero) the counters and ages say nothing.
//  8. The path is observed when data was acknowledged, at most once in ten seconds, and at the
//     close. (TcpMeter)
//  9. What the kernel did not return is absent, in every decision too. (verdicts.h, TcpMeter)
// 10. Tracked connections are bounded. One over the limit counts when it closes.
//
// And always, for every group: opened - closed + at_start = connections tracked. (Books)
//
// Rejected: deriving totals by summing live sockets (falls when one closes).
//
// Not thread-safe: the sampler's thread only.
#pragma once

#include <absl/container/flat_hash_set.h>

#include <cstdint>
#include <deque>

#include "base/clock.h"
#include "collectors/attribution/classify.h"
#include "collectors/attribution/groups.h"
#include "collectors/connections/books.h"
#include "collectors/connections/config.h"
#include "collectors/connections/connection_table.h"
#include "collectors/connections/dump_account.h"
#include "collectors/connections/past_sockets.h"
#include "collectors/sock_diag/exclude.h"
#include "collectors/sock_diag/inet_diag.h"

namespace tcpvitals {

class Tracker {
 public:
  // Both must outlive the tracker.
  Tracker(TrackerShared& shared, Classifier& classifier)
      : shared_(shared),
        groups_(shared.groups),
        classifier_(classifier),
        books_(shared),
        account_(shared, classifier) {}
  ~Tracker() { end_all(); }
  Tracker(const Tracker&) = delete;
  Tracker& operator=(const Tracker&) = delete;

  // One full dump: begin, its rows, then end or, if it broke off, abandon. Events may come at any
  // time, between two rows included. `events_lost`: since the last dump began.
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

  // `now`: when it was received, no earlier than it was sent.
  void add_event(const SocketRow& event, TimePoint now);

  // The namespace is gone: whatever is still tracked has ended, how is not known.
  void end_all();

  // Whether a baseline was taken, so that the groups' numbers are true.
  bool started() const { return started_; }

  // Of the last complete dump.
  const DumpAccount::Totals& last_dump() const { return account_.complete(); }

  const TrackerStats& stats() const { return books_.stats; }
  std::size_t tracked() const { return books_.live(); }
  const PastSockets& past() const { return past_; }
  std::size_t memory_bytes() const { return table_.memory_bytes() + past_.memory_bytes(); }

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
  struct Vanished {
    std::uint64_t cookie;
    TimePoint since;
    std::uint16_t dump;  // that saw it last: another one, and it lived again since
  };

  using Index = ConnectionTable::Index;
  static constexpr Index kNone = ConnectionTable::kNone;
  static constexpr auto kVanishedRemembered = std::chrono::hours(1);
  static constexpr std::size_t kMaxVanished = 65'536;
  static constexpr auto kDumpTime = std::chrono::seconds(10);  // from its begin to a row, at most

  void begin(Index index, const SocketRow& row, std::uint32_t ends);
  void connect(TrackedConnection& c, const SocketRow& row);
  void regroup_all();
  void move(TrackedConnection& c, const SocketRow& row, bool connected);
  void advance(TrackedConnection& c, const SocketRow& row, const TcpInfoSample& sample);
  void drop(Index index);

  void finish_known(Index index, const SocketRow& event, TimePoint now);
  void finish_unknown(const SocketRow& event, TimePoint now);
  void end_reused(TrackedConnection& c);
  void vanish(TrackedConnection& c);
  void sweep(TimePoint now);
  void forget_vanished(TimePoint now);

  TrackerShared& shared_;
  GroupTable& groups_;
  Classifier& classifier_;
  Books books_;
  DumpAccount account_;
  ConnectionTable table_;
  PastSockets past_;
  std::deque<Vanished> vanished_;  // oldest first

  bool started_ = false;
  bool dumping_ = false;
  bool one_miss_ends_ = false;                        // in the running dump
  std::uint32_t ports_named_ = 0;                     // the classifier's generation
  Excludes excluded_before_;                          // until a dump ends
  Excludes excluded_now_;                             // until the kernel excludes it
  absl::flat_hash_set<std::uint64_t> found_cgroups_;  // until a dump ends
  absl::flat_hash_set<std::uint64_t> destroyed_;      // while a dump runs
  std::uint32_t info_length_ = 0;
};

}  // namespace tcpvitals
