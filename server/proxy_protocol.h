// The PROXY protocol, versions 1 (text) and 2 (binary): the header with which a proxy begins a
// connection, and which says whom it connects for.
// https://www.haproxy.org/download/2.6/doc/proxy-protocol.txt
//
// Pure; any thread. Whether a header is expected, and whom to believe one, is for the caller to
// know beforehand: a header is never guessed from what arrives.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/ip.h"
#include "base/result.h"

namespace tcpvitals {

enum class ProxyVersion : std::uint8_t { kV1 = 1, kV2 = 2 };

struct ProxyHeader {
  // The proxy connects for itself, to check the server's health. What the header has besides is
  // skipped.
  bool local = false;
  // The addresses are given. If not, the proxy does not know its client, or the client is not one
  // of TCP: the connection's own addresses hold, as for `local`.
  bool has_addresses = false;
  Endpoint source;       // the client
  Endpoint destination;  // what the client connected to
  std::size_t size = 0;  // of the header: what follows is the connection's data
};

// What the caller must be ready to hold until a header is whole. Version 1 has at most 107 bytes;
// version 2 could say 64 KiB, of which real ones use some hundred.
inline constexpr std::size_t kMaxProxyHeader = 4096;

// Reads the header at the beginning of what has arrived. Nothing: it is not whole yet, and so far
// nothing is wrong with it; never so for kMaxProxyHeader bytes or more. An error says what is
// wrong: neither version, an unknown command or family, an address or port that is none, fields
// that do not fit their length, a CRC32c that is there and does not match.
Result<std::optional<ProxyHeader>> parse_proxy_header(std::span<const std::byte> bytes);

// The header that says `source` connected to `destination`. Should only one of them be IPv4, both
// are written as IPv6.
std::string write_proxy_header(ProxyVersion version, const Endpoint& source,
                               const Endpoint& destination);

// The header that a proxy behind another proxy sends, of what `came`, a whole header. In the same
// version it goes on as it came, its fields included. In the other it says the same client; where
// it names none (LOCAL, UNKNOWN, a family that is not TCP), none: UNKNOWN, in version 2 without a
// family.
std::string forward_proxy_header(ProxyVersion version, std::string_view came);

}  // namespace tcpvitals
