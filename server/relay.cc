#include "server/relay.h"

#include <string>

namespace tcpvitals {

// The context of both streams; the last of them deletes it.
struct Relay::Pair {
  std::optional<Stream> client;
  std::optional<Stream> backend;
  std::optional<ProxyVersion> send_proxy;  // for this backend

  static Pair& of(Stream stream) { return *static_cast<Pair*>(stream.context()); }
  std::optional<Stream>& other(Stream stream) { return stream.is_outbound() ? client : backend; }
};

void Relay::on_open(Stream stream) {
  stream.set_duplex();
  if (stream.is_outbound()) {
    Pair& pair = Pair::of(stream);
    if (greet(stream, pair)) pair.client->resume();
    return;
  }
  stream.pause();
  auto* const pair = new Pair{stream, std::nullopt, send_proxy_};
  stream.set_context(pair);
  auto backend = stream.connect(backend_);
  if (!backend) return stream.abort(CloseCause::kBackend);
  backend->set_context(pair);
  pair->backend = *backend;
}

// False: it waits, and the client with it.
bool Relay::greet(Stream backend, const Pair& pair) {
  if (!pair.send_proxy) return true;
  const ProxyVersion version = *pair.send_proxy;
  Stream client = *pair.client;
  const std::string came = client.take_proxy_header();
  return backend.write(came.empty() ? write_proxy_header(version, client.peer(), client.local())
                                    : forward_proxy_header(version, came));
}

void Relay::on_data(Stream stream, std::string_view bytes) {
  auto& other = Pair::of(stream).other(stream);
  if (other && !other->write(bytes)) stream.pause();
}

void Relay::on_drained(Stream stream) {
  if (auto& other = Pair::of(stream).other(stream)) other->resume();
}

void Relay::on_end(Stream stream) {
  if (auto& other = Pair::of(stream).other(stream)) other->finish();
}

// What ends one of them in disorder ends both with a reset: neither peer must take half a stream
// for a whole one. What was received of it goes before.
void Relay::on_close(Stream stream, CloseCause cause) {
  if (stream.context() == nullptr) return;
  Pair& pair = Pair::of(stream);
  auto& other = pair.other(stream);
  if (stream.is_outbound()) {
    pair.backend.reset();
  } else {
    pair.client.reset();
  }
  const bool in_order = cause == CloseCause::kPeerFin || cause == CloseCause::kUnacknowledged ||
                        cause == CloseCause::kDrain;
  if (!in_order) stream.abort();
  if (!other) {
    delete &pair;
  } else if (!in_order) {
    other->break_off(stream.is_outbound() ? CloseCause::kBackend : CloseCause::kHandler);
  }
}

}  // namespace tcpvitals
