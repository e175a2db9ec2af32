#include "server/socket_address.h"

#include <ifaddrs.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <random>
#include <string>

namespace tcpvitals {

SocketAddress::SocketAddress(const Endpoint& endpoint) : storage{} {
  if (endpoint.address.is_v4()) {
    auto& v4 = reinterpret_cast<sockaddr_in&>(storage);
    v4.sin_family = AF_INET;
    v4.sin_port = htons(endpoint.port);
    std::memcpy(&v4.sin_addr, endpoint.address.bytes.data() + 12, 4);
    length = sizeof v4;
  } else {
    auto& v6 = reinterpret_cast<sockaddr_in6&>(storage);
    v6.sin6_family = AF_INET6;
    v6.sin6_port = htons(endpoint.port);
    std::memcpy(&v6.sin6_addr, endpoint.address.bytes.data(), 16);
    length = sizeof v6;
  }
}

Endpoint SocketAddress::endpoint() const {
  if (storage.ss_family == AF_INET) {
    const auto& v4 = reinterpret_cast<const sockaddr_in&>(storage);
    return {IpAddress::v4(&v4.sin_addr), ntohs(v4.sin_port)};
  }
  const auto& v6 = reinterpret_cast<const sockaddr_in6&>(storage);
  return {IpAddress::v6(&v6.sin6_addr), ntohs(v6.sin6_port)};
}

Endpoint on_this_host(Endpoint endpoint) {
  if (endpoint.address.is_v4() || !endpoint.address.is_any()) return endpoint;
  const Fd probe(::socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!probe.valid() && errno == EAFNOSUPPORT) endpoint.address = *parse_ip_address("0.0.0.0");
  return endpoint;
}

bool set_option(const Fd& fd, int level, int option, int value) {
  return ::setsockopt(fd.get(), level, option, &value, sizeof value) == 0;
}

Result<void> set_options(const Fd& fd, std::initializer_list<SocketOption> options) {
  for (const SocketOption& row : options) {
    if (row.value == 0 && !row.zero_is_value) continue;
    if (!set_option(fd, row.level, row.option, static_cast<int>(row.value))) {
      return errno_error(row.name, errno);
    }
  }
  return {};
}

Result<void> set_connection_options(const Fd& fd, const ListenerOptions& options) {
  const KeepAlive& keepalive = options.keepalive;
  auto set = set_options(
      fd,
      {
          {"TCP_NODELAY", IPPROTO_TCP, TCP_NODELAY, options.nodelay, true},
          {"SO_KEEPALIVE", SOL_SOCKET, SO_KEEPALIVE, keepalive.idle.count() > 0, true},
          {"TCP_KEEPIDLE", IPPROTO_TCP, TCP_KEEPIDLE, keepalive.idle.count()},
          {"TCP_KEEPINTVL", IPPROTO_TCP, TCP_KEEPINTVL, keepalive.interval.count()},
          {"TCP_KEEPCNT", IPPROTO_TCP, TCP_KEEPCNT, keepalive.count},
          {"TCP_USER_TIMEOUT", IPPROTO_TCP, TCP_USER_TIMEOUT, options.user_timeout.count(), true},
          {"SO_RCVBUF", SOL_SOCKET, SO_RCVBUF, options.receive_buffer},
          {"SO_SNDBUF", SOL_SOCKET, SO_SNDBUF, options.send_buffer},
      });
  const std::string& congestion = options.congestion_control;
  if (!set || congestion.empty()) return set;
  if (::setsockopt(fd.get(), IPPROTO_TCP, TCP_CONGESTION, congestion.data(),
                   static_cast<socklen_t>(congestion.size())) != 0) {
    return errno_error("TCP_CONGESTION " + congestion, errno);
  }
  return {};
}

std::uint32_t unacknowledged(const Fd& fd) {
  int bytes = 0;
  ::ioctl(fd.get(), SIOCOUTQ, &bytes);
  return static_cast<std::uint32_t>(bytes);
}

std::uint32_t unread(const Fd& fd) {
  int bytes = 0;
  ::ioctl(fd.get(), SIOCINQ, &bytes);
  return static_cast<std::uint32_t>(bytes);
}

void reset_on_close(const Fd& fd) {
  const linger at_once{1, 0};
  ::setsockopt(fd.get(), SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
}

int take_error(const Fd& fd) {
  int error = 0;
  socklen_t length = sizeof error;
  return ::getsockopt(fd.get(), SOL_SOCKET, SO_ERROR, &error, &length) == 0 ? error : errno;
}

bool is_own_address(const IpAddress& address) {
  static const IpPrefix kLoopback = *parse_ip_prefix("127.0.0.0/8");
  if (kLoopback.contains(address)) return true;
  ifaddrs* interfaces = nullptr;
  if (::getifaddrs(&interfaces) != 0) return address == *parse_ip_address("::1");
  bool found = false;
  for (const ifaddrs* i = interfaces; i != nullptr && !found; i = i->ifa_next) {
    if (i->ifa_addr == nullptr) continue;
    SocketAddress own;
    const sa_family_t family = i->ifa_addr->sa_family;
    if (family != AF_INET && family != AF_INET6) continue;
    std::memcpy(own.get(), i->ifa_addr,
                family == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6));
    found = own.endpoint().address == address;
  }
  ::freeifaddrs(interfaces);
  return found;
}

Endpoint local_endpoint(const Fd& fd) {
  SocketAddress address;
  if (::getsockname(fd.get(), address.get(), &address.length) != 0) return {};
  return address.endpoint();
}

namespace {

// One of the 4 million addresses of 127.64.0.0/10: chance chose the first, at this process's start.
IpAddress own_loopback_address(std::uint32_t number) {
  static const std::uint32_t first = std::random_device()();
  const std::uint32_t address = htonl(0x7f400000 | ((first + number) & 0x3fffff));
  return IpAddress::v4(&address);
}

// To a port of ours on loopback. Other programs may have taken every port of 127.0.0.1, and of any
// address that they know of.
Result<void> bind_to_loopback(const Fd& fd, sa_family_t family) {
  const bool v4 = family == AF_INET;
  const IpAddress usual = *parse_ip_address(v4 ? "127.0.0.1" : "::1");
  int error = EADDRINUSE;
  for (std::uint32_t i = 0; v4 && i < 3 && error == EADDRINUSE; ++i) {
    SocketAddress own({own_loopback_address(i), 0});
    if (::bind(fd.get(), own.get(), own.length) == 0) return {};
    error = errno;
  }
  // Where `lo` does not have all of 127.0.0.0/8, and for IPv6.
  SocketAddress address({usual, 0});
  if (::bind(fd.get(), address.get(), address.length) == 0) return {};
  return errno_error("bind", errno);
}

}  // namespace

Fd open_socket(const Endpoint& to) {
  const int family = to.address.is_v4() ? AF_INET : AF_INET6;
  return Fd(::socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
}

Result<void> connect_socket(const Fd& fd, const Endpoint& to,
                            const std::function<void(const Endpoint&)>& bound) {
  SocketAddress address(to);
  if (bound) {
    auto done = bind_to_loopback(fd, address.get()->sa_family);
    if (!done) return done;
    bound(local_endpoint(fd));
  }
  if (::connect(fd.get(), address.get(), address.length) != 0 && errno != EINPROGRESS) {
    return errno_error("connect", errno);
  }
  return {};
}

}  // namespace tcpvitals
