// IP addresses and prefixes of both families in one plain shape.
//
// An IPv4 address is kept as its v4-mapped IPv6 form (::ffff:a.b.c.d), so a dual-stack socket's
// v4-mapped peer and a plain IPv4 peer are the same value, and one prefix match serves both.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace tcpvitals {

struct IpAddress {
  std::array<std::uint8_t, 16> bytes{};  // network order

  // `network_order`: the four bytes as they stand in a packet or a sockaddr_in.
  static IpAddress v4(const void* network_order);
  static IpAddress v6(const void* network_order);

  bool is_v4() const;   // v4-mapped
  bool is_any() const;  // 0.0.0.0 or ::

  auto operator<=>(const IpAddress&) const = default;
};

// "192.0.2.1" or "2001:db8::1"; never the ::ffff: spelling.
std::string to_string(const IpAddress& address);

// Accepts both families in their usual spellings, without brackets, zone or port.
Result<IpAddress> parse_ip_address(std::string_view text);

struct IpPrefix {
  IpAddress address;        // bits past the length are zero
  std::uint8_t length = 0;  // bits of the 128-bit form: an IPv4 /8 is 96 + 8

  // A prefix is of one family: ::/0 is all of IPv6, and nothing of IPv4.
  bool contains(const IpAddress& a) const;

  auto operator<=>(const IpPrefix&) const = default;
};

// The prefix of that length that contains the address.
IpPrefix prefix_of(const IpAddress& address, std::uint8_t length);

// "10.0.0.0/8" or "fc00::/7"; an address without a length is the whole
// address. Bits past the length are dropped.
Result<IpPrefix> parse_ip_prefix(std::string_view text);
std::string to_string(const IpPrefix& prefix);

// An address to listen on: "127.0.0.1:10077", "[::1]:10077", "[0.0.0.0]:10077", ":10077".
struct Endpoint {
  IpAddress address;
  std::uint16_t port = 0;

  auto operator<=>(const Endpoint&) const = default;
};

Result<Endpoint> parse_endpoint(std::string_view text);
std::string to_string(const Endpoint& endpoint);

// Ports, both ends included.
struct PortRange {
  std::uint16_t first = 0;
  std::uint16_t last = 0;

  bool contains(std::uint16_t port) const { return first <= port && port <= last; }
  auto operator<=>(const PortRange&) const = default;
};

}  // namespace tcpvitals
