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
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "base/clock.h"
#include "collectors/histogram.h"
#include "server/tls.h"
#include "server/vitals.h"

namespace tcpvitals {

// Why a connection closed; the values of label `cause`, and of `cause` in the audit log.
enum class CloseCause : std::uint8_t {
  kPeerFin,         // both ended their streams, and the peer has acknowledged everything
  kUnacknowledged,  // both ended, but the peer did not acknowledge: the counters are not final
  kPeerRst,
  kUserTimeout,       // the kernel gave up: what was sent was not acknowledged in time
  kKeepaliveDead,     // the kernel gave up: no keepalive probe was answered
  kIdleTimeout,       // Deadlines::idle
  kHandshakeTimeout,  // Deadlines::handshake
  kProxyTimeout,      // Deadlines::proxy_header
  kWriteStall,        // Deadlines::write_stall
  kLifetime,          // Deadlines::lifetime
  kTlsError,
  kTruncated,   // TLS: the peer ended without close_notify; a TCP end alone may be anybody's
  kProxyError,  // no PROXY header, or one that is not understood
  kDenied,      // the client that a PROXY header named may not connect, or too many handshakes; or
                // new lists, put in force by a reload, do not take the client any more
  kBackend,     // a relay's backend cannot be reached, or ended in disorder
  kHandler,     // the handler closed it, or wrote more than the peer takes
  kError,       // any other error of the socket
  kDrain,       // the server drained it
  kShutdown,    // the server stopped, or the time to drain a listener that was removed is over
};
inline constexpr std::array<std::string_view, 19> kCloseCauses{
    "peer_fin",       "unacknowledged", "peer_rst",          "user_timeout",
    "keepalive_dead", "idle_timeout",   "handshake_timeout", "proxy_timeout",
    "write_stall",    "lifetime",       "tls_error",         "truncated",
    "proxy_error",    "denied",         "backend",           "handler",
    "error",          "drain",          "shutdown"};

// Why a connection was refused before anything was read of it, or before its handshake; the values
// of label `reason`, and of `why` in the audit log.
enum class RejectReason : std::uint8_t {
  kAccess,          // the allow and deny lists
  kUntrustedProxy,  // only proxies may connect, and this is none of them
  kPeerConnections,
  kPeerRate,
  kAcceptRate,  // the hard limit
  kHandshakes,  // as many as may run at once
};
inline constexpr std::array<std::string_view, 6> kRejectReasons{
    "access", "untrusted_proxy", "peer_connections", "peer_rate", "accept_rate", "handshakes"};

// Why a listener stopped accepting for a moment; the values of label `reason`.
enum class PauseReason : std::uint8_t {
  kLimit,        // as many connections as it may have
  kDescriptors,  // the process or the host has none left
  kError,        // accept failed otherwise, most likely for want of memory
};
inline constexpr std::array<std::string_view, 3> kPauseReasons{"limit", "descriptors", "error"};

// How long connections lived: 1 ms to 10,000 s.
using LifetimeHistogram = Histogram125<1'000, 10'000'000'000>;
// How long TLS handshakes took: 100 us to 10 s.
using HandshakeHistogram = Histogram125<100, 10'000'000>;

struct ListenerStatistics {
  std::uint64_t accepted = 0;
  std::array<std::uint64_t, kCloseCauses.size()> closed{};      // by CloseCause
  std::array<std::uint64_t, kRejectReasons.size()> rejected{};  // by RejectReason
  std::array<std::uint64_t, kPauseReasons.size()> pauses{};     // by PauseReason
  std::array<std::uint64_t, kTlsOutcomes.size()> handshakes{};  // by TlsOutcome
  std::uint64_t backend_connections = 0;                        // that a relay made
  std::uint64_t backend_failures = 0;                           // that it could not make
  std::uint64_t output_buffer_bytes = 0;  // held now, while writes are blocked
  TcpTotals tcp;
  LifetimeHistogram lifetime;
  HandshakeHistogram handshake_time;

  // Of one worker, or of all together: every close follows its accept on the same worker.
  std::uint64_t live() const {
    return accepted - std::accumulate(closed.begin(), closed.end(), std::uint64_t{0});
  }

  ListenerStatistics& operator+=(const ListenerStatistics& other) {
    const auto add = [](auto& to, const auto& from) {
      for (std::size_t i = 0; i < to.size(); ++i) to[i] += from[i];
    };
    accepted += other.accepted;
    add(closed, other.closed);
    add(rejected, other.rejected);
    add(pauses, other.pauses);
    add(handshakes, other.handshakes);
    backend_connections += other.backend_connections;
    backend_failures += other.backend_failures;
    output_buffer_bytes += other.output_buffer_bytes;
    tcp += other.tcp;
    lifetime += other.lifetime;
    handshake_time += other.handshake_time;
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

// What a listener's workers share, at one moment.
struct ListenerGauges {
  std::uint32_t limit = 0;        // connections
  std::uint32_t accept_peak = 0;  // the most in one second of the last minute
  std::uint64_t accept_soft_limit_seconds = 0;
  bool connects = false;                     // to a backend: a relay, or a handler of one's own
  std::optional<std::size_t> limited_peers;  // that per_peer limits count now; absent without
  std::uint64_t unlimited_peers = 0;         // admitted uncounted, for there was no room
  std::optional<TlsStoreStatistics> tls;
};

// One worker's account of itself.
struct WorkerReport {
  std::vector<ListenerStatistics> listeners;  // by listener index
  // Those that have series of their own, its worst, and its worst that may get them; not sorted.
  std::vector<ConnectionReport> connections;
};

struct ListenerReport {
  std::string name;
  ListenerGauges gauges;
  ListenerStatistics statistics;
  std::vector<std::uint64_t> live_by_worker;
};

// The whole server at one moment.
struct ServerSnapshot {
  std::vector<ListenerReport> listeners;
  std::vector<ConnectionReport> connections;  // the worst now, the worst first
  std::vector<ConnectionReport> series;       // those that have series of their own, likewise
  std::size_t tcp_info_length = 0;            // bytes this kernel returns: what it lacks is absent
};

}  // namespace tcpvitals
