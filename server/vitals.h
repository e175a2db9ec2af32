// ConnectionVitals: what TCP_INFO last said about one connection, and TcpTotals, the sums that many
// connections add their differences to.
//
// Plain values: one thread at a time, no allocation, no failure. A total moves by the difference to
// the value last seen, wrapping as the kernel's counter wraps, and never falls. A field that the
// kernel does not return reads as zero and so adds nothing; whether it was returned is asked once,
// of the length of a sample, by whoever shows the totals.
#pragma once

#include <cstdint>
#include <optional>

#include "collectors/histogram.h"
#include "collectors/sock_diag/tcp_info.h"

namespace tcpvitals {

// The TCP_INFO of a socket at this moment: one system call, 1 to 2 us. Empty only if `fd` is no TCP
// socket.
std::optional<TcpInfoSample> tcp_info_of(int fd);

struct TcpTotals {
  std::uint64_t sent_bytes = 0;      // payload, retransmissions included
  std::uint64_t received_bytes = 0;  // payload
  std::uint64_t retransmitted_bytes = 0;
  std::uint64_t data_segments_sent = 0;  // retransmissions included
  std::uint64_t retransmitted_segments = 0;
  std::uint64_t spurious_retransmissions = 0;
  std::uint64_t retransmission_timeouts = 0;
  RttHistogram rtt;      // see ConnectionVitals::update
  RttHistogram min_rtt;  // one observation a connection, when it closes

  TcpTotals& operator+=(const TcpTotals& other);
};

struct ConnectionVitals {
  // Reads the socket's TCP_INFO (twice if bytes came in since it last did) and takes it in. The
  // state of the connection, as the kernel numbers it.
  std::uint8_t sample(int fd, TcpTotals& totals);

  // Takes in what was read. The smoothed RTT is observed only if data was acknowledged since it
  // last was: a connection that stands still does not freeze the histogram.
  void update(const TcpInfo& info, TcpTotals& totals);

  // The connection ends with what was last seen: observes the minimum RTT, and the RTT if it never
  // was observed.
  void finish(TcpTotals& totals);

  // The share of data segments that were repeats: 0 when none was sent.
  double retransmit_ratio() const;
  bool has_min_rtt() const { return min_rtt_us != 0 && min_rtt_us != kNoRtt; }

  std::uint64_t sent_bytes = 0;
  std::uint64_t received_bytes = 0;
  std::uint64_t retransmitted_bytes = 0;
  std::uint64_t observed_acked_bytes = 0;  // acknowledged when the RTT was last observed
  std::uint32_t data_segments_sent = 0;
  std::uint32_t retransmitted_segments = 0;
  std::uint32_t spurious_retransmissions = 0;
  std::uint32_t rtt_us = 0;
  std::uint32_t min_rtt_us = kNoRtt;
  std::uint16_t retransmission_timeouts = 0;
  bool rtt_observed = false;
  bool peer_fin =
      false;  // the peer's FIN came: set by update, or by who read the end of the stream
};

}  // namespace tcpvitals
