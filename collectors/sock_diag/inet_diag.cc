#include "collectors/sock_diag/inet_diag.h"

#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <sys/socket.h>

#include <bit>

namespace tcpvitals {
namespace {

constexpr std::size_t padded(std::size_t length) { return (length + 3) & ~std::size_t{3}; }

constexpr std::uint16_t from_network(std::uint16_t v) {
  return static_cast<std::uint16_t>(v << 8 | v >> 8);
}
static_assert(std::endian::native == std::endian::little);

constexpr std::uint8_t kTimeWaitTimer = 3;  // idiag_timer of a time-wait socket

// False if the attributes do not add up. Attributes that are not asked for are skipped.
bool read_attributes(std::span<const std::byte> attributes, SocketRow& row) {
  while (attributes.size() >= sizeof(nlattr)) {
    nlattr header;
    std::memcpy(&header, attributes.data(), sizeof header);
    if (header.nla_len < sizeof header || header.nla_len > attributes.size()) return false;
    const std::span value = attributes.subspan(sizeof header, header.nla_len - sizeof header);
    switch (header.nla_type & NLA_TYPE_MASK) {
      case INET_DIAG_INFO:
        row.info = value.data();
        row.info_length = static_cast<std::uint32_t>(value.size());
        break;
      case INET_DIAG_CGROUP_ID:
        if (value.size() == sizeof row.cgroup_id) {
          std::memcpy(&row.cgroup_id, value.data(), sizeof row.cgroup_id);
        }
        break;
      case INET_DIAG_SKV6ONLY:
        row.v6only = !value.empty() && value[0] != std::byte{0};
        break;
      default:
        break;
    }
    attributes = attributes.subspan(std::min(padded(header.nla_len), attributes.size()));
  }
  return attributes.empty();
}

}  // namespace

IpAddress SocketRow::address(const std::byte* bytes) const {
  return family == AF_INET ? IpAddress::v4(bytes) : IpAddress::v6(bytes);
}

InetDiagReader::Next InetDiagReader::fail(std::string message) {
  error_ = {std::move(message)};
  rest_ = {};
  return Next::kError;
}

InetDiagReader::Next InetDiagReader::next(SocketRow& row) {
  while (!rest_.empty()) {
    nlmsghdr header;
    if (rest_.size() < sizeof header) return fail("netlink message header cut short");
    std::memcpy(&header, rest_.data(), sizeof header);
    if (header.nlmsg_len < sizeof header || header.nlmsg_len > rest_.size()) {
      return fail("netlink message of " + std::to_string(header.nlmsg_len) + " bytes in " +
                  std::to_string(rest_.size()));
    }
    const std::span body = rest_.subspan(sizeof header, header.nlmsg_len - sizeof header);
    rest_ = rest_.subspan(std::min(padded(header.nlmsg_len), rest_.size()));

    if (header.nlmsg_type == NLMSG_DONE || header.nlmsg_type == NLMSG_ERROR) {
      std::int32_t status = 0;
      if (body.size() >= sizeof status) std::memcpy(&status, body.data(), sizeof status);
      if (status < 0) {
        refusal_ = -status;
        return fail(errno_error("sock_diag", refusal_).message);
      }
      if (header.nlmsg_type == NLMSG_DONE) return Next::kDone;
      continue;  // an error of 0 is an acknowledgement
    }
    if (header.nlmsg_type != SOCK_DIAG_BY_FAMILY && header.nlmsg_type != TCPDIAG_GETSOCK) continue;

    inet_diag_msg message;
    if (body.size() < sizeof message) return fail("inet_diag message cut short");
    std::memcpy(&message, body.data(), sizeof message);
    if (message.idiag_family != AF_INET && message.idiag_family != AF_INET6) continue;
    if (message.idiag_state == 0 || message.idiag_state >= kTcpStates) continue;

    row = SocketRow{};
    row.cookie = message.id.idiag_cookie[0] | static_cast<std::uint64_t>(message.id.idiag_cookie[1])
                                                  << 32;
    if (row.cookie == 0) return fail("a socket without a cookie");
    row.state = static_cast<TcpState>(message.idiag_state);
    row.family = message.idiag_family;
    row.time_wait = message.idiag_timer == kTimeWaitTimer;
    row.local_port = from_network(message.id.idiag_sport);
    row.remote_port = from_network(message.id.idiag_dport);
    row.receive_queue = message.idiag_rqueue;
    row.send_queue = message.idiag_wqueue;
    row.local = body.data() + offsetof(inet_diag_msg, id) + offsetof(inet_diag_sockid, idiag_src);
    row.remote = body.data() + offsetof(inet_diag_msg, id) + offsetof(inet_diag_sockid, idiag_dst);
    row.message = body;
    if (!read_attributes(body.subspan(sizeof message), row)) {
      return fail("inet_diag attributes cut short");
    }
    return Next::kRow;
  }
  return Next::kEnd;
}

}  // namespace tcpvitals
