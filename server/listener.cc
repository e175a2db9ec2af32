#include "server/listener.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

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
  return set_options(fd, {{"TCP_FASTOPEN", IPPROTO_TCP, TCP_FASTOPEN, options.fast_open},
                          {"TCP_DEFER_ACCEPT", IPPROTO_TCP, TCP_DEFER_ACCEPT,
                           options.defer_accept.count(), true}});
}

// SO_REUSEPORT lets every process of this user join the port in silence. The first socket is bound
// without it: that fails if anyone listens there. It is set for further ones, if there are any.
struct Place {
  SocketAddress address;
  bool shared = false;  // by several sockets of ours

  Result<Fd> open(const ListenerOptions& options, bool first);
};

Result<Fd> Place::open(const ListenerOptions& options, bool first) {
  const int family = address.get()->sa_family;
  Fd fd(::socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return errno_error("socket", errno);
  const bool ready = set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1) &&
                     (family == AF_INET || set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, 0)) &&
                     (first || set_option(fd, SOL_SOCKET, SO_REUSEPORT, 1));
  if (!ready) return errno_error("setsockopt", errno);
  if (auto set = set_options(fd, options); !set) return std::move(set.error());
  if (::bind(fd.get(), address.get(), address.length) != 0) return errno_error("bind", errno);
  if (first && shared && !set_option(fd, SOL_SOCKET, SO_REUSEPORT, 1)) {
    return errno_error("setsockopt", errno);
  }
  if (::listen(fd.get(), static_cast<int>(options.backlog)) != 0) {
    return errno_error("listen", errno);
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
                                      std::vector<Fd> passed) {
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
  Place place{SocketAddress(on_this_host(options.endpoint)), workers > 1};
  if (given > 0) place.address = SocketAddress(local_endpoint(listener.sockets[0]));
  for (std::size_t i = given; i < workers; ++i) {
    auto fd = given > 0 ? share(listener.sockets[i % given]) : place.open(options, i == 0);
    if (!fd) return in_context(std::move(fd.error()));
    listener.sockets.push_back(std::move(*fd));
  }
  listener.endpoint = place.address.endpoint();
  return listener;
}

ServerListener::ServerListener(ListenerOptions options, std::uint32_t limit,
                               std::unique_ptr<TlsStore> tls)
    : options_(std::move(options)),
      endpoint_(options_.endpoint),
      limit_(limit),
      access_(options_.allow, options_.deny),
      proxies_(proxies_of(options_)),
      tls_(std::move(tls)),
      peer_limits_(options_.per_peer),
      accept_rate_(options_.accept_rate) {}

Admission ServerListener::admit_peer(const IpAddress& peer, TimePoint now) {
  if (!proxies_) return admit_client(peer, now);
  if (!proxies_->allows(peer)) return {RejectReason::kUntrustedProxy};
  return {};
}

Admission ServerListener::admit_client(const IpAddress& client, TimePoint now) {
  if (!access_.allows(client)) return {RejectReason::kAccess};
  const PeerLimits::Verdict verdict = peer_limits_.admit(client, now);
  if (verdict == PeerLimits::Verdict::kTooMany) return {RejectReason::kPeerConnections};
  if (verdict == PeerLimits::Verdict::kTooFast) return {RejectReason::kPeerRate};
  const bool counted = verdict == PeerLimits::Verdict::kAdmitted;
  if (is_within_accept_rate(now)) return {std::nullopt, counted};
  if (counted) peer_limits_.withdraw(client);
  return {RejectReason::kAcceptRate};
}

bool ServerListener::is_within_accept_rate(TimePoint now) {
  const AcceptRate::Verdict verdict = accept_rate_.accept(now);
  if (verdict == AcceptRate::Verdict::kSoftLimit) {
    log_warn("more new connections a second than the soft limit",
             {{"listener", options_.name}, {"limit", std::to_string(options_.accept_rate.soft)}});
  }
  return verdict != AcceptRate::Verdict::kRefused;
}

ListenerGauges ServerListener::gauges(TimePoint now) const {
  ListenerGauges gauges{
      .limit = limit_,
      .accept_peak = accept_rate_.peak(now),
      .accept_soft_limit_seconds = accept_rate_.soft_limit_seconds(),
      .connects = options_.handler == HandlerKind::kRelay || options_.handler == HandlerKind::kOwn,
      .unlimited_peers = peer_limits_.overflowed()};
  if (options_.per_peer.limits()) gauges.limited_peers = peer_limits_.entries();
  if (tls_) gauges.tls = tls_->statistics();
  return gauges;
}

}  // namespace tcpvitals
