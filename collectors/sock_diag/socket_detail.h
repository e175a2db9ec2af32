// Reads all that a sock_diag row tells of one socket, what `ss -tinem` shows and a little more.
// Pure, safe on any bytes; meant for a few sockets, not for every row of a dump.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "base/ip.h"
#include "collectors/sock_diag/inet_diag.h"
#include "collectors/sock_diag/tcp_info.h"

namespace tcpvitals {

// One socket as the kernel described it, in full. What the kernel did not send is absent.
struct SocketDetail {
  enum class Timer : std::uint8_t { kOff, kRetransmit, kKeepalive, kTimeWait, kZeroWindowProbe };

  // sk_meminfo, in the kernel's order; bytes.
  struct Memory {
    std::uint32_t receive_allocated = 0;
    std::uint32_t receive_buffer = 0;
    std::uint32_t send_allocated = 0;
    std::uint32_t send_buffer = 0;
    std::uint32_t forward_allocated = 0;
    std::uint32_t send_queued = 0;
    std::uint32_t options = 0;
    std::uint32_t backlog = 0;
    std::uint32_t drops = 0;  // packets
  };

  // What the congestion control says of itself, where it is BBR or DCTCP.
  struct Bbr {
    std::uint64_t bandwidth = 0;  // bytes per second
    std::uint32_t min_rtt_us = 0;
    double pacing_gain = 0;
    double cwnd_gain = 0;
  };
  struct Dctcp {
    std::uint16_t ce_state = 0;
    double alpha = 0;  // the share of bytes that were marked, smoothed; 0 to 1
    std::uint32_t ecn_bytes = 0;
    std::uint32_t total_bytes = 0;
  };

  std::uint64_t cookie = 0;
  TcpState state = TcpState::kClose;
  Endpoint local;
  Endpoint remote;
  std::uint32_t receive_queue_bytes = 0;
  std::uint32_t send_queue_bytes = 0;
  std::uint32_t uid = 0;
  std::uint32_t inode = 0;
  Timer timer = Timer::kOff;
  std::chrono::milliseconds timer_expires{0};
  std::uint8_t timer_retransmits = 0;
  std::uint32_t interface = 0;  // the index of the one it is bound to; 0: none
  std::optional<std::uint64_t> cgroup_id;
  std::optional<std::uint32_t> mark;      // not sent without CAP_NET_ADMIN
  std::optional<std::uint32_t> class_id;  // of net_cls, or the priority
  std::optional<std::uint8_t> tos;
  std::optional<std::uint8_t> traffic_class;
  std::optional<std::uint8_t> shutdown;  // bit 0: for receiving, bit 1: for sending
  std::optional<bool> v6only;
  std::optional<std::string> congestion_control;
  std::optional<Bbr> bbr;
  std::optional<Dctcp> dctcp;
  std::optional<std::string> upper_protocol;  // "tls", "mptcp", ...
  std::optional<Memory> memory;
  std::optional<TcpInfoSample> info;
};

// `row` as InetDiagReader gave it; the datagram it points into must still be there. What a dump of
// less than DumpDetail::kEverything did not bring is absent; so is an attribute of another size
// than this program knows.
SocketDetail read_detail(const SocketRow& row);

}  // namespace tcpvitals
