#include "bench/bare_dump.h"

#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cstring>

#include "bench/child.h"

namespace tcpvitals::bench {
namespace {

constexpr std::uint32_t kAllStates = 0xfff;
constexpr std::uint8_t kWithInfo = 1U << (INET_DIAG_INFO - 1);

template <typename Body>
struct Message {
  nlmsghdr header;
  Body body;
};

template <typename Body>
Message<Body> dump_request(std::uint16_t type) {
  Message<Body> message{};
  message.header.nlmsg_len = sizeof message;
  message.header.nlmsg_type = type;
  message.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
  return message;
}

}  // namespace

BareDump::BareDump()
    : fd_(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG)), buffer_(32 * 1024) {
  if (!fd_.valid()) die("open netlink sock_diag");
}

void BareDump::two_families() {
  for (const int family : {AF_INET, AF_INET6}) {
    auto message = dump_request<inet_diag_req_v2>(SOCK_DIAG_BY_FAMILY);
    message.body.sdiag_family = static_cast<std::uint8_t>(family);
    message.body.sdiag_protocol = IPPROTO_TCP;
    message.body.idiag_ext = kWithInfo;
    message.body.idiag_states = kAllStates;
    request(&message, sizeof message);
    receive_until_done();
  }
}

void BareDump::one_walk() {
  auto message = dump_request<inet_diag_req>(TCPDIAG_GETSOCK);
  message.body.idiag_family = AF_INET;
  message.body.idiag_ext = kWithInfo;
  message.body.idiag_states = kAllStates;
  request(&message, sizeof message);
  receive_until_done();
}

void BareDump::request(const void* message, std::size_t size) const {
  if (::send(fd_.get(), message, size, 0) < 0) die("request a sock_diag dump");
}

void BareDump::receive_until_done() {
  for (;;) {
    const ssize_t n = ::recv(fd_.get(), buffer_.data(), buffer_.size(), 0);
    // The message that ends a dump is its last: a header and a status of 0.
    nlmsghdr last;
    const auto end = static_cast<ssize_t>(NLMSG_LENGTH(sizeof(int)));
    if (n < end) die("receive from sock_diag");
    std::memcpy(&last, buffer_.data() + n - end, sizeof last);
    if (last.nlmsg_type == NLMSG_DONE && last.nlmsg_len == end) return;
  }
}

}  // namespace tcpvitals::bench
