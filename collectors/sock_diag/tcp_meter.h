// TcpMeter: what was last seen of one connection's counters, and the rules by which the next look
// moves the totals. One engine for the tracker, which looks by dumps and events, and for the
// embedded server, which asks its own sockets.
//
//   counters       move the totals by the difference to the value last seen
//   the FIN        The kernel counts the peer's FIN as a received byte, and reads the state before
//                  the counters. So the last byte that came is held back until the next look finds
//                  the connection still open: then it was data. At the end the peer's FIN is taken
//                  off where one came, or may have come: on kernels before 4.19, which do not
//                  return bytes_sent, an end does not tell.
//   SYNs           What was retransmitted without data was a SYN, a SYN-ACK or a FIN. Of what was
//                  retransmitted while bytes were, no more were data segments than were sent.
//   RTT, rate      observed when data was acknowledged since the last observation (two bytes: one
//                  may be a SYN or a FIN), at most once in an interval of ten seconds however often
//                  one looks; and at the close, if data was acknowledged since or none ever was.
//   minimum RTT    observed once, at the close
//
// Plain values: one thread at a time, no allocation, no failure.
#pragma once

#include <cstdint>

#include "base/clock.h"
#include "collectors/sock_diag/inet_diag.h"
#include "collectors/sock_diag/tcp_counters.h"

namespace tcpvitals {

// Low bits of the number of the interval in which a path is observed once.
using PathInterval = std::uint8_t;
inline PathInterval path_interval(TimePoint now) {
  return static_cast<PathInterval>(now.time_since_epoch() / std::chrono::seconds(10));
}

// States that are entered by the peer's FIN.
constexpr bool fin_received(TcpState state) {
  return state == TcpState::kCloseWait || state == TcpState::kLastAck ||
         state == TcpState::kClosing || state == TcpState::kTimeWait;
}

// Whether our FIN was acknowledged: of all that is acknowledged, SYN and FIN count as a byte each,
// retransmitted data counts once. Only an orderly close gets there. Kernels before 4.19 do not
// tell.
enum class FinAcknowledged : std::uint8_t { kNo, kYes, kNotTold };
FinAcknowledged fin_acknowledged(const TcpInfoSample& sample, bool outbound);

struct TcpMeter : TcpCounters {
  // The path was observed last in this one, if at all.
  PathInterval observed_in : 8 = 0;
  TcpState state : 4 = TcpState::kClose;  // last seen
  bool outbound : 1 = false;              // we connected
  bool rtt_observed : 1 = false;
  bool byte_held : 1 = false;
  bool peer_fin : 1 = false;      // for who reads the stream: its end was read
  std::uint32_t acked_bytes = 0;  // low half of bytes_acked at the last observation

  // What was before is not counted.
  void start(const TcpInfo& info, TcpState now);

  // A look at a connection that lives.
  void look(const TcpInfoSample& sample, TcpState now, PathInterval interval, TcpTotals& totals);

  // The last look: the connection has ended with these counters.
  void finish(const TcpInfoSample& sample, TcpTotals& totals);

  // The counters alone; `fin_bytes` of what was received are no data.
  void count(const TcpInfo& info, std::uint64_t fin_bytes, TcpTotals& totals);

 private:
  void observe_path(const TcpInfo& info, bool of_data, TcpTotals& totals);
};

}  // namespace tcpvitals
