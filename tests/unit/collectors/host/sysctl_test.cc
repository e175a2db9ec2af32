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
  using Values = std::vector<std::optional<double>>;
  CHECK(parse_sysctl("4096\t131072\t33554432\n", 3).record == Values{4096, 131072, 33554432});
  CHECK(parse_sysctl("-1\n", 1).record == Values{-1});
  CHECK(parse_sysctl("1 x 3\n", 3).record == Values{1, std::nullopt, 3});
  CHECK(parse_sysctl("1 x 3\n", 3).errors.first == "\"x\" is not a number");
  CHECK(parse_sysctl("7 \n\n", 1).record == Values{7});
  const struct {
    const char* text;
    std::size_t count;
    const char* first;
  } wrong[] = {{"4096\t131072\n", 3, "not one line of 3 numbers"},
               {"1 2 3 4\n", 3, "not one line of 3 numbers"},
               {"1\n2\n", 1, "not one line of 1 number"},
               {"1", 1, "line 1: cut off before its end"},
               {"", 1, "empty"}};
  for (const auto& row : wrong) {
    CAPTURE(row.text);
    CHECK(parse_sysctl(row.text, row.count).record.empty());
    CHECK(parse_sysctl(row.text, row.count).errors.first == row.first);
  }
}

TEST_CASE("sysctl: a setting of -1 is a setting, and a limit below zero is 0") {
  const TextSource source{{"sys/net/ipv4/tcp_fastopen", "-1\n"},
                          {"sys/net/ipv4/tcp_max_tw_buckets", "-1\n"},
                          {"sys/net/ipv4/tcp_max_orphans", "-5\n"}};
  const Collected got = collect(*make_sysctl_collector(source));
  REQUIRE(got.outcome.ok());
  CHECK(got.at("tcp_sysctl_value{key=\"net.ipv4.tcp_fastopen\"}") == -1);
  CHECK(got.at("tcp_sysctl_value{key=\"net.ipv4.tcp_max_tw_buckets\"}") == -1);
  CHECK(got.at("tcp_host_time_wait_limit") == 0);
  CHECK(got.at("tcp_host_orphans_limit") == 0);
  CHECK(got.parse_errors.count == 0);
}

TEST_CASE("sysctl: a setting that cannot be read or parsed costs itself, and its file is told") {
  const ProcSource real = fixture_source("6.18-host");
  const std::size_t all = collect(*make_sysctl_collector(real)).samples.size();
  const struct {
    const char* path;
    std::size_t samples;
  } rows[] = {{"sys/net/ipv4/tcp_fastopen", 1},
              {"sys/net/ipv4/tcp_rmem", 3},
              {"sys/net/ipv4/tcp_max_orphans", 2},
              {"sys/net/ipv4/tcp_mem", 6},
              {"sys/net/ipv4/ip_local_port_range", 3}};
  for (const auto& row : rows) {
    CAPTURE(row.path);
    for (const Fault fault : {Fault::kError, Fault::kGarbage, Fault::kTruncated}) {
      const FailingSource source(real, fault, row.path);
      const Collected got = collect(*make_sysctl_collector(source));
      REQUIRE(got.outcome.ok());
      CHECK(got.samples.size() == all - row.samples);
      CHECK(got.parse_errors.count >= 1);
      CHECK(got.parse_errors.first.starts_with(row.path));
    }
  }
}

TEST_CASE("sysctl: one number of several that is wrong costs itself") {
  const TextSource source{{"sys/net/ipv4/tcp_mem", "10\tx\t30\n"}};
  const Collected got = collect(*make_sysctl_collector(source));
  REQUIRE(got.outcome.ok());
  CHECK(got.at("tcp_sysctl_value{key=\"net.ipv4.tcp_mem[low]\"}") == 10);
  CHECK(got.at("tcp_sysctl_value{key=\"net.ipv4.tcp_mem[high]\"}") == 30);
  CHECK(got.has("tcp_host_memory_limit_bytes{threshold=\"high\"}"));
  CHECK(got.samples.size() == 4);
  CHECK(got.parse_errors.first == "sys/net/ipv4/tcp_mem: \"x\" is not a number");
}

TEST_CASE("sysctl: what is no range of ports costs the limit of ports") {
  for (const char* range : {"60999\t32768\n", "-1\t60999\n", "32768\t65536\n"}) {
    CAPTURE(range);
    const TextSource source{{"sys/net/ipv4/ip_local_port_range", range}};
    const Collected got = collect(*make_sysctl_collector(source));
    REQUIRE(got.outcome.ok());
    CHECK(got.samples.size() == 2);  // the two settings as they are
    CHECK_FALSE(got.has("tcp_host_ephemeral_ports_limit"));
    CHECK(got.parse_errors.count == 1);
  }
  const TextSource source{{"sys/net/ipv4/ip_local_port_range", "60999\t32768\n"}};
  CHECK(collect(*make_sysctl_collector(source)).parse_errors.first ==
        "sys/net/ipv4/ip_local_port_range: 60999 to 32768 is no range of ports");
  const TextSource one{{"sys/net/ipv4/ip_local_port_range", "65535\t65535\n"}};
  CHECK(collect(*make_sysctl_collector(one)).at("tcp_host_ephemeral_ports_limit") == 1);
}

TEST_CASE("sysctl: a collector with nothing but garbage to read fails") {
  const TextSource source{{"sys/net/ipv4/tcp_sack", "x\n"}};
  const Collected got = collect(*make_sysctl_collector(source));
  REQUIRE_FALSE(got.outcome.ok());
  CHECK_FALSE(got.outcome.error().is_absent());
  CHECK(got.outcome.error().message == "sys/net/ipv4/tcp_sack: \"x\" is not a number");
}

TEST_CASE("sysctl: no prefix of a setting is a setting") {
  const std::string text = fixture_text("6.18-host", "sys/net/ipv4/tcp_mem");
  check_every_prefix(
      text, [](std::string_view prefix) { return parse_sysctl(prefix, 3); },
      [](const std::vector<std::optional<double>>& values) { return values.empty(); });
}

TEST_CASE("sysctl: reserved ports are no ports to choose from") {
  TextSource source{{"sys/net/ipv4/ip_local_port_range", "10000\t10009\n"}};
  const auto collector = make_sysctl_collector(source);
  const std::string limit = "tcp_host_ephemeral_ports_limit";
  CHECK(collect(*collector).at(limit) == 10);
  const std::pair<const char*, double> cases[] = {
      {"\n", 10}, {"10003\n", 9}, {"9990-10001,10008-20000\n", 6}, {"80,9999,10010\n", 10}};
  for (const auto& row : cases) {
    CAPTURE(row.first);
    source.set("sys/net/ipv4/ip_local_reserved_ports", row.first);
    CHECK(collect(*collector).at(limit) == row.second);
  }
}

TEST_CASE("sysctl: limits of what each namespace has are told of each, the settings of ours") {
  const TextSource host{{"sys/net/ipv4/ip_local_port_range", "32768\t60999\n"},
                        {"sys/net/ipv4/tcp_max_tw_buckets", "131072\n"}};
  NamespaceSources sources(host);
  sources.publish("host", {{"blue", std::make_shared<TextSource>(TextSource{
                                        {"sys/net/ipv4/ip_local_port_range", "10000\t10009\n"},
                                        {"sys/net/ipv4/ip_local_reserved_ports", "10003\n"},
                                        {"sys/net/ipv4/tcp_max_tw_buckets", "8\n"}})}});
  const Collected got = collect(*make_sysctl_collector(sources));
  REQUIRE(got.outcome.ok());
  CHECK(got.at("tcp_host_ephemeral_ports_limit{netns=\"host\"}") == 28232);
  CHECK(got.at("tcp_host_ephemeral_ports_limit{netns=\"blue\"}") == 9);
  CHECK(got.at("tcp_host_time_wait_limit{netns=\"host\"}") == 131072);
  CHECK(got.at("tcp_host_time_wait_limit{netns=\"blue\"}") == 8);
  CHECK(got.at("tcp_sysctl_value{key=\"net.ipv4.tcp_max_tw_buckets\"}") == 131072);
  CHECK(got.samples.size() == 4 + 3);
}
