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
  if (port.paused) return;
  for (const SharedFd& socket : port.sockets) {
    for (int i = 0; i < kAcceptsPerTurn && accept_one(index, *socket); ++i) {
    }
    if (port.paused) return;
  }
  // The kernel wakes the first that waits: behind the others now, so that all have their turn.
  if (!port.shared) return;
  unwatch_port(index);
  if (!watch_port(index)) pause(index, PauseReason::kError);
}

// False: there is none, or the port pauses.
bool Worker::accept_one(std::size_t index, const Fd& socket) {
  Port& port = ports_[index];
  if (!port.common->reserve(port.settings->limit)) {
    pause(index, PauseReason::kLimit);
    return false;
  }
  DescriptorPool& descriptors = options_.shared.pool(port.options());
  const std::uint32_t needed = descriptors_for(port.options().handler);
  if (!descriptors.take(needed)) {
    port.common->give_back();
    pause(index, PauseReason::kDescriptors);
    return false;
  }
  SocketAddress address;
  Fd fd;
  if (needed == 1 || has_spare(port)) {
    fd = Fd(::accept4(socket.get(), address.get(), &address.length, SOCK_NONBLOCK | SOCK_CLOEXEC));
  }
  const int error = errno;
  if (fd.valid()) {
    const Endpoint peer = address.endpoint();
    const Admission admission = port.common->admit_peer(*port.settings, peer.address, now_);
    if (!admission.refused) {
      open(index, std::move(fd), peer, admission.counted);
      return true;
    }
    count_rejected(index, peer, *admission.refused);
    reset_on_close(fd);  // it costs neither a TIME_WAIT nor a wait for the peer
  }
  port.common->give_back();
  descriptors.give(needed);
  if (fd.valid() || is_of_one_connection(error)) return true;
  if (error != EAGAIN) pause(index, pause_reason_of(error));
  return false;
}

void Worker::count_rejected(std::size_t index, const Endpoint& client, RejectReason reason,
                            std::optional<Endpoint> via) {
  ++ports_[index].statistics->rejected[static_cast<std::size_t>(reason)];
  const ListenerOptions& listener = ports_[index].options();
  if (options_.shared.audit == nullptr || !listener.audit) return;
  options_.shared.audit->write(AuditDeny{.listener = listener.name,
                                         .peer = client,
                                         .via = via,
                                         .why = kRejectReasons[static_cast<std::size_t>(reason)]});
}

// Level-triggered, a listener that cannot accept would be reported again at once and burn the core.
void Worker::pause(std::size_t index, PauseReason reason) {
  Port& port = ports_[index];
  ++port.statistics->pauses[static_cast<std::size_t>(reason)];
  unwatch_port(index);
  port.paused = true;
  port.resume_at = now_ + kAcceptPause;
}

// An exclusive watch cannot be changed, only be taken away and added.
bool Worker::watch_port(std::size_t index) {
  bool watched = true;
  for (const SharedFd& socket : ports_[index].sockets) {
    watched = watched && watch_fd(epoll_, EPOLL_CTL_ADD, socket->get(), kAcceptEvents, index);
  }
  return watched;
}

void Worker::unwatch_port(std::size_t index) {
  for (const SharedFd& socket : ports_[index].sockets) {
    watch_fd(epoll_, EPOLL_CTL_DEL, socket->get(), 0, index);
  }
}

void Worker::resume_ports() {
  for (std::size_t i = 0; i < ports_.size(); ++i) {
    Port& port = ports_[i];
    if (!port.paused || now_ < port.resume_at) continue;
    port.paused = !watch_port(i);
    if (!port.paused) continue;
    unwatch_port(i);
    port.resume_at = now_ + kAcceptPause;
  }
}

// Told to epoll too: another process may go on with the same socket, and keep it open.
void Worker::close_ports() {
  for (std::size_t i = 0; i < ports_.size(); ++i) {
    unwatch_port(i);
    ports_[i].sockets.clear();
    ports_[i].paused = false;
  }
}

void Worker::open(std::size_t index, Fd fd, const Endpoint& peer, bool counted) {
  Port& port = ports_[index];
  ++port.statistics->accepted;
  const Phase first = port.settings->has_proxies() ? Phase::kProxyHeader
                      : port.settings->tls         ? Phase::kHandshake
                                                   : Phase::kOpen;
  Connection& c = add(index, std::move(fd), peer, first);
  c.id = options_.shared.next_connection_id.fetch_add(1, std::memory_order_relaxed);
  c.counted = counted;
  c.has_spare = descriptors_for(port.options().handler) > 1;
  if (c.has_spare) ++port.owed;
  if (first == Phase::kProxyHeader) {
    begin(c, first);
  } else {
    begin_stream(c);
  }
}

Connection& Worker::add(std::size_t index, Fd fd, const Endpoint& peer, Phase first) {
  if (slab_.live() == 0) next_sweep_ = now_ + options_.sweep_interval;
  Connection& c = slab_.acquire(std::move(fd));
  c.port = static_cast<std::uint16_t>(index);
  ++ports_[index].connections;
  c.peer = peer;
  c.opened = now_;
  c.phase = first;
  c.events = wanted_events(c);
  if (!watch_fd(epoll_, EPOLL_CTL_ADD, c.fd.get(), c.events, c.tag())) doom(c, CloseCause::kError);
  return c;
}

// Whether a socket is there for the backend of the next client. If not, errno says why.
bool Worker::has_spare(Port& port) const {
  if (port.spares.size() > port.owed) return true;
  Fd fd = open_socket(port.options().backend);
  if (!fd.valid()) return false;
  port.spares.push_back(std::move(fd));
  return true;
}

// The one that was kept for the client; for a handler of one's own a new one.
Result<Fd> Worker::take_socket(Connection& from, const Endpoint& to) {
  if (from.has_spare) {
    from.has_spare = false;
    Port& port = ports_[from.port];
    --port.owed;
    Fd fd = std::move(port.spares.back());
    port.spares.pop_back();
    if (fd.valid()) return fd;
  } else if (!options_.shared.pool(options_of(from)).take(1)) {
    return errno_error("socket", EMFILE);
  }
  Fd fd = open_socket(to);
  if (fd.valid()) return fd;
  const int error = errno;
  options_.shared.pool(options_of(from)).give(1);
  return errno_error("socket", error);
}

// It goes without a backend.
void Worker::drop_spare(Connection& c) {
  Port& port = ports_[c.port];
  --port.owed;
  port.spares.pop_back();
  options_.shared.pool(port.options()).give(1);
}

Result<Connection*> Worker::connect(Connection& from, const Endpoint& to,
                                    const std::function<void(const Endpoint&)>& bound) {
  std::uint64_t& failures = statistics_of(from).backend_failures;
  auto fd = take_socket(from, to);
  if (!fd) {
    ++failures;
    return std::move(fd.error());
  }
  auto sent = set_connection_options(*fd, options_of(from));
  if (sent) sent = connect_socket(*fd, to, bound);
  if (!sent) {
    ++failures;
    options_.shared.pool(options_of(from)).give(1);
    return std::move(sent.error());
  }
  Connection& c = add(from.port, std::move(*fd), to, Phase::kConnecting);
  c.outbound = true;
  begin(c, Phase::kConnecting);
  return &c;
}

}  // namespace tcpvitals
