#include "server/handler.h"

#include <utility>

#include "server/worker.h"

namespace tcpvitals {

bool Stream::write(std::string_view bytes) { return worker_->write_to(*connection_, bytes); }

void Stream::finish() {
  connection_->finish_asked = true;
  worker_->touch(*connection_);
}

void Stream::abort(CloseCause cause) {
  connection_->reset = true;
  worker_->doom(*connection_, cause);
}

void Stream::break_off(CloseCause cause) { worker_->break_off(*connection_, cause); }

void Stream::pause() {
  connection_->paused = true;
  worker_->touch(*connection_);
}

void Stream::resume() {
  if (connection_->paused) connection_->read_tick = worker_->tick_;
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
