// What a server is told: plain values, each with a default that is right for most.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/ip.h"
#include "base/result.h"
#include "server/proxy_protocol.h"

namespace tcpvitals {

class AuditLog;
class Handler;

// When the kernel asks a silent peer whether it is still there.
struct KeepAlive {
  std::chrono::seconds idle{7200};  // of silence before the first probe; 0: never
  std::chrono::seconds interval{150};
  unsigned count = 9;  // unanswered probes that end the connection

  bool operator==(const KeepAlive&) const = default;
};

// How long a connection may take for what; 0: for ever. Kept to the second.
struct Deadlines {
  std::chrono::seconds proxy_header{5};
  std::chrono::seconds handshake{10};  // TLS
  std::chrono::seconds connect{5};     // relay: to the backend
  // Nothing received, and nothing of what we sent acknowledged, while the handler reads.
  std::chrono::seconds idle{0};
  std::chrono::seconds half_closed{60};  // the same, after our end of the stream
  std::chrono::seconds write_stall{60};  // output waits and the peer acknowledges nothing
  std::chrono::seconds lifetime{0};

  bool operator==(const Deadlines&) const = default;
};

// Bounds for all connections of one prefix of peers together; 0: none.
struct PeerLimitOptions {
  std::uint32_t max_connections = 0;  // at once
  double rate = 0;                    // new ones a second, on average
  std::uint32_t burst = 0;            // as many at once after a silence; 0: a second's worth
  std::uint8_t ipv4_length = 32;
  std::uint8_t ipv6_length = 64;
  std::size_t max_entries = 65'536;

  bool limits() const { return max_connections > 0 || rate > 0; }
  bool operator==(const PeerLimitOptions&) const = default;
};

// New connections a second of all clients whom the lists and the limits of each peer admit; 0: no
// limit.
struct AcceptRateOptions {
  std::uint32_t soft = 5000;  // above it: counted and logged
  std::uint32_t hard = 0;     // above it: refused

  bool operator==(const AcceptRateOptions&) const = default;
};

enum class ClientCertificate : std::uint8_t { kNone, kRequest, kRequire };

struct TlsOptions {
  std::string certificate_file;  // PEM, the chain included; empty: no TLS
  std::string key_file;          // PEM, not encrypted
  // Beside the first, with a key of another kind: RSA for those who cannot do ECDSA. Empty: none.
  std::string second_certificate_file;
  std::string second_key_file;
  std::string client_ca_file;  // PEM; who signs the clients' certificates
  ClientCertificate client_certificate = ClientCertificate::kNone;
  std::uint32_t max_handshakes = 1000;  // at once; one more is refused

  bool enabled() const { return !certificate_file.empty(); }
  bool operator==(const TlsOptions&) const = default;
};

enum class HandlerKind : std::uint8_t {
  kEcho,     // what arrives is sent back (RFC 862)
  kDiscard,  // what arrives is thrown away (RFC 863)
  kRelay,    // both directions, to a backend and from it
  kOwn,      // ListenerOptions::make_handler
};

struct ListenerOptions {
  std::string name = "echo";  // label `listener`: short, lower case, unique
  // 127.0.0.1:10078. Port 0: the kernel chooses one. [::] takes IPv4 too.
  Endpoint endpoint = {{{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127, 0, 0, 1}}, 10078};

  HandlerKind handler = HandlerKind::kEcho;
  Endpoint backend;                        // of a relay
  std::optional<ProxyVersion> send_proxy;  // the header that a relay sends to its backend
  std::function<std::unique_ptr<Handler>()> make_handler;  // kOwn: called once per worker

  // Descriptors for max_connections are kept for it: it goes on when the others have taken all that
  // they may have.
  bool essential = false;
  bool backend_is_here = false;  // each may lead to one more in this process: two more descriptors

  std::uint32_t backlog = 4096;               // connections waiting for accept, per worker
  std::uint32_t max_connections = 0;          // 0: what the descriptor limit allows
  std::uint32_t max_output_bytes = 64 << 10;  // held per connection while its peer does not read

  // Options of the sockets; 0 or empty: the kernel's default.
  KeepAlive keepalive;
  std::chrono::milliseconds user_timeout{0};  // TCP_USER_TIMEOUT: sent data unacknowledged
  bool nodelay = true;
  std::uint32_t fast_open = 0;  // TCP_FASTOPEN: requests waiting for their handshake
  std::chrono::seconds defer_accept{0};
  std::uint32_t receive_buffer = 0;  // bytes
  std::uint32_t send_buffer = 0;     // bytes
  std::string congestion_control;

  std::vector<IpPrefix> allow;  // empty: everyone
  std::vector<IpPrefix> deny;   // stands above allow
  PeerLimitOptions per_peer;
  AcceptRateOptions accept_rate;
  Deadlines deadlines;
  TlsOptions tls;
  // Every connection begins with a PROXY header, and only these may connect; empty: none does.
  std::vector<IpPrefix> proxy_from;
  bool audit = true;              // where the server has an audit log
  bool connection_series = true;  // its connections may be among the worst, which are shown
};

// Connections that have metrics of their own: the worst, see server/connection_series.h.
struct ConnectionSeriesOptions {
  std::size_t slots = 20;         // at once; also how many of the worst a snapshot names
  std::size_t new_per_hour = 60;  // at least 1: ids that get a series in any hour
  Clock::duration lowest_age = std::chrono::seconds(60);
};

inline constexpr std::size_t kMostListeners = 1000;

// How many workers that many are: 0 is one per core this process may use.
unsigned workers_of(unsigned workers);

struct ServerOptions {
  std::vector<ListenerOptions> listeners = {ListenerOptions{}};
  unsigned workers = 0;  // 0: one per core this process may use
  // How often every live connection's TCP_INFO is read: 1 to 2 us each. A connection's last is read
  // when it closes, whatever this is.
  Clock::duration sweep_interval = std::chrono::seconds(5);
  ConnectionSeriesOptions connection_series;
  // Never taken by connections: for files, collectors and the log.
  std::uint32_t reserved_descriptors = 48;
  AuditLog* audit = nullptr;  // outlives the server; null: none
};

// Relays that lead to each other in a circle: each connection would bring another until no
// descriptor is left. Their indices, from one relay to the next; empty: there is no such circle.
// `is_own`: whether an address is one of this host.
std::vector<std::size_t> find_relay_circle(const std::vector<ListenerOptions>& listeners,
                                           const std::function<bool(const IpAddress&)>& is_own);

// What cannot be right, by the listener's name.
Result<void> validate(const ServerOptions& options);

}  // namespace tcpvitals
