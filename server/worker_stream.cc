// A worker's connections: their phases, bytes in, bytes out, and what epoll watches for.
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "server/socket_address.h"
#include "server/worker.h"

namespace tcpvitals {
namespace {

constexpr std::uint32_t kReadEdge = EPOLLIN | EPOLLPRI | EPOLLRDHUP | EPOLLET;

bool try_again(int error) { return error == EAGAIN || error == EINTR; }

// What output waits for. OpenSSL writes nothing while it has half a message of the handshake layer.
std::uint32_t room_event(const Connection& c) { return c.tls_reads ? EPOLLIN : EPOLLOUT; }

bool readable(const Connection& c) {
  return !c.paused && !c.peer_ended && !c.tls_writes && (c.duplex || !c.output);
}

}  // namespace

void Worker::begin(Connection& c, Phase phase) {
  c.phase = phase;
  c.read_tick = tick_;
  expect_progress(c);
  touch(c);
}

// What a connection begins with when it is known whose it is.
void Worker::begin_stream(Connection& c) {
  if (ports_[c.port].settings->tls) return begin_handshake(c);
  become_open(c);
}

void Worker::become_open(Connection& c) {
  begin(c, Phase::kOpen);
  c.handled = true;
  if (!c.outbound) audit_open(c);
  handler_of(c).on_open(Stream(*this, c));
}

void Worker::serve(Connection& c, std::uint32_t events) {
  switch (c.phase) {
    case Phase::kProxyHeader:
      return read_proxy_header(c, (events & (EPOLLRDHUP | EPOLLHUP)) != 0);
    case Phase::kHandshake:
      return shake_hands(c);
    case Phase::kConnecting:
      return finish_connect(c);
    case Phase::kResetting:
      if (c.output) return go_on_writing(c);
      return (events & EPOLLERR) != 0 ? fail(c, take_error(c.fd)) : touch(c);
    case Phase::kFinishing:
      return await_final_ack(c, (events & EPOLLERR) != 0);
    case Phase::kOpen:
      break;
  }
  const std::uint32_t goes_on = room_event(c) | EPOLLERR | EPOLLHUP;
  if (c.waits_to_write() && (events & goes_on) != 0) go_on_writing(c);
  if (c.doomed) return;
  if (readable(c)) return read_from(c, (events & ~(EPOLLIN | EPOLLOUT)) != 0);
  const bool failed = c.lost || (events & EPOLLERR) != 0;
  if (!failed || has_unread(c)) return;  // a handler that does not read now may do so later
  c.lost ? end_lost(c) : fail(c, take_error(c.fd));
}

// ---- before the stream ----

// Only looked at until it is whole, so that TLS finds its first byte in the socket.
void Worker::read_proxy_header(Connection& c, bool peer_ended) {
  const ssize_t n = ::recv(c.fd.get(), read_buffer_.get(), kMaxProxyHeader, MSG_PEEK);
  const int error = errno;
  if (n < 0 && try_again(error)) return watch_anew(c);
  if (n <= 0) {  // a health check that only connects, or is gone before anyone reads what it said
    c.proxied = std::make_unique<ProxiedEnds>(ProxiedEnds{c.peer, local_endpoint(c.fd), true});
    if (n < 0) return fail(c, error);
    c.vitals.peer_fin = true;
    return doom(c, CloseCause::kPeerFin);
  }
  const std::span bytes(read_buffer_.get(), static_cast<std::size_t>(n));
  const auto header = parse_proxy_header(std::as_bytes(bytes));
  if (!header || (!*header && peer_ended)) return doom(c, CloseCause::kProxyError);
  if (!*header) return;
  const ssize_t taken = ::recv(c.fd.get(), read_buffer_.get(), (*header)->size, 0);
  if (taken < 0) return fail(c, errno);
  if (static_cast<std::size_t>(taken) != (*header)->size) return doom(c, CloseCause::kError);
  take_proxied(c, **header);
}

void Worker::take_proxied(Connection& c, const ProxyHeader& header) {
  // Version 1 has no LOCAL: there a proxy that checks for itself is its own client.
  const bool probe = header.local || header.source == c.peer;
  c.proxied = std::make_unique<ProxiedEnds>(
      header.has_addresses ? ProxiedEnds{header.source, header.destination, probe}
                           : ProxiedEnds{c.peer, local_endpoint(c.fd), probe});
  if (options_of(c).send_proxy) c.proxied->header.assign(read_buffer_.get(), header.size);
  if (!probe) {
    const Port& port = ports_[c.port];
    const Admission admission =
        port.common->admit_client(*port.settings, c.proxied->client.address, now_);
    if (admission.refused) {
      count_rejected(c.port, c.proxied->client, *admission.refused, c.peer);
      return doom(c, CloseCause::kDenied);
    }
    c.counted = admission.counted;
  }
  begin_stream(c);
}

void Worker::begin_handshake(Connection& c) {
  const Port& port = ports_[c.port];
  const auto context = port.settings->tls->current();
  if (!context) return doom(c, CloseCause::kTlsError);  // its files became others a moment ago
  if (!port.common->begin_handshake(port.options().tls.max_handshakes)) {
    count_rejected(c.port, c.client(), RejectReason::kHandshakes);
    return doom(c, CloseCause::kDenied);
  }
  c.shakes_hands = true;
  begin(c, Phase::kHandshake);
  auto session = TlsSession::accept(*context, c.fd.get());
  if (!session) return doom(c, CloseCause::kError);
  c.tls = std::move(*session);
}

void Worker::shake_hands(Connection& c) {
  const TlsStep step = c.tls->handshake();
  c.tls_writes = step == TlsStep::kWantWrite;
  if (step == TlsStep::kWantRead || step == TlsStep::kWantWrite) return touch(c);
  const bool done = step == TlsStep::kDone;
  end_handshake(c, done ? TlsOutcome::kOk : c.tls->failure().outcome);
  if (!done) {
    const TlsFailure& failure = c.tls->failure();
    if (failure.error != 0) return fail(c, failure.error);
    return doom(
        c, failure.outcome == TlsOutcome::kClosed ? CloseCause::kPeerFin : CloseCause::kTlsError);
  }
  become_open(c);
  if (c.tls->pending() && readable(c) && !c.doomed) read_from(c);
}

void Worker::end_handshake(Connection& c, TlsOutcome outcome) {
  ListenerStatistics& statistics = statistics_of(c);
  ++statistics.handshakes[static_cast<std::size_t>(outcome)];
  if (outcome == TlsOutcome::kOk) {
    statistics.handshake_time.observe(static_cast<std::uint64_t>(
        std::chrono::duration_cast<std::chrono::microseconds>(now_ - c.tls->began()).count()));
  }
  c.shakes_hands = false;
  ports_[c.port].common->end_handshake();
}

void Worker::finish_connect(Connection& c) {
  ListenerStatistics& statistics = statistics_of(c);
  c.error = static_cast<std::int16_t>(take_error(c.fd));
  if (c.error != 0) {
    ++statistics.backend_failures;
    return doom(c, CloseCause::kBackend);
  }
  ++statistics.backend_connections;
  become_open(c);
}

// ---- bytes in ----

// A short read has emptied the socket, unless the kernel said that more than data is there: an end,
// an error, an urgent mark.
void Worker::read_from(Connection& c, bool more_than_data) {
  const std::size_t size = std::min<std::size_t>(kReadBuffer, options_of(c).max_output_bytes);
  const std::span room(read_buffer_.get(), size);
  if (c.tls) {
    while (read_tls(c, room) == TlsStep::kDone && c.tls->pending() && readable(c) && !c.doomed) {
    }
    return;
  }
  const ssize_t n = ::recv(c.fd.get(), room.data(), room.size(), 0);
  if (n > 0) {
    const auto bytes = static_cast<std::size_t>(n);
    if (bytes == size || more_than_data) watch_anew(c);
    take_bytes(c, room.first(bytes));
    if (c.lost && !has_unread(c)) end_lost(c);
    return;
  }
  if (n < 0 && errno == EINTR) return watch_anew(c);
  if (c.lost) return end_lost(c);
  if (n == 0) {
    c.vitals.peer_fin = true;
    return end_of_stream(c);
  }
  if (errno != EAGAIN) fail(c, errno);
}

TlsStep Worker::read_tls(Connection& c, std::span<char> room) {
  const TlsIo io = c.tls->read(room);
  if (c.lost && io.step != TlsStep::kDone) {
    if (io.step == TlsStep::kEnd) end_of_stream(c);
    end_lost(c);
    return io.step;
  }
  switch (io.step) {
    case TlsStep::kDone:
      take_bytes(c, room.first(io.bytes));
      if (c.lost && !has_unread(c)) end_lost(c);
      break;
    case TlsStep::kTruncated:
      c.vitals.peer_fin = true;
      break_off(c, CloseCause::kTruncated);
      break;
    case TlsStep::kEnd:
      end_of_stream(c);
      break;
    case TlsStep::kFailed:
      if (const int error = c.tls->failure().error; error != 0) {
        fail(c, error);
      } else {
        doom(c, CloseCause::kTlsError);
      }
      break;
    case TlsStep::kWantWrite:  // an answer to a KeyUpdate, under the same deadline as other output
      c.tls_writes = true;
      expect_progress(c);
      touch(c);
      break;
    case TlsStep::kWantRead:
      break;
  }
  return io.step;
}

void Worker::take_bytes(Connection& c, std::span<const char> bytes) {
  c.read_bytes += bytes.size();
  c.read_tick = tick_;
  handler_of(c).on_data(Stream(*this, c), {bytes.data(), bytes.size()});
}

void Worker::end_of_stream(Connection& c) {
  c.peer_ended = true;
  touch(c);
  handler_of(c).on_end(Stream(*this, c));
}

// ---- bytes out ----

Worker::Sent Worker::transmit(Connection& c, std::span<const char> bytes) {
  Sent sent;
  while (sent.bytes < bytes.size()) {
    const auto rest = bytes.subspan(sent.bytes);
    if (c.tls) {
      const TlsIo io = c.tls->write(rest);
      sent.bytes += io.bytes;
      if (io.step == TlsStep::kDone) continue;
      c.tls_reads = io.step == TlsStep::kWantRead;
      if (io.step == TlsStep::kFailed) {
        const int error = c.tls->failure().error;
        sent.error = error != 0 ? error : EPROTO;
      }
      break;
    }
    const ssize_t n = ::send(c.fd.get(), rest.data(), rest.size(), MSG_NOSIGNAL);
    if (n < 0 && !try_again(errno)) sent.error = errno;
    if (n > 0) sent.bytes += static_cast<std::size_t>(n);
    break;
  }
  c.written_bytes += sent.bytes;
  return sent;
}

bool Worker::write_to(Connection& c, std::span<const char> bytes) {
  if (c.doomed || c.finish_asked || c.phase == Phase::kResetting) return false;
  if (c.lost) return true;
  Sent sent;
  if (!c.output && c.phase == Phase::kOpen) {
    sent = transmit(c, bytes);
    if (sent.error != 0) {
      lose(c, sent.error);
      return !c.doomed;
    }
  }
  const auto rest = bytes.subspan(sent.bytes);
  if (rest.empty()) return true;
  if (c.pending() + rest.size() > options_of(c).max_output_bytes) {
    doom(c, CloseCause::kHandler);
    return false;
  }
  if (!c.output) {
    c.output = std::make_unique<PendingOutput>();
    expect_progress(c);
  }
  c.output->append(rest);
  statistics_of(c).output_buffer_bytes += rest.size();
  touch(c);
  return false;
}

void Worker::drop_output(Connection& c) {
  statistics_of(c).output_buffer_bytes -= c.pending();
  c.output.reset();
}

// There is room: for output, for what OpenSSL has to say before it reads on, or for close_notify.
void Worker::go_on_writing(Connection& c) {
  if (c.tls) {
    c.tls_writes = c.tls_reads = false;
    touch(c);
  }
  if (c.output) flush(c);
}

// The socket has room only for what the peer has acknowledged.
void Worker::flush(Connection& c) {
  const Sent sent = transmit(c, c.output->waiting());
  c.output->drop(sent.bytes);
  statistics_of(c).output_buffer_bytes -= sent.bytes;
  if (sent.bytes > 0) expect_progress(c);
  if (sent.error == 0 && c.output->size() > 0) return;
  if (sent.error != 0) lose(c, sent.error);
  if (c.doomed) return;
  c.output.reset();
  touch(c);
  if (c.phase == Phase::kOpen) handler_of(c).on_drained(Stream(*this, c));
}

// ---- after each call ----

void Worker::touch(Connection& c) {
  if (c.touched) return;
  c.touched = true;
  touched_.push_back(c.slot);
}

// Settling one may touch others, and the same again.
void Worker::settle_touched() {
  for (std::size_t i = 0; i < touched_.size(); ++i) {
    Connection& c = slab_.at(touched_[i]);
    if (!c.fd.valid() || !c.touched) continue;
    c.touched = false;
    settle(c);
  }
  touched_.clear();
}

void Worker::settle(Connection& c) {
  if (c.doomed) return release(c, c.cause);
  if (c.phase == Phase::kOpen) {
    if (c.finish_asked && !c.finished && !c.output && !c.lost) send_fin(c);
    if (c.doomed) return;
    if (c.finished && c.peer_ended) {
      if (c.outbound || sample(c) == TCP_CLOSE) return release(c, CloseCause::kPeerFin);
      begin(c, Phase::kFinishing);
    }
  }
  const bool delivered = c.phase == Phase::kResetting && !c.output && unacknowledged(c.fd) == 0;
  if (delivered) return release(c, c.cause);
  watch(c);
  schedule(c);
  // What TLS has read already, epoll does not tell of.
  if (c.phase == Phase::kOpen && c.tls && readable(c) && c.tls->pending()) read_from(c);
}

// ---- what epoll knows of it ----

// An open connection is told of by the edge: epoll need not look again whether it was emptied. What
// waits to be written, and what OpenSSL reads, is told of for as long as it is so. Where nothing is
// awaited only changes may wake us: a socket that is shut is always ready.
std::uint32_t Worker::wanted_events(const Connection& c) const {
  switch (c.phase) {
    case Phase::kProxyHeader:
      return EPOLLIN | EPOLLRDHUP | EPOLLET;  // what is only looked at stays readable
    case Phase::kHandshake:
      return c.tls_writes ? EPOLLOUT : EPOLLIN;
    case Phase::kConnecting:
      return EPOLLOUT;
    case Phase::kResetting:
      return c.output ? room_event(c) : EPOLLET;
    case Phase::kFinishing:
      return EPOLLET;
    case Phase::kOpen:
      break;
  }
  if (c.waits_to_write()) return room_event(c) | (readable(c) ? EPOLLIN : 0U);
  if (!readable(c)) return EPOLLET;
  return c.tls ? EPOLLIN : kReadEdge;
}

// The edge is used up, and there may be more: epoll looks, and tells of it in its turn.
void Worker::watch_anew(Connection& c) {
  c.events = 0;
  touch(c);
}

// Fails only for want of memory, and then for good: the connection would never be heard of again.
void Worker::watch(Connection& c) {
  const std::uint32_t wanted = wanted_events(c);
  if (wanted == c.events) return;
  c.events = wanted;
  if (!watch_fd(epoll_, EPOLL_CTL_MOD, c.fd.get(), wanted, c.tag())) doom(c, CloseCause::kError);
}

}  // namespace tcpvitals
