// Relay: carries each connection's bytes to a backend and back (layer 4).
//
// Each direction flows at the pace of its receiver, ends by itself (half-close), and holds at most
// max_output_bytes. A client whose backend cannot be reached is closed with cause `backend`. What
// does not end in order, by a reset, a deadline or the end of the server, is reset on both sides:
// nobody takes a part for the whole. The other side first gets what was received, the early answer
// of a backend that breaks off above all.
#pragma once

#include <optional>

#include "base/ip.h"
#include "server/handler.h"
#include "server/options.h"
#include "server/proxy_protocol.h"

namespace tcpvitals {

class Relay final : public Handler {
 public:
  explicit Relay(const ListenerOptions& options) { on_options(options); }

  // For new clients.
  void on_options(const ListenerOptions& options) override {
    backend_ = options.backend;
    send_proxy_ = options.send_proxy;
  }

  void on_open(Stream stream) override;
  void on_data(Stream stream, std::string_view bytes) override;
  void on_end(Stream stream) override;
  void on_drained(Stream stream) override;
  // What flows is let flow: where a message ends, only its two ends know.
  void on_drain(Stream /*stream*/) override {}
  void on_close(Stream stream, CloseCause cause) override;

 private:
  struct Pair;

  static bool greet(Stream backend, const Pair& pair);

  Endpoint backend_;
  std::optional<ProxyVersion> send_proxy_;
};

}  // namespace tcpvitals
