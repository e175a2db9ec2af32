#include "collectors/attribution/local_ports.h"

#include <doctest/doctest.h>

using namespace tcpvitals;

TEST_CASE("local ports are those of the range without the reserved ones") {
  struct Row {
    const char* range;
    const char* reserved;
    std::size_t size;
    std::vector<std::uint16_t> inside;
    std::vector<std::uint16_t> outside;
  };
  for (const Row& row : std::vector<Row>{
           {"32768\t60999\n", "\n", 28232, {32768, 60999}, {32767, 61000, 0, 443}},
           {"1024 65535\n", "", 64512, {1024, 65535, 8080}, {1023}},
           {"10000\t10000\n", "\n", 1, {10000}, {9999, 10001}},
           {"32768\t60999\n",
            "8080,40000,50000-50009\n",
            28221,
            {39999, 40001, 49999, 50010},
            {8080, 40000, 50000, 50005, 50009}},
           {"32768\t60999\n", "30000-32768,60999-65535\n", 28230, {32769, 60998}, {32768, 60999}},
           {"20000\t20009\n", "1-65535\n", 0, {}, {20000, 20009}}}) {
    CAPTURE(row.reserved);
    const auto ports = parse_local_ports(row.range, row.reserved);
    REQUIRE(ports);
    CHECK(ports->size() == row.size);
    for (const std::uint16_t port : row.inside) CHECK(ports->contains(port));
    for (const std::uint16_t port : row.outside) CHECK_FALSE(ports->contains(port));
  }
}

TEST_CASE("what is no range of ports and no list of them is an error") {
  for (const char* range :
       {"", "\n", "32768\n", "32768\tx\n", "60999\t32768\n", "1 2 3\n", "0\t70000\n", "-1\t5\n"}) {
    CAPTURE(range);
    CHECK_FALSE(parse_local_ports(range, ""));
  }
  for (const char* reserved : {"x", "1-", "-1", "5-3", "7,5", "5-9,9", "70000", "1 2", "1;2"}) {
    CAPTURE(reserved);
    CHECK_FALSE(parse_local_ports("1\t2\n", reserved));
  }
}
