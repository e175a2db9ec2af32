// The kernel's TCP socket states, as sock_diag, tcp_info and /proc/net/tcp number them.
// Source: include/net/tcp_states.h.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace tcpvitals {

enum class TcpState : std::uint8_t {
  kEstablished = 1,
  kSynSent,
  kSynReceived,
  kFinWait1,
  kFinWait2,
  kTimeWait,
  kClose,
  kCloseWait,
  kLastAck,
  kListen,
  kClosing,
};
inline constexpr std::size_t kTcpStates = 12;  // an array by state; index 0 is unused

// The states' names as label values: "established", "syn_sent", ...
inline constexpr std::array<std::string_view, kTcpStates> kTcpStateNames{
    "unknown",   "established", "syn_sent",   "syn_recv", "fin_wait1", "fin_wait2",
    "time_wait", "close",       "close_wait", "last_ack", "listen",    "closing"};
constexpr std::string_view to_string(TcpState state) {
  return kTcpStateNames[static_cast<std::size_t>(state)];
}

}  // namespace tcpvitals
