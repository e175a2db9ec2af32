// TcpInfo: the kernel's `struct tcp_info`, as far as any kernel has grown it.
//
// Our own, because the C library's stops at 104 bytes and Debian 12's <linux/tcp.h> at 232, while
// kernel 6.18 returns 280. The kernel only ever appends, so it is read by the length that came
// back: a field beyond that length was not returned, and is absent, never zero. `has` tells.
// Source: include/uapi/linux/tcp.h.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace tcpvitals {

struct TcpInfo {
  std::uint8_t state;
  std::uint8_t ca_state;
  std::uint8_t retransmits;  // of the segment at the head of the queue, now
  std::uint8_t probes;
  std::uint8_t backoff;
  std::uint8_t options;
  std::uint8_t wscale;               // 4 bits send, 4 bits receive
  std::uint8_t delivery_rate_flags;  // bit 0: delivery_rate was limited by the application
  std::uint32_t rto_us;
  std::uint32_t ato_us;
  std::uint32_t snd_mss;
  std::uint32_t rcv_mss;
  std::uint32_t unacked;  // segments in flight; of a LISTEN socket: connections waiting for accept
  std::uint32_t sacked;   // of a LISTEN socket: the backlog limit
  std::uint32_t lost;     // in flight and believed lost, now: not a counter
  std::uint32_t retrans;  // in flight and retransmitted, now: not a counter
  std::uint32_t fackets;
  std::uint32_t last_data_sent_ms;
  std::uint32_t last_ack_sent_ms;
  std::uint32_t last_data_received_ms;
  std::uint32_t last_ack_received_ms;
  std::uint32_t pmtu;
  std::uint32_t rcv_ssthresh;
  std::uint32_t rtt_us;  // smoothed
  std::uint32_t rttvar_us;
  std::uint32_t snd_ssthresh;
  std::uint32_t snd_cwnd;
  std::uint32_t advmss;
  std::uint32_t reordering;
  std::uint32_t rcv_rtt_us;
  std::uint32_t rcv_space;
  std::uint32_t total_retrans;  // counter: segments retransmitted, SYN included
  std::uint64_t pacing_rate;
  std::uint64_t max_pacing_rate;
  std::uint64_t bytes_acked;     // counter: counts our SYN and FIN as a byte each
  std::uint64_t bytes_received;  // counter: counts the peer's FIN as a byte
  std::uint32_t segs_out;
  std::uint32_t segs_in;
  std::uint32_t notsent_bytes;
  std::uint32_t min_rtt_us;  // kNoRtt until a round trip was measured; survives a disconnect
  std::uint32_t data_segs_in;
  std::uint32_t data_segs_out;  // counter: segments with data, retransmissions included
  std::uint64_t delivery_rate;
  std::uint64_t busy_us;  // counter: time with data outstanding
  std::uint64_t receive_window_limited_us;
  std::uint64_t send_buffer_limited_us;
  std::uint32_t delivered;
  std::uint32_t delivered_ce;
  std::uint64_t bytes_sent;           // counter: data bytes, retransmissions included
  std::uint64_t bytes_retransmitted;  // counter
  std::uint32_t dsack_dups;           // counter: retransmissions the peer says were spurious
  std::uint32_t reordering_seen;
  std::uint32_t rcv_ooopack;
  std::uint32_t snd_wnd;
  std::uint32_t rcv_wnd;
  std::uint32_t rehash;
  std::uint16_t total_rto;  // counter: retransmission timeouts
  std::uint16_t total_rto_recoveries;
  std::uint32_t total_rto_time_ms;
  std::uint32_t received_ce;
  std::uint32_t delivered_e1_bytes;
  std::uint32_t delivered_e0_bytes;
  std::uint32_t delivered_ce_bytes;
  std::uint32_t received_e1_bytes;
  std::uint32_t received_e0_bytes;
  std::uint32_t received_ce_bytes;
  std::uint32_t accecn_options;
};
static_assert(sizeof(TcpInfo) == 280);
static_assert(offsetof(TcpInfo, total_retrans) == 100);
static_assert(offsetof(TcpInfo, bytes_acked) == 120);
static_assert(offsetof(TcpInfo, min_rtt_us) == 148);
static_assert(offsetof(TcpInfo, bytes_sent) == 200);
static_assert(offsetof(TcpInfo, total_rto) == 240);

inline constexpr std::uint32_t kNoRtt =
    0xffffffff;  // min_rtt_us of a socket that never measured one

// A TcpInfo with as many leading bytes as the kernel returned; what it did not return reads as
// zero.
struct TcpInfoSample {
  TcpInfo info;
  std::uint32_t length;  // bytes returned, at most sizeof(TcpInfo)

  // Whether the kernel returned the field that ends at `end`: has(offsetof(TcpInfo, f) + sizeof f).
  bool has(std::size_t end) const { return end <= length; }
};

// What was not returned reads as zero, and min_rtt_us as kNoRtt. `bytes` may be null if `length` is
// 0.
inline TcpInfoSample read_tcp_info(const void* bytes, std::size_t length) {
  TcpInfoSample sample;
  sample.length = static_cast<std::uint32_t>(std::min(length, sizeof(TcpInfo)));
  if (length >= sizeof(TcpInfo)) {
    // In pieces, which become plain loads and stores: of the whole g++ makes one `rep movs`, whose
    // start alone costs half of what a row does.
    constexpr std::size_t kPiece = 56;
    static_assert(sizeof(TcpInfo) % kPiece == 0);
    auto* to = reinterpret_cast<std::byte*>(&sample.info);
    const auto* from = static_cast<const std::byte*>(bytes);
    for (std::size_t i = 0; i < sizeof(TcpInfo); i += kPiece) std::memcpy(to + i, from + i, kPiece);
    return sample;
  }
  sample.info = {.min_rtt_us = kNoRtt};
  if (length > 0) std::memcpy(&sample.info, bytes, length);
  return sample;
}

}  // namespace tcpvitals

// How many leading bytes the kernel must return for the field to be there. What it does not return
// is absent, never zero.
#define TCPVITALS_NEEDS(field) \
  (offsetof(::tcpvitals::TcpInfo, field) + sizeof(::tcpvitals::TcpInfo::field))

// True if `sample` holds the field.
#define TCPVITALS_HAS(sample, field) ((sample).has(TCPVITALS_NEEDS(field)))
