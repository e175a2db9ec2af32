// What the embedded server knows about itself: totals per listener, and its worst connections.
//
// Plain values. A worker writes its own without locks; what leaves it is a copy.
#pragma once

#include <algorithm>
#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "base/clock.h"
#include "collectors/histogram.h"
#include "server/vitals.h"

namespace tcpvitals {

// Why a connection closed; the values of label `cause`.
enum class CloseCause : std::uint8_t {
  kPeerFin,         // the peer ended its stream, and has acknowledged everything and our end
  kUnacknowledged,  // it ended its stream, but did not acknowledge: the counters are not final
  kPeerRst,
  kTimeout,   // the kernel gave up on a peer that no longer answers
  kError,     // any other error of the socket
  kShutdown,  // the server stopped
};
inline constexpr std::array<std::string_view, 6> kCloseCauses{
    "peer_fin", "unacknowledged", "peer_rst", "timeout", "error", "shutdown"};

// Why a listener stopped accepting for a moment; the values of label `reason`.
enum class PauseReason : std::uint8_t {
  kLimit,        // as many connections as it may have
  kDescriptors,  // the process or the host has none left
  kError,        // accept failed otherwise, most likely for want of memory
};
inline constexpr std::array<std::string_view, 3> kPauseReasons{"limit", "descriptors", "error"};

// How long connections lived: 1 ms to 10,000 s.
using LifetimeHistogram = Histogram125<1'000, 10'000'000'000>;

struct ListenerStatistics {
  std::uint64_t accepted = 0;
  std::array<std::uint64_t, kCloseCauses.size()> closed{};   // by CloseCause
  std::array<std::uint64_t, kPauseReasons.size()> pauses{};  // by PauseReason
  std::uint64_t output_buffer_bytes = 0;                     // held now, while writes are blocked
  TcpTotals tcp;
  LifetimeHistogram lifetime;

  // Of one worker, or of all together: every close follows its accept on the same worker.
  std::uint64_t live() const {
    return accepted - std::accumulate(closed.begin(), closed.end(), std::uint64_t{0});
  }

  ListenerStatistics& operator+=(const ListenerStatistics& other) {
    accepted += other.accepted;
    for (std::size_t i = 0; i < closed.size(); ++i) closed[i] += other.closed[i];
    for (std::size_t i = 0; i < pauses.size(); ++i) pauses[i] += other.pauses[i];
    output_buffer_bytes += other.output_buffer_bytes;
    tcp += other.tcp;
    lifetime += other.lifetime;
    return *this;
  }
};

struct ConnectionReport {
  std::uint64_t id;
  std::size_t listener;  // index
  Clock::duration age;
  ConnectionVitals vitals;
};

// The order in which connections are worth a look: worst retransmit ratio first, then slowest RTT,
// then the oldest. For anything with `vitals` and `id`.
template <typename T>
bool worse(const T& a, const T& b) {
  const double ratio_a = a.vitals.retransmit_ratio();
  const double ratio_b = b.vitals.retransmit_ratio();
  return std::tie(ratio_b, b.vitals.rtt_us, a.id) < std::tie(ratio_a, a.vitals.rtt_us, b.id);
}

// One worker's account of itself.
struct WorkerReport {
  std::vector<ListenerStatistics> listeners;  // by listener index
  std::vector<ConnectionReport> connections;  // its worst, not sorted
};

struct ListenerReport {
  std::string name;
  std::uint32_t limit;  // connections
  ListenerStatistics statistics;
};

// The whole server at one moment.
struct ServerSnapshot {
  std::vector<ListenerReport> listeners;
  std::vector<ConnectionReport> connections;  // the worst first
  std::size_t tcp_info_length = 0;            // bytes this kernel returns: what it lacks is absent
};

}  // namespace tcpvitals
