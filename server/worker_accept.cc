// A worker's listening side: who is let in.
#include <netinet/in.h>
#include <sys/socket.h>

#include <cerrno>
#include <utility>

#include "server/socket_address.h"
#include "server/worker.h"

namespace tcpvitals {
namespace {

constexpr int kAcceptsPerTurn = 64;
constexpr Clock::duration kAcceptPause = std::chrono::milliseconds(100);

PauseReason pause_reason_of(int error) {
  return error == EMFILE || error == ENFILE ? PauseReason::kDescriptors : PauseReason::kError;
}

// A connection that died in the queue, or a network error of its own, says nothing of the next.
bool is_of_one_connection(int error) {
  switch (error) {
    case EINTR:
    case ECONNABORTED:
    case EPROTO:
    case ENETDOWN:
    case ENETUNREACH:
    case EHOSTDOWN:
    case EHOSTUNREACH:
      return true;
    default:
      return false;
  }
}

}  // namespace

void Worker::accept_from(std::size_t index) {
  Port& port = ports_[index];
  for (const Fd& socket : port.sockets) {
    for (int i = 0; i < kAcceptsPerTurn && accept_one(index, socket); ++i) {
    }
    if (port.paused) return;
  }
}

// False: there is none, or the port pauses.
bool Worker::accept_one(std::size_t index, const Fd& socket) {
  Port& port = ports_[index];
  if (!port.listener.reserve()) {
    pause(port, PauseReason::kLimit);
    return false;
  }
  DescriptorPool& descriptors = options_.shared.pool(port.listener.options());
  if (!descriptors.take()) {
    port.listener.give_back();
    pause(port, PauseReason::kDescriptors);
    return false;
  }
  SocketAddress address;
  Fd fd(::accept4(socket.get(), address.get(), &address.length, SOCK_NONBLOCK | SOCK_CLOEXEC));
  const int error = errno;
  if (fd.valid()) {
    const Endpoint peer = address.endpoint();
    const Admission admission = port.listener.admit_peer(peer.address, now_);
    if (!admission.refused) {
      open(index, std::move(fd), peer, admission.counted);
      return true;
    }
    count_rejected(index, peer, *admission.refused);
    reset_on_close(fd);  // it costs neither a TIME_WAIT nor a wait for the peer
  }
  port.listener.give_back();
  descriptors.give();
  if (fd.valid() || is_of_one_connection(error)) return true;
  if (error != EAGAIN) pause(port, pause_reason_of(error));
  return false;
}

void Worker::count_rejected(std::size_t index, const Endpoint& client, RejectReason reason,
                            std::optional<Endpoint> via) {
  ++statistics_[index].rejected[static_cast<std::size_t>(reason)];
  const ListenerOptions& listener = ports_[index].listener.options();
  if (options_.shared.audit == nullptr || !listener.audit) return;
  options_.shared.audit->write(AuditDeny{.listener = listener.name,
                                         .peer = client,
                                         .via = via,
                                         .why = kRejectReasons[static_cast<std::size_t>(reason)]});
}

// Level-triggered, a listener that cannot accept would be reported again at once and burn the core.
void Worker::pause(Port& port, PauseReason reason) {
  const auto index = static_cast<std::size_t>(&port - ports_.data());
  ++statistics_[index].pauses[static_cast<std::size_t>(reason)];
  watch_port(index, 0);
  port.paused = true;
  port.resume_at = now_ + kAcceptPause;
}

bool Worker::watch_port(std::size_t index, std::uint32_t events) {
  bool watched = true;
  for (const Fd& socket : ports_[index].sockets) {
    watched = watch_fd(epoll_, EPOLL_CTL_MOD, socket.get(), events, index) && watched;
  }
  return watched;
}

void Worker::resume_ports() {
  for (std::size_t i = 0; i < ports_.size(); ++i) {
    Port& port = ports_[i];
    if (!port.paused || now_ < port.resume_at) continue;
    port.paused = !watch_port(i, EPOLLIN);
    if (port.paused) port.resume_at = now_ + kAcceptPause;
  }
}

// Told to epoll too: another process may go on with the same socket, and keep it open.
void Worker::close_ports() {
  for (Port& port : ports_) {
    for (const Fd& socket : port.sockets) watch_fd(epoll_, EPOLL_CTL_DEL, socket.get(), 0, 0);
    port.sockets.clear();
    port.paused = false;
  }
}

void Worker::open(std::size_t index, Fd fd, const Endpoint& peer, bool counted) {
  ++statistics_[index].accepted;
  const ServerListener& listener = ports_[index].listener;
  const Phase first = listener.has_proxies()      ? Phase::kProxyHeader
                      : listener.tls() != nullptr ? Phase::kHandshake
                                                  : Phase::kOpen;
  Connection& c = add(index, std::move(fd), peer, first);
  c.id = options_.shared.next_connection_id.fetch_add(1, std::memory_order_relaxed);
  c.counted = counted;
  if (first == Phase::kProxyHeader) {
    begin(c, first);
  } else {
    begin_stream(c);
  }
}

Connection& Worker::add(std::size_t index, Fd fd, const Endpoint& peer, Phase first) {
  if (slab_.live() == 0) next_sweep_ = now_ + options_.sweep_interval;
  Connection& c = slab_.acquire(std::move(fd));
  c.listener = static_cast<std::uint16_t>(index);
  c.peer = peer;
  c.opened = now_;
  c.active_tick = tick_;
  c.phase = first;
  c.events = wanted_events(c);
  if (!watch_fd(epoll_, EPOLL_CTL_ADD, c.fd.get(), c.events, c.tag())) doom(c, CloseCause::kError);
  return c;
}

Result<Connection*> Worker::connect(Connection& from, const Endpoint& to,
                                    const std::function<void(const Endpoint&)>& bound) {
  DescriptorPool& descriptors = options_.shared.pool(options_of(from));
  if (!descriptors.take()) return errno_error("connect", EMFILE);
  auto fd = connect_socket(to, bound);
  if (!fd) {
    descriptors.give();
    return std::move(fd.error());
  }
  Connection& c = add(from.listener, std::move(*fd), to, Phase::kConnecting);
  c.outbound = true;
  begin(c, Phase::kConnecting);
  return &c;
}

}  // namespace tcpvitals
