#include "server/vitals.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>

namespace tcpvitals {
namespace {

bool after_peer_fin(std::uint8_t state) {
  return state == TCP_CLOSE_WAIT || state == TCP_LAST_ACK || state == TCP_CLOSING ||
         state == TCP_TIME_WAIT;
}

bool after_acked_fin(std::uint8_t state) {
  return state == TCP_FIN_WAIT2 || state == TCP_TIME_WAIT || state == TCP_CLOSE;
}

// The unsigned difference is right across a wrap of the kernel's counter, whatever its width.
template <typename T>
void advance(T& last, T now, std::uint64_t& total) {
  total += static_cast<T>(now - last);
  last = now;
}

}  // namespace

std::optional<TcpInfoSample> tcp_info_of(int fd) {
  TcpInfoSample sample{};
  socklen_t length = sizeof sample.info;
  if (::getsockopt(fd, IPPROTO_TCP, TCP_INFO, &sample.info, &length) != 0) return std::nullopt;
  sample.length = length;
  return sample;
}

TcpTotals& TcpTotals::operator+=(const TcpTotals& other) {
  sent_bytes += other.sent_bytes;
  received_bytes += other.received_bytes;
  retransmitted_bytes += other.retransmitted_bytes;
  data_segments_sent += other.data_segments_sent;
  retransmitted_segments += other.retransmitted_segments;
  spurious_retransmissions += other.spurious_retransmissions;
  retransmission_timeouts += other.retransmission_timeouts;
  rtt += other.rtt;
  min_rtt += other.min_rtt;
  return *this;
}

// The kernel counts the peer's FIN as a received byte, and it reads the state before it locks the
// socket and reads the rest: a FIN that comes in between is in the bytes, but not in the state.
// Where bytes came in, the state has to stand still over two looks.
std::uint8_t ConnectionVitals::sample(int fd, TcpTotals& totals) {
  auto now = tcp_info_of(fd);
  if (!now) return TCP_CLOSE;
  while (!peer_fin && !after_peer_fin(now->info.state) && now->info.state != TCP_CLOSE &&
         now->info.bytes_received > received_bytes) {
    const auto again = tcp_info_of(fd);
    if (!again || again->info.state == now->info.state) break;
    now = again;
  }
  update(now->info, totals);
  return now->info.state;
}

void ConnectionVitals::update(const TcpInfo& info, TcpTotals& totals) {
  peer_fin = peer_fin || after_peer_fin(info.state);
  const std::uint64_t fin = peer_fin && info.bytes_received > 0 ? 1 : 0;
  advance(received_bytes, std::max(received_bytes, info.bytes_received - fin),
          totals.received_bytes);
  advance(sent_bytes, info.bytes_sent, totals.sent_bytes);
  advance(retransmitted_bytes, info.bytes_retransmitted, totals.retransmitted_bytes);
  advance(data_segments_sent, info.data_segs_out, totals.data_segments_sent);
  advance(retransmitted_segments, info.total_retrans, totals.retransmitted_segments);
  advance(spurious_retransmissions, info.dsack_dups, totals.spurious_retransmissions);
  advance(retransmission_timeouts, info.total_rto, totals.retransmission_timeouts);
  rtt_us = info.rtt_us;
  min_rtt_us = info.min_rtt_us;

  const std::uint64_t acked_fin = after_acked_fin(info.state) && info.bytes_acked > 0 ? 1 : 0;
  const std::uint64_t acked = info.bytes_acked - acked_fin;
  if (acked > observed_acked_bytes && rtt_us > 0) {
    observed_acked_bytes = acked;
    rtt_observed = true;
    totals.rtt.observe(rtt_us);
  }
}

void ConnectionVitals::finish(TcpTotals& totals) {
  if (!rtt_observed && rtt_us > 0) totals.rtt.observe(rtt_us);
  if (has_min_rtt()) totals.min_rtt.observe(min_rtt_us);
}

// SYN-ACKs and FINs without data are retransmitted too, and are no data segments.
double ConnectionVitals::retransmit_ratio() const {
  if (data_segments_sent == 0) return 0;
  return std::min(1.0, double(retransmitted_segments) / double(data_segments_sent));
}

}  // namespace tcpvitals
