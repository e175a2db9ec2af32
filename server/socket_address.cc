#include "server/socket_address.h"

#include <netinet/in.h>
#include <netinet/tcp.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <span>

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

namespace {

// To a port of ours on loopback. Every port of 127.0.0.1 may be taken, by connections to one
// destination or in TIME_WAIT; the ports of another address are not.
Result<void> bind_to_loopback(const Fd& fd, sa_family_t family) {
  constexpr std::array kV4 = {"127.0.0.1", "127.116.118.1", "127.116.118.2"};
  constexpr std::array kV6 = {"::1"};
  int error = 0;
  for (const char* text : family == AF_INET ? std::span<const char* const>(kV4) : kV6) {
    SocketAddress address({*parse_ip_address(text), 0});
    if (::bind(fd.get(), address.get(), address.length) == 0) return {};
    error = errno;
    if (error != EADDRINUSE) break;
  }
  return errno_error("bind", error);
}

}  // namespace

Result<Fd> connect_socket(const Endpoint& to, const std::function<void(const Endpoint&)>& bound) {
  SocketAddress address(to);
  Fd fd(::socket(address.get()->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return errno_error("socket", errno);
  set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
  if (bound) {
    auto done = bind_to_loopback(fd, address.get()->sa_family);
    if (!done) return std::move(done.error());
    bound(local_endpoint(fd));
  }
  if (::connect(fd.get(), address.get(), address.length) != 0 && errno != EINPROGRESS) {
    return errno_error("connect", errno);
  }
  return fd;
}

}  // namespace tcpvitals
