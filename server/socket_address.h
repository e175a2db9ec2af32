// Endpoints as the kernel has them, and the few things that are done to sockets in more than one
// place.
#pragma once

#include <sys/socket.h>

#include <cstdint>
#include <functional>
#include <initializer_list>

#include "base/fd.h"
#include "base/ip.h"
#include "base/result.h"
#include "server/options.h"

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

struct SocketOption {
  const char* name;
  int level;
  int option;
  std::int64_t value;
  bool zero_is_value = false;  // else with 0 the socket keeps what it has
};
// Fails with the name of the option that is refused.
Result<void> set_options(const Fd& fd, std::initializer_list<SocketOption> options);

// What a listener's connections have, on both sides of a relay: keepalive, timeouts, buffers,
// congestion control. A socket that was passed may have other values: where 0 is off, it is set
// too.
Result<void> set_connection_options(const Fd& fd, const ListenerOptions& options);

// close() sends a reset.
void reset_on_close(const Fd& fd);

// Bytes that were sent and not acknowledged, sent or not; a FIN is one. Also of a connection that
// the kernel has ended. Cannot fail on a socket that was ever connected.
std::uint32_t unacknowledged(const Fd& fd);

// Bytes that came and were not read.
std::uint32_t unread(const Fd& fd);

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
