// A listener: where connections are accepted, what is in force there, and what all workers share
// about it.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "base/fd.h"
#include "base/ip.h"
#include "base/result.h"
#include "server/access.h"
#include "server/options.h"
#include "server/statistics.h"
#include "server/tls.h"

namespace tcpvitals {

// One for each worker, all on the same endpoint; the kernel spreads connections over them.
struct ListenerSockets {
  Endpoint endpoint;  // with the port that was chosen
  std::vector<Fd> sockets;
};

// Fails if the endpoint is in use, by another process of the same user and program too, and by the
// option's name if a socket option is refused. `passed` sockets, which listen already, are
// used as they are; workers share them if there are fewer. `beside_ours`: a part of the endpoint is
// another listener's of this process, which has SO_REUSEPORT and is about to leave it.
Result<ListenerSockets> open_listener(const ListenerOptions& options, unsigned workers,
                                      std::vector<Fd> passed = {}, bool beside_ours = false);

// Whether the kernel takes the socket options, tried on a socket of its own.
Result<void> check_socket_options(const ListenerOptions& options);
// A listening socket that had those of `before` has the others from now on, and so has what it
// accepts: where one is no longer set, what a new socket has.
Result<void> change_socket_options(const Fd& fd, const ListenerOptions& before,
                                   const ListenerOptions& options);

// Descriptors that each client of such a listener takes before it is accepted: a relay's has a
// backend.
constexpr std::uint32_t descriptors_for(HandlerKind handler) {
  return handler == HandlerKind::kRelay ? 2 : 1;
}

struct Admission {
  std::optional<RejectReason> refused;
  bool counted = false;  // by the peer limits: to be given back by leave()
};

// What is in force on a listener. Immutable: a reload makes new ones, and each worker takes them in
// its own loop.
struct ListenerSettings {
  // `tls_store` is null for a listener without. `limit`: connections at once.
  ListenerSettings(ListenerOptions listener, std::uint32_t limit,
                   std::shared_ptr<TlsStore> tls_store, std::shared_ptr<PeerLimits> limits);

  // Every connection begins with a PROXY header, which names the client.
  bool has_proxies() const { return proxies.has_value(); }

  const ListenerOptions options;
  const std::uint32_t limit;
  const AccessList access;
  const std::optional<AccessList> proxies;
  const std::shared_ptr<TlsStore> tls;
  const std::shared_ptr<PeerLimits> peer_limits;
};

// What all workers count of a listener together, whatever its settings: for as long as the server
// remembers its name. Thread-safe.
class ServerListener {
 public:
  explicit ServerListener(const AcceptRateOptions& rate) : accept_rate_(rate) {}

  // For all workers at once.
  void change(const AcceptRateOptions& rate) { accept_rate_.change(rate); }

  // Whether a peer that connected may go on: a proxy if it is a trusted one, anyone else as a
  // client. `now` is the worker's clock, `settings` are those that it has.
  Admission admit_peer(const ListenerSettings& settings, const IpAddress& peer, TimePoint now);
  // Whether a client may go on, itself or behind a proxy: lists and its own limits come first, so
  // that a refused client spends nothing of the accept rate, which is for all. One that is counted
  // is to leave settings.peer_limits.
  Admission admit_client(const ListenerSettings& settings, const IpAddress& client, TimePoint now);

  ListenerGauges gauges(const ListenerSettings& settings, TimePoint now) const;

  // A place for one more connection, to be given back when it closes. False at the limit.
  bool reserve(std::uint32_t limit) { return take(reserved_, limit); }
  void give_back() { reserved_.fetch_sub(1, std::memory_order_relaxed); }
  std::uint32_t reserved() const { return reserved_.load(std::memory_order_relaxed); }

  // A place for one more TLS handshake. False at the limit.
  bool begin_handshake(std::uint32_t limit) { return take(handshakes_, limit); }
  void end_handshake() { handshakes_.fetch_sub(1, std::memory_order_relaxed); }

 private:
  static bool take(std::atomic<std::uint32_t>& taken, std::uint32_t limit) {
    std::uint32_t now = taken.load(std::memory_order_relaxed);
    while (now < limit) {
      if (taken.compare_exchange_weak(now, now + 1, std::memory_order_relaxed)) return true;
    }
    return false;
  }

  bool is_within_accept_rate(const ListenerOptions& options, TimePoint now);

  AcceptRate accept_rate_;
  std::atomic<std::uint32_t> reserved_{0};
  std::atomic<std::uint32_t> handshakes_{0};
  std::atomic<std::uint64_t> unlimited_peers_{0};
};

}  // namespace tcpvitals
