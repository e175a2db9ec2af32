#include "server/listener.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>

namespace tcpvitals {
namespace {

struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t length = sizeof(sockaddr_storage);

  sockaddr* get() { return reinterpret_cast<sockaddr*>(&storage); }
};

SocketAddress to_socket_address(const Endpoint& endpoint) {
  SocketAddress address;
  if (endpoint.address.is_v4()) {
    auto& v4 = reinterpret_cast<sockaddr_in&>(address.storage);
    v4.sin_family = AF_INET;
    v4.sin_port = htons(endpoint.port);
    std::memcpy(&v4.sin_addr, endpoint.address.bytes.data() + 12, 4);
    address.length = sizeof v4;
  } else {
    auto& v6 = reinterpret_cast<sockaddr_in6&>(address.storage);
    v6.sin6_family = AF_INET6;
    v6.sin6_port = htons(endpoint.port);
    std::memcpy(&v6.sin6_addr, endpoint.address.bytes.data(), 16);
    address.length = sizeof v6;
  }
  return address;
}

bool set(const Fd& fd, int level, int option, int value) {
  return ::setsockopt(fd.get(), level, option, &value, sizeof value) == 0;
}

// SO_REUSEPORT would also let a second instance of this program share the port in silence, so the
// first socket is bound without it: that fails if anyone listens there. Options of TCP that are set
// here are inherited by what is accepted and cost nothing per connection.
Result<Fd> open_socket(SocketAddress& address, std::uint32_t backlog, bool first) {
  const int family = address.get()->sa_family;
  Fd fd(::socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return errno_error("socket", errno);
  const bool ready = set(fd, SOL_SOCKET, SO_REUSEADDR, 1) &&
                     (family == AF_INET || set(fd, IPPROTO_IPV6, IPV6_V6ONLY, 0)) &&
                     set(fd, IPPROTO_TCP, TCP_NODELAY, 1) &&
                     (first || set(fd, SOL_SOCKET, SO_REUSEPORT, 1));
  if (!ready) return errno_error("setsockopt", errno);
  if (::bind(fd.get(), address.get(), address.length) != 0) return errno_error("bind", errno);
  if (first && !set(fd, SOL_SOCKET, SO_REUSEPORT, 1)) return errno_error("setsockopt", errno);
  if (::listen(fd.get(), static_cast<int>(backlog)) != 0) return errno_error("listen", errno);
  if (first && ::getsockname(fd.get(), address.get(), &address.length) != 0) {
    return errno_error("getsockname", errno);
  }
  return fd;
}

}  // namespace

Result<ListenerSockets> open_listener(const ListenerOptions& options, unsigned workers) {
  SocketAddress address = to_socket_address(options.endpoint);
  ListenerSockets listener;
  for (unsigned i = 0; i < workers; ++i) {
    auto fd = open_socket(address, options.backlog, i == 0);
    if (!fd) {
      return std::move(fd.error())
          .in("listener " + options.name + " on " + to_string(options.endpoint));
    }
    listener.sockets.push_back(std::move(*fd));
  }
  listener.endpoint = options.endpoint;
  // The port stands at the same place in both families' addresses.
  listener.endpoint.port = ntohs(reinterpret_cast<sockaddr_in&>(address.storage).sin_port);
  return listener;
}

}  // namespace tcpvitals
