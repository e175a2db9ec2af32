// A worker's connections: their phases from the first byte to the last, and what handlers do to
// their streams.
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "server/socket_address.h"
#include "server/worker.h"

namespace tcpvitals {
namespace {

// How long a finished connection is kept for the acknowledgement that makes its counters final.
constexpr std::chrono::seconds kFinalAckWait(10);

constexpr std::uint32_t kReadEdge = EPOLLIN | EPOLLPRI | EPOLLRDHUP | EPOLLET;

bool try_again(int error) { return error == EAGAIN || error == EINTR; }

// Bytes of what was sent, a FIN is one. Also of a connection that the kernel has ended. Cannot fail
// on a socket that was ever connected.
std::uint32_t unacknowledged(const Fd& fd) {
  int bytes = 0;
  ::ioctl(fd.get(), SIOCOUTQ, &bytes);
  return static_cast<std::uint32_t>(bytes);
}

bool readable(const Connection& c) { return !c.paused && !c.peer_ended && (c.duplex || !c.output); }

}  // namespace

void Worker::begin(Connection& c, Phase phase) {
  c.phase = phase;
  c.phase_began = now_;
  touch(c);
}

// What a connection begins with when it is known whose it is.
void Worker::begin_stream(Connection& c) {
  if (ports_[c.listener].listener.tls() != nullptr) return begin_handshake(c);
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
    case Phase::kFinishing:
      return await_final_ack(c, (events & EPOLLERR) != 0);
    case Phase::kOpen:
      break;
  }
  if (c.output && (events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) != 0) flush(c);
  if (c.doomed) return;
  if (readable(c)) return read_from(c, (events & ~(EPOLLIN | EPOLLOUT)) != 0);
  if ((events & EPOLLERR) != 0) fail(c, take_error(c.fd));
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
    const Admission admission =
        ports_[c.listener].listener.admit_client(c.proxied->client.address, now_);
    if (admission.refused) {
      count_rejected(c.listener, c.proxied->client, *admission.refused, c.peer);
      return doom(c, CloseCause::kDenied);
    }
    c.counted = admission.counted;
  }
  begin_stream(c);
}

void Worker::begin_handshake(Connection& c) {
  ServerListener& listener = ports_[c.listener].listener;
  if (!listener.begin_handshake()) {
    count_rejected(c.listener, c.client(), RejectReason::kHandshakes);
    return doom(c, CloseCause::kDenied);
  }
  c.shakes_hands = true;
  begin(c, Phase::kHandshake);
  auto session = TlsSession::accept(*listener.tls()->current(), c.fd.get());
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
  ListenerStatistics& statistics = statistics_[c.listener];
  ++statistics.handshakes[static_cast<std::size_t>(outcome)];
  if (outcome == TlsOutcome::kOk) {
    statistics.handshake_time.observe(static_cast<std::uint64_t>(
        std::chrono::duration_cast<std::chrono::microseconds>(now_ - c.phase_began).count()));
  }
  c.shakes_hands = false;
  ports_[c.listener].listener.end_handshake();
}

void Worker::finish_connect(Connection& c) {
  ListenerStatistics& statistics = statistics_[c.listener];
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
    return take_bytes(c, room.first(bytes));
  }
  if (n == 0) {
    c.vitals.peer_fin = true;
    return end_of_stream(c);
  }
  if (errno == EINTR) return watch_anew(c);
  if (errno != EAGAIN) fail(c, errno);
}

TlsStep Worker::read_tls(Connection& c, std::span<char> room) {
  const TlsIo io = c.tls->read(room);
  switch (io.step) {
    case TlsStep::kDone:
      take_bytes(c, room.first(io.bytes));
      break;
    case TlsStep::kTruncated:
      c.vitals.peer_fin = true;
      doom(c, CloseCause::kTruncated);
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
    case TlsStep::kWantRead:
    case TlsStep::kWantWrite:
      break;
  }
  return io.step;
}

void Worker::take_bytes(Connection& c, std::span<const char> bytes) {
  c.read_bytes += bytes.size();
  c.active_tick = tick_;
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
  if (sent.bytes > 0) {
    c.written_bytes += sent.bytes;
    c.active_tick = c.write_tick = tick_;
  }
  return sent;
}

bool Worker::write_to(Connection& c, std::span<const char> bytes) {
  if (c.doomed || c.finish_asked) return false;
  Sent sent;
  if (!c.output && c.phase == Phase::kOpen) {
    sent = transmit(c, bytes);
    if (sent.error != 0) {
      fail(c, sent.error);
      return false;
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
    c.write_tick = tick_;
  }
  c.output->bytes.insert(c.output->bytes.end(), rest.begin(), rest.end());
  statistics_[c.listener].output_buffer_bytes += rest.size();
  touch(c);
  return false;
}

void Worker::flush(Connection& c) {
  PendingOutput& output = *c.output;
  const Sent sent = transmit(c, std::span(output.bytes).subspan(output.sent));
  output.sent += sent.bytes;
  statistics_[c.listener].output_buffer_bytes -= sent.bytes;
  if (sent.error != 0) return fail(c, sent.error);
  if (output.size() > 0) return;
  c.output.reset();
  touch(c);
  handler_of(c).on_drained(Stream(*this, c));
}

// ---- ends ----

void Worker::fail(Connection& c, int error) {
  c.error = static_cast<std::int16_t>(error);
  switch (error) {
    case EPIPE:
      c.vitals.peer_fin = true;  // a reset that came after the FIN
      [[fallthrough]];
    case ECONNRESET:
      return doom(c, CloseCause::kPeerRst);
    // The kernel gave up. ICMP may have told it why, and then that is the error.
    case ETIMEDOUT:
    case EHOSTUNREACH:
    case EHOSTDOWN:
    case ENETUNREACH:
    case ECONNREFUSED:
    case EACCES:
      return doom(
          c, unacknowledged(c.fd) == 0 ? CloseCause::kKeepaliveDead : CloseCause::kUserTimeout);
    default:
      return doom(c, CloseCause::kError);
  }
}

void Worker::doom(Connection& c, CloseCause cause) {
  if (c.doomed) return;
  c.doomed = true;
  c.cause = cause;
  touch(c);
}

void Worker::touch(Connection& c) {
  if (std::exchange(c.touched, true)) return;
  touched_.push_back(c.slot);
}

// Settling one may touch others, and the same again.
void Worker::settle_touched() {
  for (std::size_t i = 0; i < touched_.size(); ++i) {
    Connection& c = slab_.at(touched_[i]);
    if (c.fd.valid() && std::exchange(c.touched, false)) settle(c);
  }
  touched_.clear();
}

void Worker::settle(Connection& c) {
  if (c.doomed) return release(c, c.cause);
  if (c.phase == Phase::kOpen) {
    if (c.finish_asked && !c.finished && !c.output && !send_fin(c)) {
      return release(c, CloseCause::kPeerRst);
    }
    if (c.finished && c.peer_ended) {
      if (c.outbound || sample(c) == TCP_CLOSE) return release(c, CloseCause::kPeerFin);
      begin(c, Phase::kFinishing);
    }
  }
  watch(c);
  schedule(c);
  // What TLS has read already, epoll does not tell of.
  if (c.phase == Phase::kOpen && c.tls && readable(c) && c.tls->pending()) read_from(c);
}

bool Worker::send_fin(Connection& c) {
  c.finished = true;
  c.active_tick = tick_;
  if (c.tls) c.tls->shutdown();
  return ::shutdown(c.fd.get(), SHUT_WR) == 0;
}

// Both ends are shut. When the peer has acknowledged ours, nothing can be sent again and the
// counters are final. A near peer has done so before shutdown() returns.
void Worker::await_final_ack(Connection& c, bool failed) {
  if (failed) return fail(c, take_error(c.fd));
  if (sample(c) == TCP_CLOSE) doom(c, CloseCause::kPeerFin);
}

// ---- what epoll and the wheel know of it ----

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
    case Phase::kFinishing:
      return EPOLLET;
    case Phase::kOpen:
      break;
  }
  if (c.output) return EPOLLOUT | (readable(c) ? EPOLLIN : 0U);
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

Worker::Due Worker::due(const Connection& c) const {
  const Deadlines& deadlines = options_of(c).deadlines;
  Due first{0, CloseCause::kError};
  const auto consider = [&](std::uint32_t since, std::chrono::seconds wait, CloseCause cause) {
    if (wait.count() == 0) return;
    // The tick that has begun counts for nothing: never too early.
    const auto tick = since + static_cast<std::uint32_t>(wait.count()) + 1;
    if (first.tick == 0 || tick < first.tick) first = {tick, cause};
  };
  const std::uint32_t began = tick_of(c.phase_began);
  switch (c.phase) {
    case Phase::kProxyHeader:
      consider(began, deadlines.proxy_header, CloseCause::kProxyTimeout);
      break;
    case Phase::kHandshake:
      consider(began, deadlines.handshake, CloseCause::kHandshakeTimeout);
      break;
    case Phase::kConnecting:
      consider(began, deadlines.connect, CloseCause::kBackend);
      break;
    case Phase::kFinishing:
      consider(began, kFinalAckWait, CloseCause::kUnacknowledged);
      break;
    case Phase::kOpen:
      if (c.output) consider(c.write_tick, deadlines.write_stall, CloseCause::kWriteStall);
      if (c.outbound) break;
      consider(c.active_tick, deadlines.idle, CloseCause::kIdleTimeout);
      if (c.finished) consider(c.active_tick, deadlines.half_closed, CloseCause::kIdleTimeout);
      break;
  }
  if (!c.outbound && c.phase != Phase::kFinishing) {
    consider(tick_of(c.opened), deadlines.lifetime, CloseCause::kLifetime);
  }
  return first;
}

// After our end of the stream all that is left of it is the kernel's, and only the kernel knows
// whether the peer goes on taking it.
bool Worker::takes_the_rest(Connection& c) const {
  if (!c.finished) return false;
  const std::uint32_t left = unacknowledged(c.fd);
  return std::exchange(c.unacknowledged, left) != left;
}

// Later than before is no matter: who is called too early is put back.
void Worker::schedule(Connection& c) {
  const std::uint32_t tick = due(c).tick;
  if (tick != 0 && (c.timer.due == 0 || tick < c.timer.due)) wheel_.set(c.slot, tick);
}

void Worker::on_due(Connection& c) {
  const Due now = due(c);
  if (now.tick == 0) return;
  if (now.tick > tick_) return wheel_.set(c.slot, now.tick);
  if (now.cause == CloseCause::kIdleTimeout && takes_the_rest(c)) {
    c.active_tick = tick_;
    return wheel_.set(c.slot, due(c).tick);
  }
  if (c.phase == Phase::kConnecting) {
    c.error = ETIMEDOUT;
    ++statistics_[c.listener].backend_failures;
  }
  doom(c, now.cause);
}

// ---- the last of it ----

// The only way from TCP_INFO into the totals. The connection's state, as the kernel numbers it.
std::uint8_t Worker::sample(Connection& c) {
  return c.vitals.sample(c.fd.get(), statistics_[c.listener].tcp);
}

void Worker::release(Connection& c, CloseCause cause) {
  if (c.drained && cause == CloseCause::kPeerFin) cause = CloseCause::kDrain;
  Port& port = ports_[c.listener];
  ListenerStatistics& statistics = statistics_[c.listener];
  if (c.shakes_hands) {
    end_handshake(
        c, cause == CloseCause::kHandshakeTimeout ? TlsOutcome::kTimeout : TlsOutcome::kClosed);
  }
  statistics.output_buffer_bytes -= c.pending();
  if (!c.outbound) {
    ++statistics.closed[static_cast<std::size_t>(cause)];
    statistics.lifetime.observe(static_cast<std::uint64_t>(
        std::chrono::duration_cast<std::chrono::microseconds>(now_ - c.opened).count()));
    c.vitals.finish(c.fd.get(), statistics.tcp);
    audit_open(c);
    audit_close(c, cause);
    if (c.counted) port.listener.leave(c.client().address);
  }
  if (c.handled || c.outbound) handler_of(c).on_close(Stream(*this, c), cause);
  // What waits will not be sent: without a reset what was would look whole.
  if (c.reset || c.output) reset_on_close(c.fd);
  wheel_.clear(c.slot);
  if (!c.outbound) port.listener.give_back();
  if (c.has_spare) drop_spare(c);
  slab_.release(c);
  options_.shared.pool(port.listener.options()).give(1);
  port.resume_at = now_;  // there is a place and a descriptor again
}

AuditLog* Worker::audit_of(const Connection& c) const {
  return options_of(c).audit ? options_.shared.audit : nullptr;
}

// When what can be known of it is known, but in any case before its end.
void Worker::audit_open(Connection& c) {
  AuditLog* const audit = audit_of(c);
  if (audit == nullptr || std::exchange(c.audited, true)) return;
  AuditOpen record{.id = c.id,
                   .listener = options_of(c).name,
                   .peer = c.client(),
                   .local = server_end(c),
                   .tls = options_of(c).tls.enabled()};
  if (c.proxied) {
    record.via = c.peer;
    record.probe = c.proxied->probe;
  }
  audit->write(record);
}

void Worker::audit_close(Connection& c, CloseCause cause) {
  AuditLog* const audit = audit_of(c);
  if (audit == nullptr) return;
  AuditClose record{.id = c.id,
                    .listener = options_of(c).name,
                    .peer = c.client(),
                    .probe = c.proxied && c.proxied->probe,
                    .cause = kCloseCauses[static_cast<std::size_t>(cause)],
                    .duration = now_ - c.opened,
                    .received_bytes = c.read_bytes,
                    .sent_bytes = c.written_bytes,
                    .data_segments_sent = c.vitals.data_segments_sent,
                    .retransmitted_segments = c.vitals.retransmitted_segments,
                    .error = c.error};
  if (c.vitals.rtt_us > 0) record.rtt_us = c.vitals.rtt_us;
  if (c.vitals.has_min_rtt()) record.min_rtt_us = c.vitals.min_rtt_us;
  std::string subject;
  if (c.tls && c.handled) {
    subject = c.tls->peer_subject();
    record.tls_version = c.tls->version();
    record.tls_cipher = c.tls->cipher();
    record.tls_subject = subject;
  }
  audit->write(record);
}

// A listener on one address need not ask the kernel.
Endpoint Worker::server_end(const Connection& c) const {
  if (c.proxied) return c.proxied->server;
  const Endpoint& listening = ports_[c.listener].listener.endpoint();
  return listening.address.is_any() ? local_endpoint(c.fd) : listening;
}

// ---- Stream ----

bool Stream::write(std::string_view bytes) { return worker_->write_to(*connection_, bytes); }

void Stream::finish() {
  connection_->finish_asked = true;
  worker_->touch(*connection_);
}

void Stream::abort(CloseCause cause) {
  connection_->reset = true;
  worker_->doom(*connection_, cause);
}

void Stream::pause() {
  connection_->paused = true;
  worker_->touch(*connection_);
}

void Stream::resume() {
  connection_->paused = false;
  worker_->touch(*connection_);
}

void Stream::set_duplex() {
  connection_->duplex = true;
  worker_->touch(*connection_);
}

std::size_t Stream::pending() const { return connection_->pending(); }

std::uint64_t Stream::id() const { return connection_->id; }

Endpoint Stream::peer() const { return connection_->client(); }

Endpoint Stream::local() const { return worker_->server_end(*connection_); }

std::string Stream::take_proxy_header() {
  return connection_->proxied ? std::exchange(connection_->proxied->header, {}) : std::string();
}

std::string Stream::tls_subject() const {
  return connection_->tls ? connection_->tls->peer_subject() : std::string();
}

void* Stream::context() const { return connection_->context; }

void Stream::set_context(void* context) { connection_->context = context; }

Result<Stream> Stream::connect(const Endpoint& to,
                               const std::function<void(const Endpoint&)>& bound) {
  auto made = worker_->connect(*connection_, to, bound);
  if (!made) return std::move(made.error());
  return Stream(*worker_, **made);
}

bool Stream::is_outbound() const { return connection_->outbound; }

}  // namespace tcpvitals
