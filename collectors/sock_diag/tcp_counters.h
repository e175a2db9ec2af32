// The counters of TCP: one table, from which the tracker, the totals of groups and of the embedded
// server's listeners, their metrics and the tests are made. A new counter is one row of it.
//
// A row:  member of TcpInfo, the kernel's name, total, unit, metric, label `by`, HELP
//   total     the name of the sum in TcpTotals
//   unit      what one is worth in the metric's base unit
//   metric    P is "tcp_" for groups of connections and "tcp_server_" for the embedded server
//   `by`      the value of that label, where one metric has several rows; they follow each other,
//             and the HELP of the first stands for all
// Rows stand in the order of their width, the widest first, so that a record of them has no holes.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "collectors/histogram.h"
#include "collectors/sock_diag/tcp_info.h"

// clang-format off
#define TCPVITALS_TCP_COUNTERS(X, P)                                                               \
  X(bytes_sent, "tcpi_bytes_sent", sent_bytes, 1, P "sent_bytes_total", "",                        \
    "Payload bytes sent, retransmissions included.")                                               \
  X(bytes_retransmitted, "tcpi_bytes_retrans", retransmitted_bytes, 1,                             \
    P "retransmitted_bytes_total", "",                                                             \
    "Payload bytes retransmitted; divide by " P "sent_bytes_total.")                               \
  X(bytes_received, "tcpi_bytes_received", received_bytes, 1, P "received_bytes_total", "",        \
    "Payload bytes received in order; the byte that the kernel counts for the peer's FIN is "      \
    "taken off.")                                                                                  \
  X(busy_us, "tcpi_busy_time", busy_us, 1e-6, P "busy_seconds_total", "",                          \
    "Time that connections had data outstanding, summed over connections: the denominator of "     \
    P "limited_seconds_total. A sender that is rarely busy waits for its application.")            \
  X(receive_window_limited_us, "tcpi_rwnd_limited, tcpi_sndbuf_limited",                           \
    receive_window_limited_us, 1e-6, P "limited_seconds_total", "receive_window",                  \
    "Part of " P "busy_seconds_total in which sending waited for the peer's receive window or "    \
    "for our own send buffer. receive_window near busy: the peer's application reads too slowly. " \
    "send_buffer near busy: our buffer is too small for the path. Neither: the network is the "    \
    "limit.")                                                                                      \
  X(send_buffer_limited_us, "tcpi_sndbuf_limited", send_buffer_limited_us, 1e-6,                   \
    P "limited_seconds_total", "send_buffer", "")                                                  \
  X(total_retrans, "tcpi_total_retrans", retransmitted_segments, 1,                                \
    P "retransmitted_segments_total", "",                                                          \
    "Segments retransmitted, " P "retransmitted_syns_total included. The share of data segments "  \
    "that were repeats is (this - " P "retransmitted_syns_total) / "                               \
    P "data_segments_sent_total.")                                                                 \
  X(data_segs_out, "tcpi_data_segs_out", data_segments_sent, 1, P "data_segments_sent_total", "",  \
    "Segments with data sent, retransmissions included: the denominator of "                       \
    P "retransmitted_segments_total less " P "retransmitted_syns_total.")                          \
  X(dsack_dups, "tcpi_dsack_dups", spurious_retransmissions, 1,                                    \
    P "spurious_retransmissions_total", "",                                                        \
    "Retransmissions that the peer reported as unneeded (DSACK): part of "                         \
    P "retransmitted_segments_total that was no loss.")                                            \
  X(delivered, "tcpi_delivered", delivered_segments, 1, P "delivered_segments_total", "",          \
    "Segments that the peer acknowledged, selectively or not: the denominator of "                 \
    P "ce_marked_segments_total.")                                                                 \
  X(delivered_ce, "tcpi_delivered_ce", ce_marked_segments, 1, P "ce_marked_segments_total", "",    \
    "Delivered segments that met congestion on the way (ECN CE mark echoed by the peer).")         \
  X(reordering_seen, "tcpi_reord_seen", reordering_events, 1, P "reordering_events_total", "",     \
    "Times that reordering on the path was detected.")                                             \
  X(rcv_ooopack, "tcpi_rcv_ooopack", out_of_order_segments, 1,                                     \
    P "out_of_order_segments_total", "",                                                           \
    "Segments received out of order: lost or reordered on the way to us.")                         \
  X(total_rto, "tcpi_total_rto", retransmission_timeouts, 1, P "retransmission_timeouts_total",    \
    "", "Retransmission timeouts (RTO): losses that no acknowledgement revealed, each a stall.")
// clang-format on

namespace tcpvitals {

// A u64 of 4-byte alignment: a record of many of them has no holes.
class PackedU64 {
 public:
  PackedU64() = default;
  PackedU64& operator=(std::uint64_t v) {
    std::memcpy(halves_.data(), &v, sizeof v);
    return *this;
  }
  operator std::uint64_t() const {  // NOLINT(google-explicit-constructor): it is a number
    std::uint64_t v = 0;
    std::memcpy(&v, halves_.data(), sizeof v);
    return v;
  }
  bool operator==(const PackedU64&) const = default;

 private:
  std::array<std::uint32_t, 2> halves_{};
};

// The kernel's counters of one connection, each as wide as the kernel keeps it.
struct TcpCounters {
  template <typename T>
  using Kept = std::conditional_t<sizeof(T) == sizeof(PackedU64), PackedU64, T>;

#define X(member, kernel, total, ...) Kept<decltype(TcpInfo::member)> total{};
  TCPVITALS_TCP_COUNTERS(X, )
#undef X

  bool operator==(const TcpCounters&) const = default;
};

inline TcpCounters read_counters(const TcpInfo& info) {
  TcpCounters counters;
#define X(member, kernel, total, ...) counters.total = info.member;
  TCPVITALS_TCP_COUNTERS(X, )
#undef X
  return counters;
}

// Sums over many connections. They never fall.
struct TcpTotals {
#define X(member, kernel, total, ...) std::uint64_t total = 0;
  TCPVITALS_TCP_COUNTERS(X, )
#undef X

  // Part of retransmitted_segments without data: SYNs and SYN-ACKs, and FINs, which cannot be told
  // from them in what the kernel returns.
  std::uint64_t retransmitted_syns = 0;

  RttHistogram rtt;             // smoothed; see TcpMeter
  RttHistogram min_rtt;         // one observation a connection, at its close
  RateHistogram delivery_rate;  // observed with rtt, where the application had more to send

  TcpTotals& operator+=(const TcpTotals& other);
};

// Moves `totals` by what the counters rose from `before` to `now`, and `before` to `now`. Counters
// of 32 and 16 bits wrap in the kernel. Of 64 bits are bytes, which do not fall, and times, which
// are estimates while a period runs and may step back a little: they count when they are beyond
// what they were.
void advance(TcpCounters& before, const TcpCounters& now, TcpTotals& totals);

// A row of the table, to loop over.
struct TcpCounterRow {
  std::string_view metric;
  std::string_view help;  // of a metric's first row
  std::string_view source;
  std::string_view by;
  double unit;
  std::uint32_t needs;  // bytes of tcp_info that the kernel must return, or the counter is absent
  std::string_view name;
  std::uint64_t TcpTotals::*total;
};

#define TCPVITALS_COUNTER_ROW(member, kernel, total, unit, metric, by, help) \
  TcpCounterRow{metric, help,                                                \
                kernel, by,                                                  \
                unit,   offsetof(TcpInfo, member) + sizeof(TcpInfo::member), \
                #total, &TcpTotals::total},
inline constexpr TcpCounterRow kTcpCounters[] = {
    TCPVITALS_TCP_COUNTERS(TCPVITALS_COUNTER_ROW, "tcp_")};
inline constexpr TcpCounterRow kServerTcpCounters[] = {
    TCPVITALS_TCP_COUNTERS(TCPVITALS_COUNTER_ROW, "tcp_server_")};
#undef TCPVITALS_COUNTER_ROW

}  // namespace tcpvitals
