// Reads the kernel's sock_diag datagrams: pure, no I/O, no allocation, safe on any bytes.
//
//   datagram  = { nlmsghdr, inet_diag_msg, { nlattr, value }* }*   every part padded to 4 bytes
//   nlmsghdr  = length u32, type u16, flags u16, sequence u32, port u32
//   inet_diag_msg (72 bytes): the socket's family, state, timer, ports, addresses, cookie, queues
//
// The same shape carries dump rows and DESTROY events. What a newer kernel adds is skipped.
// Source: include/uapi/linux/{netlink,inet_diag}.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>

#include "base/ip.h"
#include "base/result.h"
#include "collectors/sock_diag/tcp_info.h"
#include "collectors/tcp_state.h"

namespace tcpvitals {

// One socket as the kernel described it. Points into the datagram it was read from.
struct SocketRow {
  std::uint64_t cookie = 0;  // the socket's identity, never reused while the host is up
  TcpState state = TcpState::kClose;
  std::uint8_t family = 0;  // AF_INET or AF_INET6
  bool v6only = false;      // of a listener: does not take IPv4
  // What is left of a closed connection, without counters or attributes. Its state is FIN_WAIT2
  // until the peer's FIN has come, then TIME_WAIT (the kernel's tw_substate).
  bool time_wait = false;
  std::uint16_t local_port = 0;
  std::uint16_t remote_port = 0;
  std::uint32_t receive_queue = 0;    // bytes; of a listener: connections waiting for accept
  std::uint32_t send_queue = 0;       // bytes; of a listener: the backlog limit
  const std::byte* local = nullptr;   // 16 bytes, network order; an IPv4 address is the first four
  const std::byte* remote = nullptr;  // likewise
  const std::byte* info = nullptr;    // tcp_info; null if the kernel sent none
  std::uint32_t info_length = 0;
  std::uint64_t cgroup_id = 0;         // of the cgroup v2 tree; 0: not sent
  std::span<const std::byte> message;  // inet_diag_msg and all attributes, for read_detail()

  IpAddress local_address() const { return address(local); }
  IpAddress remote_address() const { return address(remote); }
  TcpInfoSample tcp_info() const { return read_tcp_info(info, info_length); }

 private:
  IpAddress address(const std::byte* bytes) const;
};

// Walks the messages of one datagram.
class InetDiagReader {
 public:
  enum class Next {
    kRow,    // a socket: `row` was filled
    kDone,   // the end of a dump
    kEnd,    // no more messages in this datagram
    kError,  // malformed, or the kernel reported an error: error() says which; stop reading
  };

  explicit InetDiagReader(std::span<const std::byte> datagram) : rest_(datagram) {}

  Next next(SocketRow& row);
  const Error& error() const { return error_; }

  // After kError: the errno by which the kernel refused the request, 0 if it did not.
  int refusal() const { return refusal_; }

 private:
  Next fail(std::string message);

  std::span<const std::byte> rest_;
  Error error_;
  int refusal_ = 0;
};

}  // namespace tcpvitals
