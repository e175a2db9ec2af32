// ListenerTable: who listens in a network namespace, how full the accept queues are, and so which
// connections are inbound.
//
// Rebuilt from a listener-only dump (0.01 ms with few listeners: they live in a table of their own
// in the kernel). A listener that closed is remembered for a minute, because its connections'
// DESTROY events may come after it. The kernel shows the same listeners in the same order each
// time, so most rows are found without a lookup: in the place that they had in the last dump.
// Not thread-safe: the sampler's thread only.
#pragma once

#include <absl/container/flat_hash_map.h>

#include <array>
#include <bitset>
#include <cstdint>
#include <deque>
#include <vector>

#include "base/clock.h"
#include "base/ip.h"
#include "collectors/sock_diag/inet_diag.h"

namespace tcpvitals {

// The accept queue of one listening socket.
struct AcceptQueue {
  std::uint32_t length = 0;  // connections waiting for accept
  std::uint32_t limit = 0;   // the backlog, as the kernel granted it; it takes one more

  // What comes now is dropped.
  bool full() const { return length > limit; }

  // At least half of what it takes.
  bool half_full() const { return 2 * std::uint64_t{length} > limit; }

  // By the share of what it takes; of equal ones the smaller is fuller, for it fills up first.
  bool fuller_than(const AcceptQueue& other) const;

  bool operator==(const AcceptQueue&) const = default;
};

// One listening address and port. Several sockets may share it (SO_REUSEPORT, or one for each
// device): each has a queue of its own, and the fullest one is told.
struct Listener {
  Endpoint endpoint;
  bool takes_v4 = false;
  bool takes_v6 = false;
  std::uint32_t sockets = 0;     // that listen on it
  AcceptQueue queue;             // of the fullest socket now
  AcceptQueue peak;              // of the fullest socket in the last minute
  std::uint64_t queue_full = 0;  // full queues of its sockets, over all looks; never falls
  std::uint64_t cgroup_id = 0;   // of the socket seen last; 0: the kernel did not say

  // What one label set stands for, if several listeners have it.
  Listener& operator+=(const Listener& other);
};

class ListenerTable {
 public:
  // Why a dump was taken: at the regular time, or to settle a direction. Only the first kind looks
  // for full queues, so that their number does not depend on the traffic.
  enum class Look { kRegular, kRefresh };

  // Takes one listener dump: begin, add every row, then commit. A dump that failed half-way is
  // never committed, and the table stays as it was.
  void begin();
  void add(const SocketRow& row);
  void commit(TimePoint now, Look look = Look::kRegular);

  // A socket closed while it had a local port and no peer. It was a listener, or it was only bound:
  // the kernel's event is the same, byte by byte. A listener that no dump ever showed can be told
  // by nothing else.
  void closed(const SocketRow& event, TimePoint now);

  // Whether a dump showed a listener that accepts connections to `local`:`port`, now or in the last
  // minute.
  bool listens(const IpAddress& local, std::uint16_t port) const;

  // Whether such a listener may have lived between two dumps of the last minute.
  bool may_have_listened(const IpAddress& local, std::uint16_t port) const;

  // The cgroup of the listener that accepts connections to `local`:`port`; 0: not known.
  std::uint64_t cgroup_id(const IpAddress& local, std::uint16_t port) const;

  // The open ones, in the order of port and address.
  std::vector<Listener> open() const;

  // Addresses and ports that are remembered though nothing listens there any more.
  std::size_t remembered() const { return entries_.size() - open_ + brief_.size(); }

  static constexpr auto kRemembered = std::chrono::seconds(60);
  static constexpr std::size_t kMaxRemembered = 4096;  // of each kind; the host bounds open ones

 private:
  static constexpr auto kPeakSlot = std::chrono::seconds(5);
  static constexpr std::size_t kPeakSlots = 12;  // a minute

  struct Entry {
    Listener listener;
    bool open = false;
    std::uint32_t seen = 0;       // sockets in the dump that is being taken
    std::uint32_t seen_full = 0;  // of those
    AcceptQueue seen_queue;       // of the fullest
    TimePoint last_open;
    std::array<AcceptQueue, kPeakSlots> peaks{};
  };

  struct Brief {
    bool v4 = false;
    bool v6 = false;
    TimePoint closed;
  };

  struct EndpointHash {
    std::size_t operator()(const Endpoint& e) const {
      return absl::HashOf(e.address.bytes, e.port);
    }
  };

  std::uint32_t find_or_add(const Endpoint& endpoint);
  const Listener* find(const IpAddress& local, std::uint16_t port) const;
  void rotate_peaks(TimePoint now);
  void forget_closed(TimePoint now);

  std::vector<Entry> entries_;
  absl::flat_hash_map<Endpoint, std::uint32_t, EndpointHash> by_endpoint_;
  std::bitset<65536> ports_;  // of entries_: where most lookups end
  std::size_t open_ = 0;
  std::vector<std::uint32_t> order_;      // entries of the last complete dump, row by row
  std::vector<std::uint32_t> new_order_;  // of the running one
  absl::flat_hash_map<Endpoint, Brief, EndpointHash> brief_;  // may have listened
  std::deque<Endpoint> brief_order_;                          // oldest first
  TimePoint slot_start_{};
  std::size_t slot_ = 0;
};

}  // namespace tcpvitals
