#include "base/ip.h"

#include <arpa/inet.h>

#include <algorithm>
#include <charconv>
#include <cstring>

namespace tcpvitals {
namespace {

constexpr std::array<std::uint8_t, 12> kMappedPrefix{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

Error bad(std::string_view what, std::string_view text, std::string_view expected) {
  std::string message(what);
  message.append(" \"").append(text).append("\": expected ").append(expected);
  return {std::move(message)};
}

template <typename T>
bool parse_number(std::string_view text, T& out) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  return error == std::errc() && end == text.data() + text.size() && !text.empty();
}

}  // namespace

IpAddress IpAddress::v4(const void* network_order) {
  IpAddress a;
  std::copy(kMappedPrefix.begin(), kMappedPrefix.end(), a.bytes.begin());
  std::memcpy(a.bytes.data() + 12, network_order, 4);
  return a;
}

IpAddress IpAddress::v6(const void* network_order) {
  IpAddress a;
  std::memcpy(a.bytes.data(), network_order, 16);
  return a;
}

bool IpAddress::is_v4() const {
  return std::equal(kMappedPrefix.begin(), kMappedPrefix.end(), bytes.begin());
}

bool IpAddress::is_any() const {
  const auto zero = [](std::uint8_t b) { return b == 0; };
  return std::all_of(is_v4() ? bytes.begin() + 12 : bytes.begin(), bytes.end(), zero);
}

std::string to_string(const IpAddress& address) {
  char text[INET6_ADDRSTRLEN];
  if (address.is_v4()) {
    inet_ntop(AF_INET, address.bytes.data() + 12, text, sizeof text);
  } else {
    inet_ntop(AF_INET6, address.bytes.data(), text, sizeof text);
  }
  return text;
}

Result<IpAddress> parse_ip_address(std::string_view text) {
  // A NUL inside would end the text for inet_pton.
  const std::string copy(text.find('\0') == std::string_view::npos ? text : "");
  std::array<std::uint8_t, 16> raw{};
  if (inet_pton(AF_INET, copy.c_str(), raw.data()) == 1) return IpAddress::v4(raw.data());
  if (inet_pton(AF_INET6, copy.c_str(), raw.data()) == 1) return IpAddress::v6(raw.data());
  return bad("address", text, "an IPv4 or IPv6 address such as 192.0.2.1 or 2001:db8::1");
}

bool IpPrefix::contains(const IpAddress& a) const {
  if (a.is_v4() != address.is_v4()) return false;
  const std::size_t whole = length / 8;
  if (!std::equal(a.bytes.begin(), a.bytes.begin() + whole, address.bytes.begin())) return false;
  const unsigned rest = length % 8;
  return rest == 0 || ((a.bytes[whole] ^ address.bytes[whole]) >> (8 - rest)) == 0;
}

IpPrefix prefix_of(const IpAddress& address, std::uint8_t length) {
  IpPrefix prefix{address, length};
  const std::size_t whole = length / 8;
  if (whole == 16) return prefix;
  prefix.address.bytes[whole] &= static_cast<std::uint8_t>(0xff00U >> (length % 8));
  std::fill(prefix.address.bytes.begin() + whole + 1, prefix.address.bytes.end(), 0);
  return prefix;
}

Result<IpPrefix> parse_ip_prefix(std::string_view text) {
  const auto slash = text.find('/');
  auto address = parse_ip_address(text.substr(0, slash));
  if (!address) return bad("prefix", text, "a prefix such as 10.0.0.0/8 or fc00::/7");
  const unsigned family_bits = address->is_v4() ? 32 : 128;
  unsigned length = family_bits;
  if (slash != std::string_view::npos &&
      (!parse_number(text.substr(slash + 1), length) || length > family_bits)) {
    return bad("prefix", text, "a length of at most " + std::to_string(family_bits));
  }
  return prefix_of(*address, static_cast<std::uint8_t>(128 - family_bits + length));
}

std::string to_string(const IpPrefix& prefix) {
  const bool is_v4 = prefix.address.is_v4() && prefix.length >= 96;
  return to_string(prefix.address) + "/" + std::to_string(prefix.length - (is_v4 ? 96 : 0));
}

Result<Endpoint> parse_endpoint(std::string_view text) {
  constexpr std::string_view kExpected =
      "ADDRESS:PORT such as 127.0.0.1:10077, [::1]:10077 or :10077";
  const auto colon = text.rfind(':');
  if (colon == std::string_view::npos) return bad("address", text, kExpected);
  std::string_view host = text.substr(0, colon);
  Endpoint endpoint;
  if (!parse_number(text.substr(colon + 1), endpoint.port)) return bad("address", text, kExpected);
  if (host.empty()) return endpoint;
  const bool bracketed = host.size() >= 2 && host.front() == '[' && host.back() == ']';
  if (bracketed) host = host.substr(1, host.size() - 2);
  auto address = parse_ip_address(host);
  if (!address || (!bracketed && !address->is_v4())) return bad("address", text, kExpected);
  endpoint.address = *address;
  return endpoint;
}

std::string to_string(const Endpoint& endpoint) {
  const std::string host = to_string(endpoint.address);
  const std::string port = std::to_string(endpoint.port);
  return endpoint.address.is_v4() ? host + ":" + port : "[" + host + "]:" + port;
}

}  // namespace tcpvitals
