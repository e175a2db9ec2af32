// Books: moves the numbers of groups as connections come, change and go, so that they balance at
// every step, for every group:
//
//   opened - closed + at_start = connections tracked as established
//
// Also TrackerStats, the totals of the tracker itself. Not thread-safe: the tracker's thread only.
#pragma once

#include <cstdint>

#include "collectors/connections/connection_table.h"
#include "collectors/connections/dump_account.h"

namespace tcpvitals {

// They never fall.
struct TrackerStats {
  // Each socket once, when it is seen first, those of the baseline left out; and attempts that
  // failed. To be held against the host's ActiveOpens, PassiveOpens and AttemptFails.
  std::uint64_t attempts = 0;  // of ours to connect
  std::uint64_t accepted = 0;  // that others opened
  std::uint64_t failed = 0;    // those that applications gave up included, which no host counts
  std::uint64_t retransmitted_segments = 0;

  std::uint64_t untracked = 0;                // sockets over the limit, each once in each dump
  std::uint64_t events = 0;                   // DESTROY events of connections and attempts
  std::uint64_t closes_without_counters = 0;  // the kernel cleared them first
  std::uint64_t closes_of_past = 0;  // of connections that are not new, not counted: rule 3
  std::uint64_t past_dropped = 0;    // cookies of such that there was no room for
  std::uint64_t vanished = 0;        // tracked, then missing from two dumps with no event so far
  std::uint64_t late_events = 0;     // of vanished connections, which then got their final counters

  TrackerStats& operator+=(const TrackerStats& other);
};

class Books {
 public:
  // Must outlive it.
  explicit Books(TrackerShared& shared) : shared_(shared), groups_(shared.groups) {}

  GroupStats& group(const TrackedConnection& c) { return groups_[c.group]; }

  // A socket that is counted from its first SYN on.
  void begin_attempt(GroupStats& group, bool outbound);

  // It lives, in its state and group: from before counting began, or new.
  void enter_at_start(const TrackedConnection& c);
  void enter(const TrackedConnection& c);
  // It no longer does. Its slot and its group stay with it.
  void leave(const TrackedConnection& c);
  // It does, and has ended.
  void close(const TrackedConnection& c, ConnectionEnd end);
  void change_state(const TrackedConnection& c, TcpState now);
  void move(TrackedConnection& c, GroupId to);
  // As if it had never been there.
  void take_out(const TrackedConnection& c);

  void count_failure(GroupStats& group, ConnectFailure reason);

  // Moves a group's totals by what `count` adds, and the retransmissions and SYNs that follow.
  template <typename Count>
  void measure(GroupStats& group, const Count& count) {
    const std::uint64_t segments = group.retransmitted_segments;
    const std::uint64_t syns = group.retransmitted_syns;
    count(group);
    stats.retransmitted_segments += group.retransmitted_segments - segments;
    group.syns_sent += group.retransmitted_syns - syns;
  }

  std::size_t live() const { return live_; }

  TrackerStats stats;

 private:
  void add_live(const TrackedConnection& c);

  TrackerShared& shared_;
  GroupTable& groups_;
  std::size_t live_ = 0;
};

}  // namespace tcpvitals
