// ConnectionQuery: which connections one wants to see one by one, and ConnectionDetail: all that
// the kernel tells of one, the labels of its group with it.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/ip.h"
#include "collectors/connections/inet_diag.h"
#include "collectors/connections/tcp_info.h"

namespace tcpvitals {

struct ConnectionQuery {
  enum class Sort : std::uint8_t { kRetransmits, kRtt, kBytes, kSendQueue, kAge };
  static constexpr std::size_t kMaxTop = 1000;

  Sort sort = Sort::kRetransmits;  // the highest first
  std::size_t top = 20;            // at most kMaxTop

  // Of those that match all that is given; the texts are label values.
  std::optional<std::string> direction;
  std::optional<std::string> port;
  std::optional<std::string> peer;
  std::optional<TcpState> state;
};

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

struct ConnectionDetail {
  SocketDetail socket;
  std::string direction;
  std::string port;
  std::string peer;
  std::string cgroup;  // empty: not grouped by it; so is netns
  std::string netns;
  std::optional<double> age_seconds;  // since the tracker saw it first; absent: it was there before
};

struct ConnectionList {
  std::vector<ConnectionDetail> connections;  // sorted, at most `top`
  std::size_t matched = 0;                    // of how many
};

}  // namespace tcpvitals
