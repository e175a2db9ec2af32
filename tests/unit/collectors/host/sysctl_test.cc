#include "collectors/host/sysctl.h"

#include <unistd.h>

#include "tests/support/testing.h"

using namespace tcpvitals;
using namespace tcpvitals::testing;

TEST_CASE("sysctl: settings come under their names, limits in the words of what they limit") {
  const ProcSource source = fixture_source("6.18-host");
  const Collected got = collect(*make_sysctl_collector(source));
  REQUIRE(got.outcome.ok());
  CHECK(got.at("tcp_sysctl_value{key=\"net.core.somaxconn\"}") == 4096);
  CHECK(got.at("tcp_sysctl_value{key=\"net.ipv4.tcp_fin_timeout\"}") == 60);
  CHECK(got.at("tcp_sysctl_value{key=\"net.ipv4.tcp_keepalive_time\"}") == 7200);
  CHECK(got.at("tcp_sysctl_value{key=\"net.ipv4.tcp_rmem[min]\"}") == 4096);
  CHECK(got.at("tcp_sysctl_value{key=\"net.ipv4.tcp_rmem[default]\"}") == 131072);
  CHECK(got.at("tcp_sysctl_value{key=\"net.ipv4.tcp_rmem[max]\"}") == 33554432);
  CHECK(got.at("tcp_sysctl_value{key=\"net.ipv4.tcp_mem[pressure]\"}") == 383867);
  CHECK(got.at("tcp_sysctl_value{key=\"net.ipv4.ip_local_port_range[low]\"}") == 32768);
  CHECK(got.at("tcp_host_ephemeral_ports_limit") == 60999 - 32768 + 1);
  CHECK(got.at("tcp_host_orphans_limit") == 131072);
  CHECK(got.at("tcp_host_time_wait_limit") == 131072);
  const auto page = static_cast<double>(sysconf(_SC_PAGESIZE));
  CHECK(got.at("tcp_host_memory_limit_bytes{threshold=\"low\"}") == 287898 * page);
  CHECK(got.at("tcp_host_memory_limit_bytes{threshold=\"pressure\"}") == 383867 * page);
  CHECK(got.at("tcp_host_memory_limit_bytes{threshold=\"high\"}") == 575796 * page);
}

TEST_CASE("sysctl: what a namespace does not have is absent, and the rest is served") {
  const ProcSource source = fixture_source("6.18-namespace");
  const Collected got = collect(*make_sysctl_collector(source));
  REQUIRE(got.outcome.ok());
  CHECK_FALSE(got.has("tcp_host_memory_limit_bytes{threshold=\"high\"}"));
  CHECK_FALSE(got.has("tcp_host_orphans_limit"));
  CHECK(got.has("tcp_host_time_wait_limit"));
}

TEST_CASE("sysctl: a host without any of the settings is absent") {
  const ProcSource source("/nonexistent");
  const Collected got = collect(*make_sysctl_collector(source));
  REQUIRE_FALSE(got.outcome.ok());
  CHECK(got.outcome.error().is_absent());
}

TEST_CASE("sysctl: a setting is one line of as many numbers as it has names") {
  CHECK(*parse_sysctl("4096\t131072\t33554432\n", 3) ==
        std::vector<double>{4096, 131072, 33554432});
  CHECK(parse_sysctl("4096\t131072\n", 3).error().message == "not one line of 3 numbers");
  CHECK(parse_sysctl("1\n2\n", 1).error().message == "not one line of 1 number");
  CHECK(parse_sysctl("1", 1).error().message == "line 1: cut off before its end");
  CHECK(parse_sysctl("x\n", 1).error().message == "\"x\" is not a number");
  CHECK_FALSE(parse_sysctl("", 1).ok());
}

TEST_CASE("sysctl: a port range that ends before it begins is a failure") {
  const TextSource source{{"sys/net/ipv4/ip_local_port_range", "60999\t32768\n"}};
  const Collected got = collect(*make_sysctl_collector(source));
  REQUIRE_FALSE(got.outcome.ok());
  CHECK(got.outcome.error().message ==
        "sys/net/ipv4/ip_local_port_range: the last port is below the first");
}

TEST_CASE("sysctl: no prefix of a setting is a setting") {
  const std::string text = fixture_text("6.18-host", "sys/net/ipv4/tcp_mem");
  check_every_prefix(
      text, [](std::string_view prefix) { return parse_sysctl(prefix, 3); },
      [](const std::vector<double>&) { return false; });
}
