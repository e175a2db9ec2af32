// How a worker's connections end: in order, in disorder, by a deadline; and the record of it.
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "server/deadlines.h"
#include "server/socket_address.h"
#include "server/worker.h"

namespace tcpvitals {

bool Worker::has_unread(const Connection& c) {
  return unread(c.fd) > 0 || (c.tls && c.tls->pending());
}

// Nothing can be sent any more. What the peer sent before is handed on first: an early answer, or
// the rest of what it had to say.
void Worker::lose(Connection& c, int error) {
  const bool may_read = c.phase == Phase::kOpen && !c.peer_ended;
  if (!may_read || !has_unread(c)) return fail(c, error);
  c.error = static_cast<std::int16_t>(error);
  c.lost = c.reset = true;
  c.tls_writes = c.tls_reads = c.notifies = false;
  drop_output(c);
  watch_anew(c);
}

// All of it is handed on. EPIPE: the peer had ended its stream before it sent the reset.
void Worker::end_lost(Connection& c) {
  if (c.error == EPIPE && !c.tls && !c.doomed) end_of_stream(c);
  fail(c, c.error);
}

void Worker::fail(Connection& c, int error) {
  c.error = static_cast<std::int16_t>(error);
  if (c.phase == Phase::kResetting) return doom(c, c.cause);
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

// What was written is delivered, and then the peer gets a reset.
void Worker::break_off(Connection& c, CloseCause cause) {
  if (c.doomed || c.phase == Phase::kResetting) return;
  c.reset = true;
  if (c.lost || (c.phase != Phase::kOpen && c.phase != Phase::kFinishing)) return doom(c, cause);
  c.phase = Phase::kResetting;
  c.cause = cause;
  expect_progress(c);
  touch(c);
}

// close_notify goes before the FIN, and waits for room like any other output.
void Worker::send_fin(Connection& c) {
  if (!c.notifies) expect_progress(c);
  c.notifies = c.tls && c.tls->shutdown() == TlsStep::kWantWrite;
  if (c.notifies) return;
  expect_progress(c);
  c.finished = true;
  if (::shutdown(c.fd.get(), SHUT_WR) != 0) lose(c, ECONNRESET);
}

// Both ends are shut. When the peer has acknowledged ours, nothing can be sent again and the
// counters are final. A near peer has done so before shutdown() returns.
void Worker::await_final_ack(Connection& c, bool failed) {
  if (failed) return fail(c, take_error(c.fd));
  if (sample(c) == TCP_CLOSE) doom(c, CloseCause::kPeerFin);
}

// From now on the peer is to take what was written.
void Worker::expect_progress(Connection& c) {
  c.taken_tick = tick_;
  if (!c.stalled) return;
  c.stalled = false;
  touch(c);
}

// Asks the kernel what the peer has acknowledged since the last look.
void Worker::look(Connection& c) {
  const auto sample = tcp_info_of(c.fd.get());
  if (!sample) return;
  const auto acked = static_cast<std::uint32_t>(sample->info.bytes_acked);
  c.data_left = c.phase == Phase::kFinishing && unacknowledged(c.fd) > 1;
  c.stalled = acked == c.acked_bytes;
  if (c.stalled) return;
  c.acked_bytes = acked;
  // The last segment may have been a probe's answer that acknowledged nothing: the next look tells.
  const TimePoint last = now_ - std::chrono::milliseconds(sample->info.last_ack_received_ms);
  c.taken_tick = std::max(c.taken_tick, tick_of(std::max(last, started_)));
}

Due Worker::due(const Connection& c) const {
  return due_of(c, options_of(c).deadlines, tick_of(c.opened));
}

// Later than before is no matter: a timer that is too early is put back.
void Worker::schedule(Connection& c) {
  std::uint32_t tick = due(c).tick;
  if (tick == 0) return;
  if (moves_unseen(c)) tick = std::min(tick, tick_ + 1);
  if (c.timer.due == 0 || tick < c.timer.due) wheel_.set(c.slot, tick);
}

void Worker::on_due(Connection& c) {
  if (c.phase >= Phase::kOpen) look(c);
  const Due now = due(c);
  if (c.phase == Phase::kResetting) touch(c);  // it may have delivered everything
  if (now.tick == 0 || now.tick > tick_) return schedule(c);
  if (c.phase == Phase::kConnecting) {
    c.error = ETIMEDOUT;
    ++statistics_of(c).backend_failures;
  }
  doom(c, now.cause);
}

// The only way from TCP_INFO into the totals. The connection's state, as the kernel numbers it.
std::uint8_t Worker::sample(Connection& c) {
  return c.vitals.sample(c.fd.get(), statistics_of(c).tcp);
}

void Worker::release(Connection& c, CloseCause cause) {
  if (c.drained && cause == CloseCause::kPeerFin) cause = CloseCause::kDrain;
  const std::size_t index = c.port;
  Port& port = ports_[index];
  ListenerStatistics& statistics = *port.statistics;
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
    if (c.counted) port.settings->peer_limits->leave(c.client().address);
  }
  if (c.handled || c.outbound) handler_of(c).on_close(Stream(*this, c), cause);
  // What waits will not be sent: without a reset what was would look whole.
  if (c.reset || c.output) reset_on_close(c.fd);
  wheel_.clear(c.slot);
  if (!c.outbound) port.common->give_back();
  if (c.has_spare) drop_spare(c);
  slab_.release(c);
  options_.shared.pool(port.options()).give(1);
  port.resume_at = now_;  // there is a place and a descriptor again
  ports_.leave(index);
}

AuditLog* Worker::audit_of(const Connection& c) const {
  return options_of(c).audit ? options_.shared.audit : nullptr;
}

// When what can be known of it is known, but in any case before its end.
void Worker::audit_open(Connection& c) {
  AuditLog* const audit = audit_of(c);
  if (audit == nullptr || c.audited) return;
  c.audited = true;
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

namespace {

// Of what the handler wrote, at least: the kernel counts TLS and a FIN too. What ended in order is
// acknowledged.
std::uint64_t acknowledged_bytes(const Connection& c, CloseCause cause) {
  if (cause == CloseCause::kPeerFin || c.written_bytes == 0) return c.written_bytes;
  const std::uint64_t left = unacknowledged(c.fd);
  const std::uint64_t fin = c.finished && left > 0 ? 1 : 0;
  return c.written_bytes - std::min(c.written_bytes, left - fin);
}

}  // namespace

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
                    .sent_bytes = acknowledged_bytes(c, cause),
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
  const Endpoint& listening = ports_[c.port].endpoint;
  return listening.address.is_any() ? local_endpoint(c.fd) : listening;
}

}  // namespace tcpvitals
