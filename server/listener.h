// A listener: where connections are accepted, and what all workers share about it.
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
// used as they are; workers share them if there are fewer.
Result<ListenerSockets> open_listener(const ListenerOptions& options, unsigned workers,
                                      std::vector<Fd> passed = {});

// Descriptors that each client of such a listener takes before it is accepted: a relay's has a
// backend.
constexpr std::uint32_t descriptors_for(HandlerKind handler) {
  return handler == HandlerKind::kRelay ? 2 : 1;
}

struct Admission {
  std::optional<RejectReason> refused;
  bool counted = false;  // by the peer limits: to be given back by leave()
};

// Thread-safe; outlives the workers.
class ServerListener {
 public:
  // `tls` is null for a listener without.
  ServerListener(ListenerOptions options, std::uint32_t limit, std::unique_ptr<TlsStore> tls);

  const ListenerOptions& options() const { return options_; }
  // Where it really listens, once it is open; before any worker has a socket of it.
  const Endpoint& endpoint() const { return endpoint_; }
  void open_at(const Endpoint& endpoint) {
    endpoint_ = endpoint;
    open_ = true;
  }
  bool is_open() const { return open_; }
  std::uint32_t limit() const { return limit_; }
  std::uint32_t descriptors() const { return descriptors_for(options_.handler); }

  // Every connection begins with a PROXY header, which names the client.
  bool has_proxies() const { return proxies_.has_value(); }
  TlsStore* tls() const { return tls_.get(); }

  // Whether a peer that connected may go on: a proxy if it is a trusted one, anyone else as a
  // client. `now` is the worker's clock.
  Admission admit_peer(const IpAddress& peer, TimePoint now);
  // Whether a client may go on, itself or behind a proxy: lists and its own limits come first, so
  // that a refused client spends nothing of the accept rate, which is for all.
  Admission admit_client(const IpAddress& client, TimePoint now);
  // A client that was admitted and counted is gone.
  void leave(const IpAddress& client) { peer_limits_.leave(client); }

  ListenerGauges gauges(TimePoint now) const;

  // A place for one more connection, to be given back when it closes. False at the limit.
  bool reserve() { return take(reserved_, limit_); }
  void give_back() { reserved_.fetch_sub(1, std::memory_order_relaxed); }

  // A place for one more TLS handshake. False at the limit.
  bool begin_handshake() { return take(handshakes_, options_.tls.max_handshakes); }
  void end_handshake() { handshakes_.fetch_sub(1, std::memory_order_relaxed); }

 private:
  static bool take(std::atomic<std::uint32_t>& taken, std::uint32_t limit) {
    std::uint32_t now = taken.load(std::memory_order_relaxed);
    while (now < limit) {
      if (taken.compare_exchange_weak(now, now + 1, std::memory_order_relaxed)) return true;
    }
    return false;
  }

  bool is_within_accept_rate(TimePoint now);

  const ListenerOptions options_;
  Endpoint endpoint_;
  bool open_ = false;
  const std::uint32_t limit_;
  const AccessList access_;
  const std::optional<AccessList> proxies_;
  const std::unique_ptr<TlsStore> tls_;
  PeerLimits peer_limits_;
  AcceptRate accept_rate_;
  std::atomic<std::uint32_t> reserved_{0};
  std::atomic<std::uint32_t> handshakes_{0};
};

}  // namespace tcpvitals
