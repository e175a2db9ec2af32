// Groups: what connections are added up by, so that a host with a million of them has a few hundred
// time series. A group is a direction, a service port and a group of peers; GroupStats is what is
// known of it; GroupTable is the bounded set of them.
#pragma once

#include <absl/container/flat_hash_map.h>

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "collectors/connections/inet_diag.h"
#include "collectors/connections/peer_groups.h"
#include "collectors/histogram.h"

namespace tcpvitals {

enum class Direction : std::uint8_t { kInbound, kOutbound };
std::string_view to_string(Direction direction);

// The `port` label: a port number, or one of these.
using PortLabel = std::uint32_t;
inline constexpr PortLabel kPortEphemeral = 65536;  // in the ephemeral range, so no service's
inline constexpr PortLabel kPortUnknown = 65537;    // the kernel withheld it
inline constexpr PortLabel kPortOther = 65538;      // over the bound on groups
std::string port_label(PortLabel port);

struct GroupKey {
  Direction direction = Direction::kInbound;
  PortLabel port = 0;
  PeerId peer = 0;

  std::uint64_t packed() const {
    return std::uint64_t{port} << 16 | std::uint64_t{peer} << 8 |
           static_cast<std::uint64_t>(direction);
  }
};

// Why a connection attempt never became a connection.
enum class ConnectFailure : std::uint8_t { kRefused, kTimeout, kAborted, kUnknown };
inline constexpr std::size_t kConnectFailures = 4;
std::string_view to_string(ConnectFailure reason);

// Totals never fall. Times in microseconds, sizes in bytes.
struct GroupStats {
  std::uint64_t opened = 0;  // connections that were established
  std::uint64_t closed = 0;  // of those, and of at_start
  std::uint64_t at_start =
      0;  // established before tracking began: opened - closed + at_start = live
  std::array<std::uint64_t, kConnectFailures> failures{};

  std::uint64_t data_segments_sent = 0;
  std::uint64_t retransmitted_segments = 0;
  std::uint64_t spurious_retransmissions = 0;
  std::uint64_t retransmission_timeouts = 0;
  std::uint64_t delivered_segments = 0;
  std::uint64_t ce_marked_segments = 0;
  std::uint64_t reordering_events = 0;
  std::uint64_t sent_bytes = 0;
  std::uint64_t retransmitted_bytes = 0;
  std::uint64_t received_bytes = 0;
  std::uint64_t busy_us = 0;
  std::uint64_t receive_window_limited_us = 0;
  std::uint64_t send_buffer_limited_us = 0;
  RttHistogram rtt;
  RttHistogram min_rtt;

  // Tracked connections and attempts by state, now: moves with every row and event.
  std::array<std::uint32_t, kTcpStates> connections{};

  // What the rows of the last complete dump add up to, besides what is tracked.
  struct LastDump {
    std::uint32_t time_wait = 0;     // no longer connections, without counters; FIN_WAIT2 included
    std::uint32_t syn_received = 0;  // not yet connections, without counters
    std::uint64_t send_queue_bytes = 0;
    std::uint64_t receive_queue_bytes = 0;
  };
  LastDump last_dump;
};

using GroupId = std::uint16_t;

// Never forgets a group. Not thread-safe: the sampler's thread only.
class GroupTable {
 public:
  // `max_groups` does not count the few that `other` needs: one for each direction and peer group.
  explicit GroupTable(std::size_t max_groups) : max_groups_(max_groups) {}

  GroupId find_or_add(GroupKey key);

  GroupStats& operator[](GroupId id) { return stats_[id]; }
  const std::vector<GroupKey>& keys() const { return keys_; }      // by id
  const std::vector<GroupStats>& stats() const { return stats_; }  // by id
  std::size_t limit() const { return max_groups_; }

  // How often a connection fell into `other` because there was no room for its group.
  std::uint64_t overflowed() const { return overflowed_; }

 private:
  std::size_t max_groups_;
  std::size_t named_ = 0;  // groups that are not `other`
  std::uint64_t overflowed_ = 0;
  absl::flat_hash_map<std::uint64_t, GroupId> ids_;
  std::vector<GroupKey> keys_;
  std::vector<GroupStats> stats_;
};

}  // namespace tcpvitals
