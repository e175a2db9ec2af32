#include "collectors/namespaces/namespace_ids.h"

#include <libmnl/libmnl.h>
#include <linux/net_namespace.h>
#include <linux/rtnetlink.h>

#include <array>
#include <cerrno>

namespace tcpvitals {
namespace {

constexpr std::size_t kBytes = 1024;  // of either direction; an answer has 60

int read_nsid(const nlattr* attribute, void* nsid) {
  if (mnl_attr_get_type(attribute) == NETNSA_NSID &&
      mnl_attr_validate(attribute, MNL_TYPE_U32) >= 0) {
    *static_cast<int*>(nsid) = static_cast<int>(mnl_attr_get_u32(attribute));
  }
  return MNL_CB_OK;
}

int read_answer(const nlmsghdr* header, void* nsid) {
  return mnl_attr_parse(header, sizeof(rtgenmsg), read_nsid, nsid);
}

}  // namespace

void NamespaceIds::Close::operator()(mnl_socket* socket) const { mnl_socket_close(socket); }

Result<NamespaceIds> NamespaceIds::open() {
  NamespaceIds opened(mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC));
  if (!opened.socket_) return errno_error("open netlink route", errno);
  if (mnl_socket_bind(opened.socket_.get(), 0, MNL_SOCKET_AUTOPID) < 0) {
    return errno_error("bind netlink route", errno);
  }
  return opened;
}

Result<void> NamespaceIds::send(int type, int flags, int netns) {
  std::array<char, kBytes> buffer{};
  nlmsghdr* header = mnl_nlmsg_put_header(buffer.data());
  header->nlmsg_type = static_cast<std::uint16_t>(type);
  header->nlmsg_flags = static_cast<std::uint16_t>(NLM_F_REQUEST | flags);
  static_cast<rtgenmsg*>(mnl_nlmsg_put_extra_header(header, sizeof(rtgenmsg)))->rtgen_family =
      AF_UNSPEC;
  mnl_attr_put_u32(header, NETNSA_FD, static_cast<std::uint32_t>(netns));
  if (type == RTM_NEWNSID) mnl_attr_put_u32(header, NETNSA_NSID, static_cast<std::uint32_t>(kNone));
  if (mnl_socket_sendto(socket_.get(), header, header->nlmsg_len) < 0) {
    return errno_error("ask about an nsid", errno);
  }
  return {};
}

Result<int> NamespaceIds::find(int netns) {
  auto sent = send(RTM_GETNSID, 0, netns);
  if (!sent) return std::move(sent.error());
  std::array<char, kBytes> buffer{};
  const ssize_t n = mnl_socket_recvfrom(socket_.get(), buffer.data(), buffer.size());
  int nsid = kNone;
  if (n < 0 || mnl_cb_run(buffer.data(), static_cast<std::size_t>(n), 0,
                          mnl_socket_get_portid(socket_.get()), read_answer, &nsid) < 0) {
    return errno_error("look up an nsid", errno);
  }
  return nsid;
}

Result<int> NamespaceIds::assign(int netns) {
  auto found = find(netns);
  if (!found || *found != kNone) return found;
  auto sent = send(RTM_NEWNSID, NLM_F_ACK, netns);
  if (!sent) return std::move(sent.error());
  std::array<char, kBytes> buffer{};
  const ssize_t n = mnl_socket_recvfrom(socket_.get(), buffer.data(), buffer.size());
  // EEXIST: someone else gave it one just now.
  if (n < 0 || (mnl_cb_run(buffer.data(), static_cast<std::size_t>(n), 0,
                           mnl_socket_get_portid(socket_.get()), nullptr, nullptr) < 0 &&
                errno != EEXIST)) {
    return errno_error("assign an nsid", errno);
  }
  found = find(netns);
  if (found && *found == kNone) return Error{"the kernel assigned no nsid"};
  return found;
}

}  // namespace tcpvitals
