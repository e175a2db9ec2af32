#include "server/listener.h"

#include <fcntl.h>
#include <linux/socket.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <string>
#include <utility>

#include "base/log.h"
#include "server/socket_address.h"

namespace tcpvitals {
namespace {

// What is accepted inherits the options of a connection: they cost nothing per connection.
Result<void> set_options(const Fd& fd, const ListenerOptions& options) {
  if (auto set = set_connection_options(fd, options); !set) return set;
  return set_options(fd, {{"TCP_FASTOPEN", IPPROTO_TCP, TCP_FASTOPEN, options.fast_open, true},
                          {"TCP_DEFER_ACCEPT", IPPROTO_TCP, TCP_DEFER_ACCEPT,
                           options.defer_accept.count(), true}});
}

// SO_REUSEPORT lets every process of this user join the port in silence. The first socket is bound
// without it: that fails if anyone listens there. It is set for further ones, if there are any.
struct Place {
  SocketAddress address;
  bool shared = false;       // by several sockets of ours
  bool beside_ours = false;  // where another listener has a part of it

  Result<Fd> open(const ListenerOptions& options, bool first);
};

Result<Fd> Place::open(const ListenerOptions& options, bool first) {
  const int family = address.get()->sa_family;
  Fd fd(::socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return errno_error("socket", errno);
  const bool ready = set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1) &&
                     (family == AF_INET || set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, 0)) &&
                     ((first && !beside_ours) || set_option(fd, SOL_SOCKET, SO_REUSEPORT, 1));
  if (!ready) return errno_error("setsockopt", errno);
  if (auto set = set_options(fd, options); !set) return std::move(set.error());
  if (::bind(fd.get(), address.get(), address.length) != 0) return errno_error("bind", errno);
  if (first && shared && !set_option(fd, SOL_SOCKET, SO_REUSEPORT, 1)) {
    return errno_error("setsockopt", errno);
  }
  if (::listen(fd.get(), static_cast<int>(options.backlog)) != 0) {
    return errno_error("listen", errno);
  }
  // Only now: listen() looks for others too.
  if (beside_ours && !shared && !set_option(fd, SOL_SOCKET, SO_REUSEPORT, 0)) {
    return errno_error("setsockopt", errno);
  }
  if (first) address = SocketAddress(local_endpoint(fd));
  return fd;
}

Result<Fd> share(const Fd& socket) {
  Fd fd(::fcntl(socket.get(), F_DUPFD_CLOEXEC, 0));
  if (!fd.valid()) return errno_error("dup", errno);
  return fd;
}

std::optional<AccessList> proxies_of(const ListenerOptions& options) {
  if (options.proxy_from.empty()) return std::nullopt;
  return AccessList(options.proxy_from, {});
}

}  // namespace

Result<ListenerSockets> open_listener(const ListenerOptions& options, unsigned workers,
                                      std::vector<Fd> passed, bool beside_ours) {
  const auto in_context = [&](Error error) {
    return std::move(error).in("listener " + options.name + " on " + to_string(options.endpoint));
  };
  ListenerSockets listener{options.endpoint, std::move(passed)};
  for (const Fd& fd : listener.sockets) {
    if (auto set = set_options(fd, options); !set) return in_context(std::move(set.error()));
  }
  // Beside a socket that is passed none is opened: another user's cannot be joined on its port, and
  // what waits in the queue of one of our own would be reset when we end and whoever passed it goes
  // on.
  const std::size_t given = listener.sockets.size();
  Place place{SocketAddress(on_this_host(options.endpoint)), workers > 1, beside_ours};
  if (given > 0) place.address = SocketAddress(local_endpoint(listener.sockets[0]));
  for (std::size_t i = given; i < workers; ++i) {
    auto fd = given > 0 ? share(listener.sockets[i % given]) : place.open(options, i == 0);
    if (!fd) return in_context(std::move(fd.error()));
    listener.sockets.push_back(std::move(*fd));
  }
  listener.endpoint = place.address.endpoint();
  return listener;
}

Result<void> check_socket_options(const ListenerOptions& options) {
  const Fd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return errno_error("socket", errno);
  return set_options(fd, options);
}

namespace {

int value_of(const Fd& fd, int option) {
  int value = 0;
  socklen_t length = sizeof value;
  ::getsockopt(fd.get(), SOL_SOCKET, option, &value, &length);
  return value;
}

// A kernel before 5.14 keeps the size that a new socket has, and no longer tunes it.
void restore_defaults(const Fd& fd, const ListenerOptions& before, const ListenerOptions& options) {
  const bool receive = before.receive_buffer != 0 && options.receive_buffer == 0;
  const bool send = before.send_buffer != 0 && options.send_buffer == 0;
  const bool congestion = !before.congestion_control.empty() && options.congestion_control.empty();
  if (!receive && !send && !congestion) return;
  const Fd fresh(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fresh.valid()) return;
  // The kernel doubles what it is told.
  if (receive) set_option(fd, SOL_SOCKET, SO_RCVBUF, value_of(fresh, SO_RCVBUF) / 2);
  if (send) set_option(fd, SOL_SOCKET, SO_SNDBUF, value_of(fresh, SO_SNDBUF) / 2);
  const int locks = (options.send_buffer != 0 ? SOCK_SNDBUF_LOCK : 0) |
                    (options.receive_buffer != 0 ? SOCK_RCVBUF_LOCK : 0);
  if (receive || send) set_option(fd, SOL_SOCKET, SO_BUF_LOCK, locks);
  std::array<char, 16> name{};
  socklen_t length = name.size();
  if (congestion &&
      ::getsockopt(fresh.get(), IPPROTO_TCP, TCP_CONGESTION, name.data(), &length) == 0) {
    ::setsockopt(fd.get(), IPPROTO_TCP, TCP_CONGESTION, name.data(), length);
  }
}

}  // namespace

Result<void> change_socket_options(const Fd& fd, const ListenerOptions& before,
                                   const ListenerOptions& options) {
  restore_defaults(fd, before, options);
  if (auto set = set_options(fd, options); !set) return set;
  if (::listen(fd.get(), static_cast<int>(options.backlog)) != 0) {
    return errno_error("listen", errno);
  }
  return {};
}

ListenerSettings::ListenerSettings(ListenerOptions listener, std::uint32_t most,
                                   std::shared_ptr<TlsStore> tls_store,
                                   std::shared_ptr<PeerLimits> limits)
    : options(std::move(listener)),
      limit(most),
      access(options.allow, options.deny),
      proxies(proxies_of(options)),
      tls(std::move(tls_store)),
      peer_limits(std::move(limits)) {}

Admission ServerListener::admit_peer(const ListenerSettings& settings, const IpAddress& peer,
                                     TimePoint now) {
  if (!settings.proxies) return admit_client(settings, peer, now);
  if (!settings.proxies->allows(peer)) return {RejectReason::kUntrustedProxy};
  return {};
}

Admission ServerListener::admit_client(const ListenerSettings& settings, const IpAddress& client,
                                       TimePoint now) {
  if (!settings.access.allows(client)) return {RejectReason::kAccess};
  const PeerLimits::Verdict verdict = settings.peer_limits->admit(client, now);
  if (verdict == PeerLimits::Verdict::kTooMany) return {RejectReason::kPeerConnections};
  if (verdict == PeerLimits::Verdict::kTooFast) return {RejectReason::kPeerRate};
  if (verdict == PeerLimits::Verdict::kUncounted && settings.options.per_peer.limits()) {
    unlimited_peers_.fetch_add(1, std::memory_order_relaxed);
  }
  const bool counted = verdict == PeerLimits::Verdict::kAdmitted;
  if (is_within_accept_rate(settings.options, now)) return {std::nullopt, counted};
  if (counted) settings.peer_limits->withdraw(client);
  return {RejectReason::kAcceptRate};
}

bool ServerListener::is_within_accept_rate(const ListenerOptions& options, TimePoint now) {
  const AcceptRate::Verdict verdict = accept_rate_.accept(now);
  if (verdict == AcceptRate::Verdict::kSoftLimit) {
    log_warn("more new connections a second than the soft limit",
             {{"listener", options.name}, {"limit", std::to_string(options.accept_rate.soft)}});
  }
  return verdict != AcceptRate::Verdict::kRefused;
}

ListenerGauges ServerListener::gauges(const ListenerSettings& settings, TimePoint now) const {
  const HandlerKind handler = settings.options.handler;
  ListenerGauges gauges{.limit = settings.limit,
                        .accept_peak = accept_rate_.peak(now),
                        .accept_soft_limit_seconds = accept_rate_.soft_limit_seconds(),
                        .connects = handler == HandlerKind::kRelay || handler == HandlerKind::kOwn,
                        .unlimited_peers = unlimited_peers_.load(std::memory_order_relaxed)};
  if (settings.options.per_peer.limits()) gauges.limited_peers = settings.peer_limits->entries();
  if (settings.tls) gauges.tls = settings.tls->statistics();
  return gauges;
}

}  // namespace tcpvitals
