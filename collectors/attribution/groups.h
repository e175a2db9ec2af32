// Groups: what connections are added up by, so that a host with a million of them has a few hundred
// time series. A group is a direction, a service port and a group of peers, and a cgroup and a
// network namespace where an operator wants them; GroupStats is what is known of it; GroupTable is
// the bounded set of them.
#pragma once

#include <absl/container/flat_hash_map.h>

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "collectors/attribution/cgroups.h"
#include "collectors/attribution/peer_groups.h"
#include "collectors/sock_diag/inet_diag.h"
#include "collectors/sock_diag/tcp_counters.h"

namespace tcpvitals {

enum class Direction : std::uint8_t { kInbound, kOutbound };
inline constexpr std::size_t kDirections = 2;
std::string_view to_string(Direction direction);

// The `port` label: a port number, or one of these, or kPortNamed and the position of a configured
// name.
using PortLabel = std::uint32_t;
inline constexpr PortLabel kPortEphemeral = 65536;  // in the ephemeral range, so no service's
inline constexpr PortLabel kPortUnknown = 65537;    // the kernel withheld it
inline constexpr PortLabel kPortOther = 65538;      // over the bound on groups
inline constexpr PortLabel kPortNamed = 65539;

// Names of network namespaces are kept by the sampler; 0 where they are not grouped by.
using NetnsId = std::uint16_t;
inline constexpr NetnsId kNetnsOther = 1;  // over the bound on groups
inline constexpr NetnsId kNetnsHost = 2;   // the agent's own; the others follow

struct GroupKey {
  Direction direction = Direction::kInbound;
  PeerId peer = 0;
  CgroupLabel cgroup = kCgroupOff;
  PortLabel port = 0;
  NetnsId netns = 0;

  bool operator==(const GroupKey&) const = default;

  template <typename H>
  friend H AbslHashValue(H h, const GroupKey& k) {
    return H::combine(std::move(h), k.direction, k.peer, k.cgroup, k.port, k.netns);
  }
};

// Why a connection attempt never became a connection.
enum class ConnectFailure : std::uint8_t {
  kRefused,     // the peer answered, with a reset
  kUnanswered,  // no TCP segment came back
  kUnknown,     // the kernel cleared the evidence, or does not return it
};
inline constexpr std::size_t kConnectFailures = 3;
inline constexpr std::array<std::string_view, kConnectFailures> kConnectFailureNames{
    "refused", "unanswered", "unknown"};
std::string_view to_string(ConnectFailure reason);

// How a connection ended, as far as its last tcp_info tells.
enum class ConnectionEnd : std::uint8_t {
  kOrderly,  // the peer acknowledged our FIN
  kReset,    // it did not: a reset by either side, or a close with data unread
  kTimeout,  // the peer no longer acknowledged: repeats or probes were unanswered at the end
  kAborted,  // the kernel disconnected the socket and cleared the counters first
  kUnknown,  // no event came, or this kernel does not tell
};
inline constexpr std::size_t kConnectionEnds = 5;
inline constexpr std::array<std::string_view, kConnectionEnds> kConnectionEndNames{
    "orderly", "reset", "timeout", "aborted", "unknown"};
std::string_view to_string(ConnectionEnd end);

// Totals never fall. Times in microseconds, sizes in bytes.
struct GroupStats : TcpTotals {
  std::uint64_t opened = 0;                             // connections that were established
  std::array<std::uint64_t, kConnectionEnds> closed{};  // of those, and of at_start

  // Established before tracking began, plus those that a new configuration brought here, less those
  // it took away: opened - closed + at_start = live.
  std::int64_t at_start = 0;
  std::array<std::uint64_t, kConnectFailures> failures{};

  // SYNs and SYN-ACKs sent, with retransmitted_syns: the denominator of those.
  std::uint64_t syns_sent = 0;

  // Tracked connections and attempts by state, now: moves with every row and event.
  std::array<std::uint32_t, kTcpStates> connections{};

  // What the rows of the last complete dump add up to, besides what is tracked.
  struct LastDump {
    std::uint32_t fin_wait2 = 0;          // closed by us and not yet by the peer, without counters
    std::uint32_t time_wait = 0;          // no longer connections, without counters
    std::uint32_t syn_received = 0;       // not yet connections, without counters
    std::uint32_t close_wait_oldest = 0;  // seconds
    std::uint32_t close_wait_old = 0;     // as many are older than the threshold
    std::uint32_t ephemeral_ports = 0;    // of ours, to the destination that has most of them
    std::uint64_t send_queue_bytes = 0;
    std::uint64_t receive_queue_bytes = 0;

    // Sockets that are no longer connections, or not yet.
    bool has_leftovers() const { return time_wait > 0 || fin_wait2 > 0 || syn_received > 0; }
  };
  LastDump last_dump;

  std::uint64_t closes() const;

  // Whether a connection of it was ever established: attempts alone make no service.
  bool had_connection() const { return opened > 0 || at_start != 0 || closes() > 0; }
};

using GroupId = std::uint16_t;

// Bounded so that failures starve no service: groups of attempts only, in which no connection was
// ever established, have a quarter of the places; they make room for groups with connections, and
// leave soon. A group without sockets leaves after a while; should it come back, it begins at zero.
// Not thread-safe: the sampler's thread only.
class GroupTable {
 public:
  struct Group {
    GroupKey key;
    GroupStats stats;
    std::uint32_t references = 0;  // tracked connections, vanished ones included
    TimePoint idle_since;
    std::uint64_t asked = 0;  // number of the request that found it last
    bool touched = false;     // asked for since the last look for idle ones that found it idle
    bool named = false;       // in the table by its key: found by it, and shown
    bool attempts = false;    // of attempts only, at the last look or when it was made
  };

  // `max_groups` does not count the few that `other` needs, one for each direction and peer group,
  // nor groups whose port has a configured name: a flood of ports cannot displace those.
  explicit GroupTable(std::size_t max_groups) : max_groups_(max_groups) {}

  // What a group is asked for: a connection that is or was established, or an attempt.
  enum class For { kConnection, kAttempt };
  static For wanted(bool connected) { return connected ? For::kConnection : For::kAttempt; }

  GroupId find_or_add(const GroupKey& key, For what = For::kConnection);

  GroupStats& operator[](GroupId id) { return groups_[id].stats; }

  // A tracked connection that belongs to `id` came or went.
  void retain(GroupId id) { ++groups_[id].references; }
  void release(GroupId id);

  // What the rows of the running dump add up to; end_dump() makes that the groups' last_dump.
  void begin_dump();
  GroupStats::LastDump& dump(GroupId id) { return dump_[id]; }
  void end_dump();
  // The running dump leaves that network namespace out: what the last one told of it stays.
  void keep_dump(NetnsId netns);
  // No dump tells of that network namespace any more: it is gone, and so are its sockets.
  void clear_dump(NetnsId netns);

  // Lets go of groups that had no socket for `idle`, or, of attempts only, for kAttemptsIdle.
  void forget_idle(TimePoint now, Clock::duration idle);
  static constexpr auto kAttemptsIdle = std::chrono::minutes(5);

  // Gives every group the key that `rekey` makes of its own: nothing, if no group is like it any
  // more. Such a group is no longer shown, and goes with its last connection.
  template <typename Rekey>
  void rekey(const Rekey& rekey);

  // By id, with holes where `named` is false.
  const std::vector<Group>& groups() const { return groups_; }
  std::size_t size() const { return ids_.size(); }
  bool uses_cgroup(CgroupLabel label) const;
  bool uses_netns(NetnsId id) const;
  std::size_t limit() const { return max_groups_; }
  void set_limit(std::size_t max_groups) { max_groups_ = max_groups; }

  // How often a socket was counted in `other` because there was no room for its group.
  std::uint64_t overflowed() const { return overflowed_; }

  // Groups that left.
  std::uint64_t forgotten() const { return forgotten_; }

 private:
  static bool counts(const GroupKey& key) {
    return key.port < kPortOther || (key.port >= kPortNamed && (key.cgroup != 0 || key.netns != 0));
  }
  GroupId add(const GroupKey& key, bool attempts);
  bool make_room(For what);
  bool displace_attempts();
  void remove(GroupId id);
  void free(GroupId id);

  std::size_t max_groups_;
  std::size_t counted_ = 0;         // groups that max_groups_ bounds
  std::size_t attempts_only_ = 0;   // of those, since the last look
  std::size_t attempts_added_ = 0;  // of those, in the hour that runs: as many as max_groups_
  std::uint64_t asked_ = 0;         // requests
  TimePoint hour_start_{};
  std::uint64_t overflowed_ = 0;
  std::uint64_t forgotten_ = 0;
  absl::flat_hash_map<GroupKey, GroupId> ids_;
  std::vector<Group> groups_;
  std::vector<GroupId> free_;
  std::vector<GroupStats::LastDump> dump_;
};

template <typename Rekey>
void GroupTable::rekey(const Rekey& rekey) {
  ids_.clear();
  counted_ = attempts_only_ = 0;
  for (std::size_t i = 0; i < groups_.size(); ++i) {
    Group& group = groups_[i];
    if (!group.named) continue;
    const auto key = rekey(group.key);
    const auto id = static_cast<GroupId>(i);
    group.named = key && ids_.emplace(*key, id).second;
    if (group.named) {
      group.key = *key;
      counted_ += counts(*key) ? 1 : 0;
      group.attempts = counts(*key) && !group.stats.had_connection();
      attempts_only_ += group.attempts ? 1 : 0;
    } else if (group.references == 0) {
      free(id);
    }
  }
}

}  // namespace tcpvitals
