#include "server/socket_address.h"

#include <netinet/in.h>
#include <netinet/tcp.h>

#include <cerrno>
#include <cstring>

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

bool set_option(const Fd& fd, int level, int option, int value) {
  return ::setsockopt(fd.get(), level, option, &value, sizeof value) == 0;
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

Endpoint local_endpoint(const Fd& fd) {
  SocketAddress address;
  if (::getsockname(fd.get(), address.get(), &address.length) != 0) return {};
  return address.endpoint();
}

Result<Fd> connect_socket(const Endpoint& to, const std::function<void(const Endpoint&)>& bound) {
  SocketAddress address(to);
  Fd fd(::socket(address.get()->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return errno_error("socket", errno);
  set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
  if (bound) {
    SocketAddress loopback({address.get()->sa_family == AF_INET ? *parse_ip_address("127.0.0.1")
                                                                : *parse_ip_address("::1"),
                            0});
    if (::bind(fd.get(), loopback.get(), loopback.length) != 0) return errno_error("bind", errno);
    bound(local_endpoint(fd));
  }
  if (::connect(fd.get(), address.get(), address.length) != 0 && errno != EINPROGRESS) {
    return errno_error("connect", errno);
  }
  return fd;
}

}  // namespace tcpvitals
