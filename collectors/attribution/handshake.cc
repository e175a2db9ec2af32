#include "collectors/attribution/handshake.h"

namespace tcpvitals {
namespace {

// How many bytes of bytes_acked and of what is in flight may be our FIN.
struct Fin {
  std::int64_t least = 0;
  std::int64_t most = 1;
};

// The kernel reads the state before it locks the socket for the counters, so a FIN that the state
// does not know may be in them.
Fin fin_of(TcpState state, const TcpInfo& info) {
  // More segments arrived than the SYN and those with data: the FIN had one of its own, if the
  // segments were not cut anew on their way.
  const bool has_own_segment = static_cast<std::int32_t>(info.delivered - info.data_segs_out) > 1;
  switch (state) {
    case TcpState::kEstablished:
    case TcpState::kCloseWait:
      return {0, has_own_segment ? 1 : 0};
    case TcpState::kFinWait2:
      return {1, 1};
    default:
      return {has_own_segment ? 1 : 0, 1};
  }
}

}  // namespace

bool is_cleared(const TcpInfo& info) {
  return info.segs_in == 0 && info.segs_out == 0 && info.delivered == 0 && info.bytes_acked == 0 &&
         info.bytes_received == 0 && info.bytes_sent == 0;
}

// Of a connection its SYN or SYN-ACK was delivered. The smoothed round trip is of old: kernels
// before 4.6 have no min_rtt_us.
bool was_established(const SocketRow& row, const TcpInfoSample& sample) {
  const TcpInfo& info = sample.info;
  if (info.delivered != 0 || info.bytes_acked != 0 || info.bytes_received != 0 ||
      info.rtt_us != 0) {
    return true;
  }
  const bool nothing_else = row.remote_port == 0 || !TCPVITALS_HAS(sample, delivered);
  return nothing_else && info.min_rtt_us != kNoRtt;
}

std::optional<OpenedBy> opened_by(const SocketRow& row) {
  if (row.state == TcpState::kSynSent) return OpenedBy::kUs;
  if (row.state == TcpState::kSynReceived) return OpenedBy::kPeer;
  const TcpInfoSample sample = row.tcp_info();
  const TcpInfo& info = sample.info;
  // Read after the state of the row, and before the counters.
  const auto state = static_cast<TcpState>(info.state);
  if (info.state == 0 || !TCPVITALS_HAS(sample, bytes_retransmitted)) return std::nullopt;
  if (row.remote_port == 0) return std::nullopt;
  if (state != TcpState::kClose && is_cleared(info)) return std::nullopt;
  // An attempt that failed sent a SYN; a socket that a handshake made and nobody got sent nothing.
  if (state == TcpState::kClose && !was_established(row, sample)) {
    return info.segs_out > 0 ? std::optional(OpenedBy::kUs) : std::nullopt;
  }
  const bool in_flight = state == TcpState::kClose || info.unacked > 0;
  const std::int64_t flying =
      in_flight ? std::int64_t{row.send_queue} - std::int64_t{info.notsent_bytes} : 0;
  const auto acked = static_cast<std::int64_t>(info.bytes_acked) + flying;
  const auto sent = static_cast<std::int64_t>(info.bytes_sent - info.bytes_retransmitted);
  const Fin fin = fin_of(state, info);
  const auto fits = [&](std::int64_t syn) {
    const std::int64_t rest = acked - sent - syn;
    return fin.least <= rest && rest <= fin.most;
  };
  if (fits(1) == fits(0)) return std::nullopt;
  return fits(1) ? OpenedBy::kUs : OpenedBy::kPeer;
}

}  // namespace tcpvitals
