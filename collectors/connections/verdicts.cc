#include "collectors/connections/verdicts.h"

#include <sys/socket.h>

#include <algorithm>
#include <cstring>

#include "collectors/attribution/handshake.h"

namespace tcpvitals {
namespace {

std::uint64_t mix(const std::byte* address, std::uint8_t family, std::uint64_t seed) {
  std::uint64_t low = 0;
  std::uint64_t high = 0;
  std::memcpy(&low, address, sizeof low);
  if (family == AF_INET) {
    low &= 0xffffffff;
  } else {
    std::memcpy(&high, address + sizeof low, sizeof high);
  }
  return (low ^ seed) * 0x9e3779b97f4a7c15ULL ^ high * 0xc2b2ae3d27d4eb4fULL;
}

}  // namespace

bool is_spare_of_handshake(const SocketRow& event, const TcpInfoSample& sample) {
  return has_final_counters(event) && TCPVITALS_HAS(sample, delivered) &&
         sample.info.delivered == 0 && !was_established(event, sample);
}

ConnectionEnd end_of(const SocketRow& event, const TcpInfoSample& sample, bool outbound,
                     TcpState last_seen) {
  if (!has_final_counters(event)) return ConnectionEnd::kAborted;
  const FinAcknowledged fin = fin_acknowledged(sample, outbound);
  if (fin == FinAcknowledged::kYes) return ConnectionEnd::kOrderly;
  if (sample.info.retransmits > 0 || sample.info.probes > 0) return ConnectionEnd::kTimeout;
  if (fin == FinAcknowledged::kNo) return ConnectionEnd::kReset;
  return last_seen == TcpState::kFinWait2 ? ConnectionEnd::kOrderly : ConnectionEnd::kUnknown;
}

ConnectFailure failure_of(const SocketRow& event, const TcpInfoSample& sample) {
  if (!has_final_counters(event) || !TCPVITALS_HAS(sample, segs_in)) {
    return ConnectFailure::kUnknown;
  }
  return sample.info.segs_in > 0 ? ConnectFailure::kRefused : ConnectFailure::kUnanswered;
}

std::chrono::milliseconds age_of(const SocketRow& row, const TcpInfoSample& sample) {
  const TcpInfo& info = sample.info;
  if (is_cleared(info) || !was_established(row, sample)) return {};
  const std::uint64_t idle = std::max(info.last_data_sent_ms, info.last_data_received_ms);
  return std::chrono::milliseconds(std::max(idle, info.busy_us / 1000));
}

bool is_reused(const TrackedConnection& c, std::uint32_t ends, const TcpInfo& info) {
  if (c.ends != ends || info.bytes_sent < c.sent_bytes || info.bytes_received < c.received_bytes) {
    return true;
  }
  // Nobody repeats a SYN 2^32 times, and a data segment holds a byte at least.
  if (info.total_retrans < c.retransmitted_segments &&
      info.bytes_retransmitted <= c.retransmitted_bytes) {
    return true;
  }
  const std::uint32_t segments = info.data_segs_out - c.data_segments_sent;
  return info.bytes_sent != 0 && segments > info.bytes_sent - c.sent_bytes;
}

std::uint32_t ends_hash(const SocketRow& row) {
  const std::uint64_t local = mix(row.local, row.family, row.remote_port);
  const std::uint64_t both = mix(row.remote, row.family, local ^ local >> 32);
  return static_cast<std::uint32_t>(both >> 32);
}

}  // namespace tcpvitals
