#include "server/proxy_protocol.h"

#include <doctest/doctest.h>

#include <string>
#include <string_view>
#include <vector>

using namespace tcpvitals;

namespace {

Result<std::optional<ProxyHeader>> parse(std::string_view bytes) {
  return parse_proxy_header(std::as_bytes(std::span(bytes)));
}

// "0d0a 21": digits and spaces.
std::string from_hex(std::string_view hex) {
  std::string bytes;
  std::string digits;
  for (const char c : hex) {
    if (c != ' ') digits += c;
    if (digits.size() < 2) continue;
    bytes += static_cast<char>(std::stoi(digits, nullptr, 16));
    digits.clear();
  }
  return bytes;
}

const std::string kSignature2 = "0d0a0d0a000d0a515549540a ";

std::string v2(std::string_view rest) { return from_hex(kSignature2 + std::string(rest)); }

struct Good {
  std::string bytes;
  bool local;
  std::string source;  // empty: none given
  std::string destination;
};

const std::vector<Good> kGood{
    // As haproxy 2.6 sends them.
    {"PROXY TCP4 127.0.0.1 127.0.0.1 53272 19031\r\n", false, "127.0.0.1:53272", "127.0.0.1:19031"},
    {v2("20 00 0007 03 0004 a9b87e8f"), true, "", ""},
    {v2("21 11 0016 7f000001 7f000001 e5fc 4a58 03 0004 cc40b1e8 05 0000"), false,
     "127.0.0.1:58876", "127.0.0.1:19032"},
    // Version 1.
    {"PROXY TCP6 2001:db8::1 2001:db8::2 65535 0\r\n", false, "[2001:db8::1]:65535",
     "[2001:db8::2]:0"},
    {"PROXY TCP6 ::ffff:192.0.2.1 ::ffff:192.0.2.2 1 2\r\n", false, "192.0.2.1:1", "192.0.2.2:2"},
    {"PROXY UNKNOWN\r\n", false, "", ""},
    {"PROXY UNKNOWN ffff:f:f:f:f:f:f:ffff ffff:f:f:f:f:f:f:ffff 65535 65535\r\n", false, "", ""},
    {"PROXY UNKNOWN " + std::string(91, '?') + "\r\n", false, "", ""},  // the longest: 107 bytes
    // Version 2: no family, IPv6, v4-mapped, datagram, Unix; fields that are not ours.
    {v2("21 00 0000"), false, "", ""},
    {v2("20 11 0000"), true, "", ""},
    {v2("20 ff 0003 010203"), true, "", ""},
    {v2("20 00 0003 78797a"), true, "", ""},  // LOCAL: skipped, whatever it is
    {v2("20 00 000c c0000201 c0000202 0001 0002"), true, "", ""},
    {v2("20 00 0007 03 0004 a9b87e8e"), true, "", ""},
    {v2("21 21 0024 20010db8000000000000000000000001 20010db8000000000000000000000002 0001 0002"),
     false, "[2001:db8::1]:1", "[2001:db8::2]:2"},
    {v2("21 21 0024 00000000000000000000ffffc0000201 00000000000000000000ffffc0000202 0001 0002"),
     false, "192.0.2.1:1", "192.0.2.2:2"},
    {v2("21 12 000c c0000201 c0000202 0001 0002"), false, "", ""},
    {v2("21 31 00d8 " + std::string(432, '0')), false, "", ""},
    {v2("21 11 0012 c0000201 c0000202 0001 0002 ea 0003 017670"), false, "192.0.2.1:1",
     "192.0.2.2:2"},
    {v2("20 00 0ff0 04 0fed " + std::string(std::size_t{2} * 0xfed, '0')), true, "", ""},
};

}  // namespace

TEST_CASE("a PROXY header says whom the proxy connects for, and how long it is") {
  for (const Good& row : kGood) {
    CAPTURE(row.bytes);
    for (const char* const payload : {"", "PROXY TCP4 ", "\r\n\r\n"}) {
      const auto parsed = parse(row.bytes + payload);
      REQUIRE(parsed.ok());
      REQUIRE(parsed->has_value());
      const ProxyHeader& header = **parsed;
      CHECK(header.local == row.local);
      CHECK(header.size == row.bytes.size());
      CHECK(header.has_addresses == !row.source.empty());
      if (!header.has_addresses) continue;
      CHECK(to_string(header.source) == row.source);
      CHECK(to_string(header.destination) == row.destination);
    }
  }
}

TEST_CASE("of a PROXY header that is not whole yet, nothing is used and nothing is wrong") {
  for (const Good& row : kGood) {
    for (std::size_t size = 0; size < row.bytes.size(); ++size) {
      CAPTURE(row.bytes);
      CAPTURE(size);
      const auto parsed = parse(row.bytes.substr(0, size));
      REQUIRE(parsed.ok());
      CHECK_FALSE(parsed->has_value());
    }
  }
}

TEST_CASE("what is wrong with a PROXY header is named") {
  struct Row {
    std::string bytes;
    const char* error;
  };
  for (const Row& row : std::initializer_list<Row>{
           {"G", "no PROXY header of version 1 or 2"},
           {"GET / HTTP/1.1\r\n", "no PROXY header of version 1 or 2"},
           {"\x16\x03\x01", "no PROXY header of version 1 or 2"},
           {"PROXYTCP4", "no PROXY header of version 1 or 2"},
           {"\r\n\r\n\r", "no PROXY header of version 1 or 2"},
           {"PROXY \r\n", "PROXY version 1: \"\" is none of TCP4, TCP6, UNKNOWN"},
           {"PROXY tcp4 1.2.3.4 1.2.3.5 1 2\r\n",
            "PROXY version 1: \"tcp4\" is none of TCP4, TCP6, UNKNOWN"},
           {"PROXY UNKNOWNS\r\n", "PROXY version 1: \"UNKNOWNS\" is none of TCP4, TCP6, UNKNOWN"},
           {"PROXY TCP4\r\n",
            "PROXY version 1: TCP4: expected source, destination and their ports, one space apart"},
           {"PROXY TCP4 1.2.3.4 1.2.3.5 1 2 \r\n",
            "PROXY version 1: TCP4: expected source, destination and their ports, one space apart"},
           {"PROXY TCP4 1.2.3.4  1.2.3.5 1\r\n", "PROXY version 1: TCP4: \"\" is no IPv4 address"},
           {"PROXY TCP4 ::1 ::1 1 2\r\n", "PROXY version 1: TCP4: \"::1\" is no IPv4 address"},
           {"PROXY TCP6 1.2.3.4 ::1 1 2\r\n",
            "PROXY version 1: TCP6: \"1.2.3.4\" is no IPv6 address"},
           {"PROXY TCP4 1.2.3.4 1.2.3.256 1 2\r\n",
            "PROXY version 1: TCP4: \"1.2.3.256\" is no IPv4 address"},
           {"PROXY TCP4 1.2.3.4 1.2.3.5 65536 2\r\n",
            "PROXY version 1: TCP4: \"65536\" is no port"},
           {"PROXY TCP4 1.2.3.4 1.2.3.5 1 -2\r\n", "PROXY version 1: TCP4: \"-2\" is no port"},
           {"PROXY TCP4 1.2.3.4 1.2.3.5 1 02\r\n", "PROXY version 1: TCP4: \"02\" is no port"},
           {"PROXY TCP4 1.2.3.4 1.2.3.5 1 \r\n", "PROXY version 1: TCP4: \"\" is no port"},
           {"PROXY TCP4 1.2.3.4 1.2.3.5 1 2\n", nullptr},  // a line ends with CR and LF
           {"PROXY UNKNOWN " + std::string(92, '?') + "\r\n",
            "PROXY version 1: no end of line within 107 bytes"},
           {"PROXY TCP4 " + std::string(96, '1'),
            "PROXY version 1: no end of line within 107 bytes"},
           {v2("11"), "PROXY version 2: version 1 is unknown"},
           {v2("31"), "PROXY version 2: version 3 is unknown"},
           {v2("22"), "PROXY version 2: command 2 is unknown"},
           {v2("21 41 0000"), "PROXY version 2: family and transport 0x41 are unknown"},
           {v2("21 13 000c"), "PROXY version 2: family and transport 0x13 are unknown"},
           {v2("21 01 0000"), "PROXY version 2: family and transport 0x01 are unknown"},
           {v2("21 11 000b"), "PROXY version 2: 27 bytes are too short for its addresses"},
           {v2("21 21 0023"), "PROXY version 2: 51 bytes are too short for its addresses"},
           {v2("21 31 00d7"), "PROXY version 2: 231 bytes are too short for its addresses"},
           {v2("20 00 0ff1"), "PROXY version 2: 4097 bytes, more than 4096"},
           {v2("21 11 ffff"), "PROXY version 2: 65551 bytes, more than 4096"},
           {v2("21 00 0002 0300"), "PROXY version 2: a field is cut short"},
           {v2("21 11 000f c0000201 c0000202 0001 0002 050001"),
            "PROXY version 2: field 0x05 is longer than the header"},
           {v2("21 00 0006 03 0003 a9b87e"), "PROXY version 2: a CRC32c of 3 bytes"},
           {v2("21 00 0007 03 0004 a9b87e8e"), "PROXY version 2: the CRC32c does not match"},
           {v2("21 11 0016 7f000001 7f000002 e5fc 4a58 03 0004 cc40b1e8 05 0000"),
            "PROXY version 2: the CRC32c does not match"},
       }) {
    CAPTURE(row.bytes);
    const auto parsed = parse(row.bytes);
    REQUIRE(parsed.ok() == (row.error == nullptr));
    if (row.error == nullptr) {
      CHECK_FALSE(parsed->has_value());
    } else {
      CHECK(parsed.error().message == row.error);
    }
  }
}

TEST_CASE("a flipped bit in a PROXY header with a checksum never makes it name another client") {
  const std::string& good = kGood[2].bytes;
  const ProxyHeader meant = **parse(good);
  for (std::size_t bit = 0; bit < good.size() * 8; ++bit) {
    CAPTURE(bit);
    std::string bad = good;
    bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ (1 << bit % 8));
    const auto parsed = parse(bad + std::string(kMaxProxyHeader, '\0'));
    if (!parsed) continue;
    REQUIRE(parsed->has_value());
    const ProxyHeader& header = **parsed;
    const bool same = header.source == meant.source && header.destination == meant.destination;
    CHECK((same || !header.has_addresses));
  }
}

TEST_CASE("a PROXY header that was written is read as what was meant") {
  struct Row {
    const char* source;
    const char* destination;
    const char* text;
    std::size_t binary_size;
  };
  for (const Row& row :
       {Row{"192.0.2.1:40000", "192.0.2.2:443", "PROXY TCP4 192.0.2.1 192.0.2.2 40000 443\r\n", 28},
        Row{"[2001:db8::1]:1", "[::1]:65535", "PROXY TCP6 2001:db8::1 ::1 1 65535\r\n", 52},
        Row{"192.0.2.1:1", "[2001:db8::2]:2", "PROXY TCP6 ::ffff:192.0.2.1 2001:db8::2 1 2\r\n",
            52},
        Row{"255.255.255.255:65535", "255.255.255.255:65535",
            "PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", 28}}) {
    CAPTURE(row.text);
    const Endpoint source = *parse_endpoint(row.source);
    const Endpoint destination = *parse_endpoint(row.destination);
    for (const auto version : {ProxyVersion::kV1, ProxyVersion::kV2}) {
      const std::string written = write_proxy_header(version, source, destination);
      const auto parsed = parse(written);
      REQUIRE(parsed.ok());
      REQUIRE(parsed->has_value());
      CHECK((*parsed)->source == source);
      CHECK((*parsed)->destination == destination);
      CHECK((*parsed)->size == written.size());
      if (version == ProxyVersion::kV1) CHECK(written == row.text);
      if (version == ProxyVersion::kV2) CHECK(written.size() == row.binary_size);
    }
  }
}

TEST_CASE("a PROXY header goes on to the next server as it came, in the same version") {
  for (const Good& row : kGood) {
    CAPTURE(row.bytes);
    const bool text = row.bytes.starts_with("PROXY ");
    CHECK(forward_proxy_header(text ? ProxyVersion::kV1 : ProxyVersion::kV2, row.bytes) ==
          row.bytes);
  }
}

TEST_CASE("a PROXY header goes on in the other version with the same client, or with none") {
  struct Row {
    std::string came;
    std::string goes_on;
  };
  for (const Row& row : std::initializer_list<Row>{
           {"PROXY TCP4 192.0.2.1 192.0.2.2 1 258\r\n",
            v2("21 11 000c c0000201 c0000202 0001 0102")},
           {"PROXY TCP6 2001:db8::1 2001:db8::2 1 2\r\n",
            v2("21 21 0024 20010db8000000000000000000000001 20010db8000000000000000000000002"
               "0001 0002")},
           {"PROXY UNKNOWN ff ff 1 2\r\n", v2("21 00 0000")},
           {v2("21 11 0012 c0000201 c0000202 0001 0002 ea 0003 017670"),
            "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n"},
           {v2("20 00 0007 03 0004 a9b87e8f"), "PROXY UNKNOWN\r\n"},
           {v2("20 11 000c c0000201 c0000202 0001 0002"), "PROXY UNKNOWN\r\n"},
           {v2("21 00 0000"), "PROXY UNKNOWN\r\n"},
           {v2("21 12 000c c0000201 c0000202 0001 0002"), "PROXY UNKNOWN\r\n"},
           {v2("21 31 00d8 " + std::string(432, '0')), "PROXY UNKNOWN\r\n"},
       }) {
    CAPTURE(row.came);
    const bool text = row.came.starts_with("PROXY ");
    CHECK(forward_proxy_header(text ? ProxyVersion::kV2 : ProxyVersion::kV1, row.came) ==
          row.goes_on);
  }
}
