#include "server/proxy_protocol.h"

#include <arpa/inet.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <string>
#include <string_view>

namespace tcpvitals {
namespace {

constexpr std::string_view kSignature1 = "PROXY ";
constexpr std::size_t kMaxHeader1 = 107;  // with its CRLF
constexpr std::string_view kSignature2("\r\n\r\n\0\r\nQUIT\n", 12);

// Version 2: signature, version and command, family and transport, length of the rest (big endian);
// then addresses, ports, and type-length-value fields.
constexpr std::size_t kFixed2 = 16;
constexpr std::size_t kAddresses4 = 12;
constexpr std::size_t kAddresses6 = 36;
constexpr std::size_t kTlvHead = 3;
constexpr unsigned kTlvCrc32c = 0x03;
constexpr std::size_t kCrcSize = 4;

using Parsed = Result<std::optional<ProxyHeader>>;

Parsed more_needed() { return std::optional<ProxyHeader>(); }

unsigned byte_at(std::span<const std::byte> bytes, std::size_t i) {
  return std::to_integer<unsigned>(bytes[i]);
}

std::uint16_t u16_at(std::span<const std::byte> bytes, std::size_t i) {
  return static_cast<std::uint16_t>(byte_at(bytes, i) << 8 | byte_at(bytes, i + 1));
}

// --- version 1 ---

// Takes the text up to the next space, or all of it.
std::string_view next_word(std::string_view& text) {
  const std::size_t space = text.find(' ');
  const std::string_view word = text.substr(0, space);
  text.remove_prefix(space == std::string_view::npos ? text.size() : space + 1);
  return word;
}

Result<IpAddress> parse_address(std::string_view word, bool v6) {
  auto address = parse_ip_address(word);
  if (!address || (word.find(':') != std::string_view::npos) != v6) {
    return Error{fmt::format("\"{}\" is no IPv{} address", word, v6 ? 6 : 4)};
  }
  return address;
}

Result<std::uint16_t> parse_port(std::string_view word) {
  std::uint16_t port = 0;
  const char* const end = word.data() + word.size();
  const auto [stop, error] = std::from_chars(word.data(), end, port);
  const bool padded = word.size() > 1 && word.front() == '0';
  if (error != std::errc() || stop != end || padded) {
    return Error{fmt::format("\"{}\" is no port", word)};
  }
  return port;
}

// "192.0.2.1 192.0.2.2 40000 443"
Result<ProxyHeader> parse_addresses1(std::string_view text, bool v6) {
  if (std::count(text.begin(), text.end(), ' ') != 3) {
    return Error{"expected source, destination and their ports, one space apart"};
  }
  ProxyHeader header{.has_addresses = true};
  for (auto* address : {&header.source.address, &header.destination.address}) {
    const auto parsed = parse_address(next_word(text), v6);
    if (!parsed) return parsed.error();
    *address = *parsed;
  }
  for (auto* port : {&header.source.port, &header.destination.port}) {
    const auto parsed = parse_port(next_word(text));
    if (!parsed) return parsed.error();
    *port = *parsed;
  }
  return header;
}

Parsed parse1(std::string_view text) {
  const std::size_t end = text.substr(0, kMaxHeader1).find("\r\n");
  if (end == std::string_view::npos) {
    if (text.size() < kMaxHeader1) return more_needed();
    return Error{fmt::format("no end of line within {} bytes", kMaxHeader1)};
  }
  text = text.substr(kSignature1.size(), end - kSignature1.size());
  const std::string_view family = next_word(text);
  ProxyHeader header;
  if (family == "TCP4" || family == "TCP6") {
    auto parsed = parse_addresses1(text, family == "TCP6");
    if (!parsed) return std::move(parsed.error()).in(family);
    header = *parsed;
  } else if (family != "UNKNOWN") {  // after which anything may stand
    return Error{fmt::format("\"{}\" is none of TCP4, TCP6, UNKNOWN", family)};
  }
  header.size = end + 2;
  return std::optional(header);
}

// --- version 2 ---

// CRC-32C (Castagnoli), reflected.
constexpr auto kCrcTable = [] {
  std::array<std::uint32_t, 256> table{};
  for (std::uint32_t i = 0; i < table.size(); ++i) {
    std::uint32_t crc = i;
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78U : 0U);
    table[i] = crc;
  }
  return table;
}();

// Of the whole header, the checksum's own bytes taken as zero.
std::uint32_t crc32c(std::span<const std::byte> header, std::size_t checksum_at) {
  std::uint32_t crc = 0xffffffff;
  for (std::size_t i = 0; i < header.size(); ++i) {
    const bool own = i >= checksum_at && i < checksum_at + kCrcSize;
    const unsigned byte = own ? 0 : byte_at(header, i);
    crc = crc >> 8 ^ kCrcTable[(crc ^ byte) & 0xff];
  }
  return ~crc;
}

// Looks at the fields from `at` to the header's end: that each fits, and that the checksum is
// right.
Result<void> check_fields(std::span<const std::byte> header, std::size_t at) {
  while (at < header.size()) {
    if (header.size() - at < kTlvHead) return Error{"a field is cut short"};
    const unsigned type = byte_at(header, at);
    const std::size_t length = u16_at(header, at + 1);
    at += kTlvHead;
    if (length > header.size() - at) {
      return Error{fmt::format("field {:#04x} is longer than the header", type)};
    }
    if (type == kTlvCrc32c) {
      if (length != kCrcSize) return Error{fmt::format("a CRC32c of {} bytes", length)};
      const std::uint32_t said =
          std::uint32_t{u16_at(header, at)} << 16 | std::uint32_t{u16_at(header, at + 2)};
      if (said != crc32c(header, at)) return Error{"the CRC32c does not match"};
    }
    at += length;
  }
  return {};
}

// Bytes of addresses and ports, or nothing if no such family and transport exist.
std::optional<std::size_t> address_bytes(unsigned family_and_transport) {
  switch (family_and_transport) {
    case 0x00:
      return 0;
    case 0x11:  // IPv4, stream and datagram
    case 0x12:
      return kAddresses4;
    case 0x21:  // IPv6
    case 0x22:
      return kAddresses6;
    case 0x31:  // Unix
    case 0x32:
      return 216;
    default:
      return std::nullopt;
  }
}

void read_addresses(std::span<const std::byte> header, std::size_t address_size,
                    ProxyHeader& into) {
  const auto* const at = header.data() + kFixed2;
  const auto read = address_size == 4 ? IpAddress::v4 : IpAddress::v6;
  into.has_addresses = true;
  into.source = {read(at), u16_at(header, kFixed2 + 2 * address_size)};
  into.destination = {read(at + address_size), u16_at(header, kFixed2 + 2 * address_size + 2)};
}

// What is wrong is said as soon as it is known; what is right is used only when all is there.
Parsed parse2(std::span<const std::byte> bytes) {
  const auto known = [&](std::size_t i) { return bytes.size() > i; };
  if (known(12) && byte_at(bytes, 12) >> 4 != 2) {
    return Error{fmt::format("version {} is unknown", byte_at(bytes, 12) >> 4)};
  }
  if (known(12) && (byte_at(bytes, 12) & 0xf) > 1) {
    return Error{fmt::format("command {} is unknown", byte_at(bytes, 12) & 0xf)};
  }
  if (!known(kFixed2 - 1)) return more_needed();

  const std::size_t size = kFixed2 + u16_at(bytes, 14);
  if (size > kMaxProxyHeader) {
    return Error{fmt::format("{} bytes, more than {}", size, kMaxProxyHeader)};
  }
  ProxyHeader header{.local = (byte_at(bytes, 12) & 0xf) == 0, .size = size};
  // What follows a LOCAL header's length is skipped, whatever it is.
  const unsigned family = header.local ? 0x00 : byte_at(bytes, 13);
  const auto addresses = address_bytes(family);
  if (!addresses) return Error{fmt::format("family and transport {:#04x} are unknown", family)};
  if (size < kFixed2 + *addresses) {
    return Error{fmt::format("{} bytes are too short for its addresses", size)};
  }
  if (bytes.size() < size) return more_needed();

  if (header.local) return std::optional(header);

  bytes = bytes.first(size);
  if (auto checked = check_fields(bytes, kFixed2 + *addresses); !checked) {
    return std::move(checked.error());
  }
  if (family == 0x11) read_addresses(bytes, 4, header);
  if (family == 0x21) read_addresses(bytes, 16, header);
  return std::optional(header);
}

bool begins(std::string_view text, std::string_view signature) {
  const std::size_t both = std::min(text.size(), signature.size());
  return text.substr(0, both) == signature.substr(0, both);
}

Parsed in_version(Parsed parsed, std::string_view version) {
  if (!parsed) return std::move(parsed.error()).in(version);
  return parsed;
}

// --- writing ---

// Of the family in which it is written.
std::string text_of(const IpAddress& address, bool v4) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  inet_ntop(v4 ? AF_INET : AF_INET6, address.bytes.data() + (v4 ? 12 : 0), text.data(),
            text.size());
  return text.data();
}

std::string write1(bool v4, const Endpoint& source, const Endpoint& destination) {
  return fmt::format("{}TCP{} {} {} {} {}\r\n", kSignature1, v4 ? 4 : 6,
                     text_of(source.address, v4), text_of(destination.address, v4), source.port,
                     destination.port);
}

std::string begin2(unsigned char family_and_transport, std::size_t rest) {
  std::string header(kSignature2);
  for (const std::size_t byte :
       {std::size_t{0x21}, std::size_t{family_and_transport}, rest >> 8, rest & 0xff}) {
    header += static_cast<char>(byte);
  }
  return header;
}

std::string write2(bool v4, const Endpoint& source, const Endpoint& destination) {
  std::string header = begin2(v4 ? 0x11 : 0x21, v4 ? kAddresses4 : kAddresses6);
  for (const Endpoint* end : {&source, &destination}) {
    header.append(reinterpret_cast<const char*>(end->address.bytes.data()) + (v4 ? 12 : 0),
                  v4 ? 4 : 16);
  }
  for (const Endpoint* end : {&source, &destination}) {
    header += static_cast<char>(end->port >> 8);
    header += static_cast<char>(end->port & 0xff);
  }
  return header;
}

}  // namespace

Parsed parse_proxy_header(std::span<const std::byte> bytes) {
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  if (begins(text, kSignature1)) return in_version(parse1(text), "PROXY version 1");
  if (begins(text, kSignature2)) return in_version(parse2(bytes), "PROXY version 2");
  return Error{"no PROXY header of version 1 or 2"};
}

std::string write_proxy_header(ProxyVersion version, const Endpoint& source,
                               const Endpoint& destination) {
  const bool v4 = source.address.is_v4() && destination.address.is_v4();
  return version == ProxyVersion::kV1 ? write1(v4, source, destination)
                                      : write2(v4, source, destination);
}

std::string forward_proxy_header(ProxyVersion version, std::string_view came) {
  const auto came_in = came.starts_with(kSignature1) ? ProxyVersion::kV1 : ProxyVersion::kV2;
  if (version == came_in) return std::string(came);
  const auto header = parse_proxy_header(std::as_bytes(std::span(came)));
  if (header && *header && (*header)->has_addresses) {
    return write_proxy_header(version, (*header)->source, (*header)->destination);
  }
  return version == ProxyVersion::kV1 ? fmt::format("{}UNKNOWN\r\n", kSignature1) : begin2(0, 0);
}

}  // namespace tcpvitals
