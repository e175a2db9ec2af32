#include "agent/process/shared_ports.h"

#include <sys/socket.h>

#include <algorithm>

#include "collectors/sock_diag/inet_diag.h"
#include "collectors/sock_diag/netlink.h"
#include "server/socket_address.h"

namespace tcpvitals {
namespace {

// The more exact address has a connection alone; of a wildcard the other one may be a part.
bool takes_from(const Endpoint& ours, const Endpoint& other) {
  if (ours.port != other.port) return false;
  if (ours.address == other.address) return true;
  return ours.address.is_any() && (!ours.address.is_v4() || other.address.is_v4());
}

Result<std::vector<ListeningSocket>> listening_sockets(DiagSocket& kernel) {
  auto asked =
      kernel.request_dump(1U << static_cast<unsigned>(TcpState::kListen), DumpDetail::kNone);
  if (!asked) return std::move(asked.error());
  std::vector<ListeningSocket> all;
  for (;;) {
    const auto received = kernel.receive();
    if (!received) return received.error();
    if (received->datagrams.empty()) return Error{"sock_diag: no answer to a dump"};
    for (const auto& datagram : received->datagrams) {
      InetDiagReader reader(datagram);
      SocketRow row;
      InetDiagReader::Next next{};
      while ((next = reader.next(row)) == InetDiagReader::Next::kRow) {
        all.push_back({row.cookie, {row.local_address(), row.local_port}});
      }
      if (next == InetDiagReader::Next::kDone) return all;
      if (next == InetDiagReader::Next::kError) return Error(reader.error());
    }
  }
}

}  // namespace

std::vector<Endpoint> shared_endpoints(const std::vector<ListeningSocket>& ours,
                                       const std::vector<ListeningSocket>& all) {
  std::vector<Endpoint> shared;
  for (const ListeningSocket& other : all) {
    const auto is_it = [&](const ListeningSocket& own) { return own.cookie == other.cookie; };
    if (std::any_of(ours.begin(), ours.end(), is_it)) continue;
    for (const ListeningSocket& own : ours) {
      const bool is_new = std::find(shared.begin(), shared.end(), own.endpoint) == shared.end();
      if (is_new && takes_from(own.endpoint, other.endpoint)) shared.push_back(own.endpoint);
    }
  }
  return shared;
}

Result<std::vector<Endpoint>> find_shared_endpoints(
    const std::vector<std::pair<std::string, SharedFd>>& ours) {
  std::vector<ListeningSocket> own;
  for (const auto& [name, fd] : ours) {
    ListeningSocket socket;
    SocketAddress address;
    socklen_t size = sizeof socket.cookie;
    if (::getsockopt(fd->get(), SOL_SOCKET, SO_COOKIE, &socket.cookie, &size) != 0 ||
        ::getsockname(fd->get(), address.get(), &address.length) != 0) {
      return errno_error("socket " + name, errno);
    }
    socket.endpoint = address.endpoint();
    own.push_back(socket);
  }
  auto kernel = open_dump_sockets({});
  if (!kernel) return std::move(kernel.error());
  const auto all = listening_sockets(*kernel->listeners);
  if (!all) return all.error();
  return shared_endpoints(own, *all);
}

}  // namespace tcpvitals
