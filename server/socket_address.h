// Endpoints as the kernel has them, and the few things that are done to sockets in more than one
// place.
#pragma once

#include <sys/socket.h>

#include <functional>

#include "base/fd.h"
#include "base/ip.h"
#include "base/result.h"

namespace tcpvitals {

struct SocketAddress {
  SocketAddress() = default;
  explicit SocketAddress(const Endpoint& endpoint);

  sockaddr* get() { return reinterpret_cast<sockaddr*>(&storage); }
  Endpoint endpoint() const;

  sockaddr_storage storage;  // as much of it as `length` says
  socklen_t length = sizeof(sockaddr_storage);
};

// Where that is on this host: without IPv6 [::] is 0.0.0.0.
Endpoint on_this_host(Endpoint endpoint);

bool set_option(const Fd& fd, int level, int option, int value);

// close() sends a reset.
void reset_on_close(const Fd& fd);

// The error that waits at the socket, which this takes away; 0: none.
int take_error(const Fd& fd);

// Whether an address is this host's: loopback, or one of an interface.
bool is_own_address(const IpAddress& address);

// Where our end of a connection is, or where a socket listens.
Endpoint local_endpoint(const Fd& fd);

// A nonblocking socket for a connection to `to`. Invalid: errno says why.
Fd open_socket(const Endpoint& to);
// Sends it on its way. `bound`, if given, is told of our end, which is on loopback then, before
// anything is sent.
Result<void> connect_socket(const Fd& fd, const Endpoint& to,
                            const std::function<void(const Endpoint&)>& bound);

}  // namespace tcpvitals
