// DumpAccount: what the rows of one dump add up to by themselves, without what was seen before:
// sockets by state, queues, CLOSE_WAIT and local ports of each group.
//
// Not thread-safe: the tracker's thread only.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <vector>

#include "base/clock.h"
#include "collectors/attribution/classify.h"
#include "collectors/attribution/groups.h"
#include "collectors/connections/connection_table.h"
#include "collectors/sock_diag/inet_diag.h"

namespace tcpvitals {

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

using StateCounts = std::array<std::uint32_t, kTcpStates>;

class DumpAccount {
 public:
  // Both must outlive it.
  DumpAccount(TrackerShared& shared, Classifier& classifier)
      : shared_(shared), classifier_(classifier) {}

  void begin(TimePoint now);
  void count_state(TcpState state) { ++running_.states[static_cast<std::size_t>(state)]; }
  void count_untracked() { ++running_.untracked; }
  // A row of a closed connection, or of one that is not yet open.
  void add_socket_without_counters(const SocketRow& row);
  void add_connection(TrackedConnection& c, const SocketRow& row, const TcpInfo& info);
  void end() { complete_ = running_; }

  // In the last complete dump.
  struct Totals {
    StateCounts states{};       // time-wait and listening sockets included
    std::size_t untracked = 0;  // connections over the limit
  };
  const Totals& complete() const { return complete_; }

  // When the running dump, or the last, began.
  TimePoint now() const { return now_; }
  std::uint32_t seconds_now() const;

 private:
  void count_local_port(GroupId group, std::uint16_t port, std::uint32_t ends);

  TrackerShared& shared_;
  Classifier& classifier_;
  TimePoint now_{};
  Totals running_;
  Totals complete_;
};

}  // namespace tcpvitals
