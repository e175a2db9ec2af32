#include "collectors/host/local_ports.h"

#include <doctest/doctest.h>

#include "collectors/host/sysctl.h"

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
           {"1024 65535\n", "\n", 64512, {1024, 65535, 8080}, {1023}},
           {"10000\t10000\n", "\n", 1, {10000}, {9999, 10001}},
           {"32768\t60999\n",
            "8080,40000,50000-50009\n",
            28221,
            {39999, 40001, 49999, 50010},
            {8080, 40000, 50000, 50005, 50009}},
           {"32768\t60999\n", "30000-32768,60999-65535\n", 28230, {32769, 60998}, {32768, 60999}},
           {"20000\t20009\n", "1-65535\n", 0, {}, {20000, 20009}}}) {
    CAPTURE(row.reserved);
    const auto range = port_range(parse_sysctl(row.range, 2).record);
    REQUIRE(range);
    const auto reserved = parse_port_list(row.reserved);
    CHECK(reserved.errors.count == 0);
    const LocalPorts ports{*range, reserved.record};
    CHECK(ports.size() == row.size);
    for (const std::uint16_t port : row.inside) CHECK(ports.contains(port));
    for (const std::uint16_t port : row.outside) CHECK_FALSE(ports.contains(port));
  }
}

TEST_CASE("what is no range of ports is none") {
  for (const char* range :
       {"", "\n", "32768\n", "32768\tx\n", "60999\t32768\n", "1 2 3\n", "0\t70000\n", "-1\t5\n"}) {
    CAPTURE(range);
    CHECK_FALSE(port_range(parse_sysctl(range, 2).record));
  }
}

TEST_CASE(
    "of the reserved ports what is no port, or not after the one before, is left out and told") {
  const auto parsed = parse_port_list("80,x,9-,100-200\n");
  CHECK(parsed.record == std::vector<PortRange>{{80, 80}, {100, 200}});
  CHECK(parsed.errors.count == 2);
  CHECK(parsed.errors.first == "\"x\" is no port and no range of ports");
  CHECK(parse_port_list("80").errors.first == "cut off before its end");
  struct Row {
    const char* text;
    std::size_t ranges;
  };
  for (const Row& row : {Row{"1-\n", 0},
                         {"-1\n", 0},
                         {"5-3\n", 0},
                         {"70000\n", 0},
                         {"1 2\n", 0},
                         {"1;2\n", 0},
                         {"7,5\n", 1},
                         {"5-9,9\n", 1},
                         {"5-9,10\n", 2}}) {
    CAPTURE(row.text);
    const auto list = parse_port_list(row.text);
    CHECK(list.record.size() == row.ranges);
    CHECK((list.errors.count == 0) == (row.ranges == 2));
  }
  CHECK(parse_port_list("\n").errors.count == 0);
}
