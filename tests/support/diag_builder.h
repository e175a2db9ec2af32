// Builds sock_diag messages byte by byte, as the kernel would, for tests that need a certain
// socket.
#pragma once

#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <sys/socket.h>

#include <cstddef>
#include <cstring>
#include <string>
#include <vector>

#include "collectors/sock_diag/inet_diag.h"

namespace tcpvitals::testing {

using Bytes = std::vector<std::byte>;

// The kernel's default for net.ipv4.ip_local_port_range.
inline constexpr PortRange kDefaultEphemeral{32768, 60999};

struct FakeSocket {
  std::uint64_t cookie = 1;
  TcpState state = TcpState::kEstablished;
  std::string local = "192.0.2.1";
  std::uint16_t local_port = 443;
  std::string remote = "198.51.100.7";
  std::uint16_t remote_port = 40000;
  std::uint32_t receive_queue = 0;
  std::uint32_t send_queue = 0;
  bool has_info = true;
  bool time_wait = false;
  bool ipv6 = false;  // the socket's family; its addresses may be v4-mapped
  bool v6only = false;
  TcpInfo info{.segs_in = 2, .min_rtt_us = 100, .delivered = 1};
  std::size_t info_length = sizeof(TcpInfo);
  std::uint64_t cgroup_id = 0;  // 0: not sent
};

inline void append(Bytes& out, const void* data, std::size_t size) {
  const auto* bytes = static_cast<const std::byte*>(data);
  out.insert(out.end(), bytes, bytes + size);
  out.resize((out.size() + 3) & ~std::size_t{3});
}

inline void append_attribute(Bytes& out, std::uint16_t type, const void* data, std::size_t size) {
  const nlattr header{static_cast<std::uint16_t>(sizeof(nlattr) + size), type};
  append(out, &header, sizeof header);
  append(out, data, size);
}

inline Bytes wrap(std::uint16_t type, const Bytes& body) {
  const nlmsghdr header{static_cast<std::uint32_t>(sizeof(nlmsghdr) + body.size()), type, 0, 1, 0};
  Bytes out;
  append(out, &header, sizeof header);
  append(out, body.data(), body.size());
  return out;
}

inline Bytes message(const FakeSocket& s) {
  inet_diag_msg m{};
  const IpAddress local = *parse_ip_address(s.local);
  const IpAddress remote = *parse_ip_address(s.remote);
  m.idiag_family = s.ipv6 || !local.is_v4() ? AF_INET6 : AF_INET;
  m.idiag_state = static_cast<std::uint8_t>(s.state);
  m.idiag_timer = s.time_wait ? 3 : 0;
  m.id.idiag_sport = static_cast<std::uint16_t>(s.local_port << 8 | s.local_port >> 8);
  m.id.idiag_dport = static_cast<std::uint16_t>(s.remote_port << 8 | s.remote_port >> 8);
  const std::size_t skip = m.idiag_family == AF_INET ? 12 : 0;
  std::memcpy(m.id.idiag_src, local.bytes.data() + skip, 16 - skip);
  std::memcpy(m.id.idiag_dst, remote.bytes.data() + skip, 16 - skip);
  m.id.idiag_cookie[0] = static_cast<std::uint32_t>(s.cookie);
  m.id.idiag_cookie[1] = static_cast<std::uint32_t>(s.cookie >> 32);
  m.idiag_rqueue = s.receive_queue;
  m.idiag_wqueue = s.send_queue;
  Bytes body;
  append(body, &m, sizeof m);
  if (s.state == TcpState::kListen && m.idiag_family == AF_INET6) {
    const std::uint8_t only = s.v6only ? 1 : 0;
    append_attribute(body, INET_DIAG_SKV6ONLY, &only, sizeof only);
  }
  if (s.has_info) append_attribute(body, INET_DIAG_INFO, &s.info, s.info_length);
  if (s.cgroup_id != 0) {
    append_attribute(body, INET_DIAG_CGROUP_ID, &s.cgroup_id, sizeof s.cgroup_id);
  }
  return wrap(SOCK_DIAG_BY_FAMILY, body);
}

inline Bytes done() {
  const std::int32_t status = 0;
  Bytes body;
  append(body, &status, sizeof status);
  return wrap(NLMSG_DONE, body);
}

inline Bytes kernel_error(int error) {
  const std::int32_t status = -error;
  Bytes body;
  append(body, &status, sizeof status);
  return wrap(NLMSG_ERROR, body);
}

inline Bytes join(const std::vector<Bytes>& messages) {
  Bytes out;
  for (const Bytes& m : messages) out.insert(out.end(), m.begin(), m.end());
  return out;
}

// The first row of `bytes`, which must outlive it.
inline SocketRow first_row(const Bytes& bytes) {
  SocketRow row;
  InetDiagReader(bytes).next(row);
  return row;
}

}  // namespace tcpvitals::testing
