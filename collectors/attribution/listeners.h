// ListenerTable: who listens on this host, how full their queues are, and so which connections are
// inbound.
//
// Rebuilt from a listener-only dump every 100 ms (0.01 ms each: listeners live in a table of their
// own in the kernel). A listener that closed is remembered for a minute, because its connections'
// DESTROY events may come after it. Not thread-safe: the sampler's thread only.
#pragma once

#include <array>
#include <bitset>
#include <cstdint>
#include <vector>

#include "base/clock.h"
#include "base/ip.h"
#include "collectors/sock_diag/inet_diag.h"

namespace tcpvitals {

// One listening address and port. Sockets that share it (SO_REUSEPORT) are one: their queues and
// limits are added up.
struct Listener {
  Endpoint endpoint;
  bool takes_v4 = false;
  bool takes_v6 = false;
  std::uint32_t queue_length = 0;  // connections waiting for accept
  std::uint32_t queue_limit = 0;   // the backlog, as the kernel granted it
  std::uint32_t queue_peak = 0;    // highest queue_length seen in the last minute
  std::uint64_t queue_full = 0;    // times that queue_length was found at queue_limit or above
  std::uint64_t cgroup_id = 0;     // of the socket seen last; 0: the kernel did not say

  bool accepts(const IpAddress& local, std::uint16_t port) const;
};

class ListenerTable {
 public:
  // Takes one listener dump: begin, add every row, then commit. A dump that failed half-way is
  // never committed, and the table stays as it was.
  void begin();
  void add(const SocketRow& row);
  void commit(TimePoint now);

  // A socket that closed while it had a local port and no peer: it was, most likely, a listener
  // that lived between two dumps.
  void closed(const SocketRow& event, TimePoint now);

  // Whether a connection whose local end is `local`:`port` came in through a listener.
  bool inbound(const IpAddress& local, std::uint16_t port) const;

  // The cgroup of the listener that such a connection came in through; 0: not known.
  std::uint64_t cgroup_id(const IpAddress& local, std::uint16_t port) const;

  // The open ones, in the order of port and address.
  std::vector<Listener> open() const;

 private:
  static constexpr auto kRemembered = std::chrono::seconds(60);
  static constexpr auto kPeakSlot = std::chrono::seconds(5);
  static constexpr std::size_t kPeakSlots = 12;  // a minute
  static constexpr std::size_t kMaxClosed =
      4096;  // remembered; open ones have no bound but the host's

  struct Entry {
    Listener listener;
    bool open = false;
    bool seen = false;  // in the dump that is being taken; so are the next two
    std::uint32_t seen_length = 0;
    std::uint32_t seen_limit = 0;
    TimePoint last_open;
    std::array<std::uint32_t, kPeakSlots> peaks{};
  };

  static bool by_port_first(const Entry& e, const Endpoint& wanted);
  Entry& find_or_add(const SocketRow& row);
  const Listener* find(const IpAddress& local, std::uint16_t port) const;
  void rotate_peaks(TimePoint now);

  std::vector<Entry> entries_;  // by port, then address, ascending
  std::bitset<65536> ports_;    // of entries_: where most lookups end
  TimePoint slot_start_{};
  std::size_t slot_ = 0;
};

}  // namespace tcpvitals
