// ConnectionVitals: the meter of one connection of ours (collectors/sock_diag/tcp_meter.h), and
// what its TCP_INFO last said besides. TcpTotals are the sums that many connections add up to.
//
// Plain values: one thread at a time, no allocation, no failure. A field that the kernel does not
// return reads as zero and so adds nothing; whoever shows the totals asks the length of a sample
// whether it was returned.
#pragma once

#include <cstdint>
#include <optional>

#include "base/clock.h"
#include "collectors/sock_diag/tcp_info.h"
#include "collectors/sock_diag/tcp_meter.h"

namespace tcpvitals {

// The TCP_INFO of a socket at this moment: one system call, 1 to 2 us. Empty only if `fd` is no TCP
// socket.
std::optional<TcpInfoSample> tcp_info_of(int fd);

struct ConnectionVitals : TcpMeter {
  // Reads the socket's TCP_INFO (again if bytes came in, until the state stands still) and takes it
  // in. The state of the connection, as the kernel numbers it.
  std::uint8_t sample(int fd, TcpTotals& totals);

  // Takes in what was read.
  void update(const TcpInfoSample& sample, TimePoint now, TcpTotals& totals);

  // The connection ends: reads TCP_INFO a last time, and takes it in by TcpMeter::finish().
  void finish(int fd, TcpTotals& totals);
  void finish(const TcpInfoSample& last, TcpTotals& totals);

  // The share of data segments that were repeats: 0 when none was sent.
  double retransmit_ratio() const;
  bool has_min_rtt() const { return min_rtt_us != 0 && min_rtt_us != kNoRtt; }

  std::uint32_t rtt_us = 0;
  std::uint32_t min_rtt_us = kNoRtt;
  std::uint32_t retransmitted_syns = 0;  // of retransmitted_segments: without data
};

}  // namespace tcpvitals
