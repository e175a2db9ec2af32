#include "server/vitals.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>

namespace tcpvitals {

std::optional<TcpInfoSample> tcp_info_of(int fd) {
  TcpInfoSample sample{.info = {.min_rtt_us = kNoRtt}, .length = 0};
  socklen_t length = sizeof sample.info;
  if (::getsockopt(fd, IPPROTO_TCP, TCP_INFO, &sample.info, &length) != 0) return std::nullopt;
  sample.length = length;
  return sample;
}

// A byte that came is held back until another look finds the connection still open, so that one
// answers at once.
std::uint8_t ConnectionVitals::sample(int fd, TcpTotals& totals) {
  constexpr int kLooks = 4;
  for (int i = 0; i < kLooks; ++i) {
    const auto now = tcp_info_of(fd);
    if (!now) return TCP_CLOSE;
    update(*now, Clock::now(), totals);
    if (!byte_held || peer_fin) break;
  }
  return static_cast<std::uint8_t>(state);
}

void ConnectionVitals::update(const TcpInfoSample& sample, TimePoint now, TcpTotals& totals) {
  const std::uint64_t syns = totals.retransmitted_syns;
  look(sample, static_cast<TcpState>(sample.info.state), path_interval(now), totals);
  retransmitted_syns += static_cast<std::uint32_t>(totals.retransmitted_syns - syns);
  rtt_us = sample.info.rtt_us;
  min_rtt_us = sample.info.min_rtt_us;
}

void ConnectionVitals::finish(int fd, TcpTotals& totals) {
  if (const auto last = tcp_info_of(fd)) finish(*last, totals);
}

void ConnectionVitals::finish(const TcpInfoSample& last, TcpTotals& totals) {
  const std::uint64_t syns = totals.retransmitted_syns;
  TcpMeter::finish(last, totals);
  retransmitted_syns += static_cast<std::uint32_t>(totals.retransmitted_syns - syns);
  rtt_us = last.info.rtt_us;
  min_rtt_us = last.info.min_rtt_us;
}

// A FIN without data is retransmitted too, and is no data segment.
double ConnectionVitals::retransmit_ratio() const {
  if (data_segments_sent == 0) return 0;
  const std::uint32_t data = retransmitted_segments - retransmitted_syns;
  return std::min(1.0, double(data) / double(data_segments_sent));
}

}  // namespace tcpvitals
