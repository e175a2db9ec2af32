#include "agent/config/config.h"

#include <doctest/doctest.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>
#include <string>
#include <vector>

#include "agent/config/yaml.h"
#include "tests/fixtures/directory.h"

using namespace tcpvitals;
using tcpvitals::testing::fixture_path;
using namespace std::chrono_literals;

namespace {

Config good(const std::string& text, const ConfigFlags& flags = {}) {
  const auto config = parse_config(text, "t.yml", flags);
  REQUIRE_MESSAGE(config.ok(), config.error().message);
  return *config;
}

// What is said of a text; "ok" if nothing is.
std::string complaint(const std::string& text, const ConfigFlags& flags = {}) {
  const auto config = parse_config(text, "t.yml", flags);
  return config ? "ok" : config.error().message;
}

// One line of a `connections:` map, the second of the file.
std::string under_connections(const std::string& line) { return "connections:\n  " + line + "\n"; }

std::string file_text(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  REQUIRE(file.good());
  return {std::istreambuf_iterator<char>(file), {}};
}

NamedPrefix peer(const char* name, const char* prefix) { return {name, *parse_ip_prefix(prefix)}; }

}  // namespace

TEST_CASE("nothing in the file is the defaults") {
  for (const char* text : {"", "\n", "# only a comment\n", "---\n", "{}", "connections:\n",
                           "connections: {}\n", "connections:\n  peers:\n  limits:\n"}) {
    CAPTURE(text);
    CHECK(good(text).connections == ConnectionsConfig{});
  }
}

TEST_CASE("the example in docs/ says what it seems to say") {
  const Config config = good(file_text(fixture_path("../../docs/tcpvitals.yml")));
  ConnectionsConfig expected;
  expected.peers = {peer("office", "198.51.100.0/24"), peer("office", "2001:db8:100::/48"),
                    peer("database", "10.20.0.0/16"), peer("private", "203.0.113.0/24")};
  expected.ports = {{"https", {443, 443}},
                    {"postgres", {5432, 5432}},
                    {"postgres", {6432, 6432}},
                    {"workers", {8000, 8099}}};
  expected.excludes = {true, {{22, 22}, {9100, 9199}}, {*parse_ip_prefix("192.0.2.0/28")}};
  expected.limits.groups = 300;
  expected.close_wait_threshold = 90s;
  CHECK(config.connections == expected);
  CHECK(summary(config) ==
        "6 peer names, 3 port names, grouped by direction, port, peer, 2 listeners");
}

TEST_CASE("the reference in docs/ has every limit as it is") {
  const std::string page = file_text(fixture_path("../../docs/configuration.md"));
  for (const LimitOption& limit : kLimitOptions) {
    const std::string row = fmt::format("| `{}` | `--connections.{}` | {} | {} |", limit.key,
                                        limit.flag, ConnectionLimits{}.*limit.value, limit.highest);
    CAPTURE(row);
    CHECK(page.find(row) != std::string::npos);
  }
}

TEST_CASE("each key sets its field, and no other") {
  const struct {
    const char* line;
    void (*set)(ConnectionsConfig&);
  } kTable[] = {
      {"peers: {a: 10.0.0.0/8}", [](auto& c) { c.peers = {peer("a", "10.0.0.0/8")}; }},
      {"peers: {a: 192.0.2.1}", [](auto& c) { c.peers = {peer("a", "192.0.2.1/32")}; }},
      {"peers: {a: '::/0', A_.-9: 0.0.0.0/0}",
       [](auto& c) {
         c.peers = {peer("a", "::/0"), peer("A_.-9", "0.0.0.0/0")};
       }},
      {"ports: {web: 80}",
       [](auto& c) {
         c.ports = {{"web", {80, 80}}};
       }},
      {"ports: {web: [80, 8080-8089], low: 1-1023}",
       [](auto& c) {
         c.ports = {{"web", {80, 80}}, {"web", {8080, 8089}}, {"low", {1, 1023}}};
       }},
      {"ports: {all: 1-65535}",
       [](auto& c) {
         c.ports = {{"all", {1, 65535}}};
       }},
      {"group_by: [peer]",
       [](auto& c) {
         c.group_by = {false, false, true, false, false};
       }},
      {"group_by: port",
       [](auto& c) {
         c.group_by = {false, true, false, false, false};
       }},
      {"group_by: [netns, cgroup, direction, port, peer]",
       [](auto& c) {
         c.group_by = {true, true, true, true, true};
       }},
      {"exclude: {loopback: true}", [](auto& c) { c.excludes.loopback = true; }},
      {"exclude: {loopback: false}", [](auto&) {}},
      {"exclude: {ports: 22}",
       [](auto& c) {
         c.excludes.ports = {{22, 22}};
       }},
      {"exclude: {peers: 'fe80::/10'}",
       [](auto& c) { c.excludes.peers = {*parse_ip_prefix("fe80::/10")}; }},
      {"limits: {connections: 1}", [](auto& c) { c.limits.connections = 1; }},
      {"limits: {groups: 10000}", [](auto& c) { c.limits.groups = 10'000; }},
      {"limits: {peers: 4}", [](auto& c) { c.limits.peers = 4; }},
      {"limits: {cgroups: 7}", [](auto& c) { c.limits.cgroups = 7; }},
      {"limits: {namespaces: 8}", [](auto& c) { c.limits.namespaces = 8; }},
      {"limits: {listeners: 9}", [](auto& c) { c.limits.listeners = 9; }},
      {"cpu_budget: 1", [](auto& c) { c.cpu_budget = 1; }},
      {"cpu_budget: 1e-3", [](auto& c) { c.cpu_budget = 0.001; }},
      {"group_idle: 1s", [](auto& c) { c.group_idle = 1s; }},
      {"group_idle: 1w2d3h4m5s", [](auto& c) { c.group_idle = 9 * 24h + 3h + 4min + 5s; }},
      {"group_idle: 1y", [](auto& c) { c.group_idle = 365 * 24h; }},
      {"close_wait_threshold: 90m", [](auto& c) { c.close_wait_threshold = 90min; }},
      {"ephemeral_destinations: 0", [](auto& c) { c.ephemeral_destinations = 0; }},
  };
  for (const auto& row : kTable) {
    CAPTURE(row.line);
    ConnectionsConfig expected;
    row.set(expected);
    CHECK(good(under_connections(row.line)).connections == expected);
  }
}

TEST_CASE("YAML may be spelt as one likes, and refer to itself") {
  const Config plain = good(under_connections("exclude: {ports: [80, 90]}"));
  for (const char* text :
       {"{connections: {exclude: {ports: [80, 90]}}}",
        "connections:\r\n  exclude:\r\n    ports:\r\n    - 80\r\n    - \"90\"\r\n",
        "\xEF\xBB\xBF%YAML 1.2\n---\nconnections: {exclude: {ports: [80, 90]}}\n...\n",
        "connections: {exclude: {ports: [&a 80, 90]}} # \xC3\xA9\n"}) {
    CAPTURE(text);
    CHECK(good(text).connections == plain.connections);
  }
  const Config aliased = good("connections: {exclude: {ports: [&a 80, &b 90, *a, *b]}}");
  CHECK(aliased.connections.excludes.ports.size() == 4);
}

TEST_CASE("flags stand above the file, the file above the defaults") {
  ConfigFlags flags;
  CHECK(default_config(flags).connections == ConnectionsConfig{});
  flags.cpu_budget = 0.5;
  flags.limits = {{&ConnectionLimits::groups, 7}};
  const std::string text = "connections: {cpu_budget: 0.1, limits: {groups: 8, cgroups: 9}}";
  const Config config = good(text, flags);
  CHECK(config.connections.cpu_budget == 0.5);
  CHECK(config.connections.limits.groups == 7);
  CHECK(config.connections.limits.cgroups == 9);
  CHECK(config.connections.limits.peers == ConnectionLimits{}.peers);
  CHECK(default_config(flags).connections.limits.groups == 7);

  const std::string two_names = under_connections("peers: {a: 10.0.0.0/8, b: 11.0.0.0/8}");
  flags.limits = {{&ConnectionLimits::peers, 5}};
  CHECK(complaint(two_names) == "ok");
  CHECK(complaint(two_names, flags) ==
        "t.yml:2:10: connections.peers: a map: 6 names, 4 of them built in: expected at most 5, as "
        "connections.limits.peers or --connections.max-peers has it");
}

TEST_CASE(
    "what is wrong in connections is told by line, column, key, value and what would be right") {
  const struct {
    const char* line;
    const char* expected;  // after "t.yml:2:"
  } kTable[] = {
      {"pears: {}",
       "3: connections: \"pears\": expected one of peers, ports, group_by, exclude, "
       "limits, "
       "cpu_budget, group_idle, close_wait_threshold, ephemeral_destinations"},
      {"Peers: {}",
       "3: connections: \"Peers\": expected one of peers, ports, group_by, exclude, "
       "limits, "
       "cpu_budget, group_idle, close_wait_threshold, ephemeral_destinations"},
      {"{a: 1}: 2", "3: connections: a map: expected a key"},
      {"~: 2", "3: connections: nothing: expected a key"},
      {"? [a]\n  : 2", "5: connections: a list: expected a key"},

      {"peers: [10.0.0.0/8]", "10: connections.peers: a list: expected a map"},
      {"peers: 10.0.0.0/8", "10: connections.peers: \"10.0.0.0/8\": expected a map"},
      {"peers: {a: 10.0.0.0/33}",
       "14: connections.peers.a: \"10.0.0.0/33\": expected a prefix such as 10.0.0.0/8 or "
       "fc00::/7"},
      {"peers: {a: 10.0.0/8}",
       "14: connections.peers.a: \"10.0.0/8\": expected a prefix such as 10.0.0.0/8 or fc00::/7"},
      {"peers: {a: ten}",
       "14: connections.peers.a: \"ten\": expected a prefix such as 10.0.0.0/8 or fc00::/7"},
      {"peers: {a: 10.0.0.0/}",
       "14: connections.peers.a: \"10.0.0.0/\": expected a prefix such as 10.0.0.0/8 or fc00::/7"},
      {"peers: {a: ''}",
       "14: connections.peers.a: \"\": expected a prefix such as 10.0.0.0/8 or fc00::/7"},
      {"peers: {a: \"10.0.0.0/8\\0\"}",
       "14: connections.peers.a: \"10.0.0.0/8\\u0000\": expected a prefix such as 10.0.0.0/8 or "
       "fc00::/7"},
      {"peers: {a: \"10.0.0.1\\0\\n\"}",
       "14: connections.peers.a: \"10.0.0.1\\u0000\\n\": expected a prefix such as 10.0.0.0/8 or "
       "fc00::/7"},
      {"peers: {a: }",
       "11: connections.peers.a: nothing: expected a prefix such as 10.0.0.0/8 or fc00::/7"},
      {"peers: {a: {b: 10.0.0.0/8}}",
       "14: connections.peers.a: a map: expected a prefix such as 10.0.0.0/8 or fc00::/7"},
      {"peers: {a: [[10.0.0.0/8]]}",
       "15: connections.peers.a: a list: expected a prefix such as 10.0.0.0/8 or fc00::/7"},
      {"peers: {a: []}", "14: connections.peers.a: a list: expected at least one value in it"},
      {"peers: {a: 10.1.2.3/8}",
       "14: connections.peers.a: \"10.1.2.3/8\": bits are set past its length: expected "
       "10.0.0.0/8"},
      {"peers: {a: 'fd00::1/7'}",
       "14: connections.peers.a: \"fd00::1/7\": bits are set past its length: expected fc00::/7"},
      {"peers: {a: 10.0.0.0/8, a: 11.0.0.0/8}",
       "26: connections.peers: \"a\": a second time; first in line 2"},
      {"peers: {a: [10.0.0.0/8, 10.0.0.0/8]}",
       "27: connections.peers.a: \"10.0.0.0/8\": a second time: a has it in line 2"},
      {"peers: {other: 10.0.0.0/8}",
       "11: connections.peers: \"other\": a name with a meaning of its own: expected another"},
      {"peers: {'': 10.0.0.0/8}",
       "11: connections.peers: \"\": expected a name of 1 to 64 letters, digits, _ . and -"},
      {"peers: {a b: 10.0.0.0/8}",
       "11: connections.peers: \"a b\": expected a name of 1 to 64 letters, digits, _ . and -"},
      {"peers: {b\xC3\xBCro: 10.0.0.0/8}",
       "11: connections.peers: \"b\xC3\xBCro\": expected a name of 1 to 64 letters, digits, _ . "
       "and "
       "-"},
      {"peers: {<<: {a: 10.0.0.0/8}}",
       "11: connections.peers: \"<<\": expected a name of 1 to 64 letters, digits, _ . and -"},
      {"peers: {aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa: 10.0.0.0/8}",
       "11: connections.peers: "
       "\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa...\": "
       "expected a name of 1 to 64 letters, digits, _ . and -"},

      {"ports: {a: 0}",
       "14: connections.ports.a: \"0\": expected a port from 1 to 65535, or a range such as "
       "8000-8099"},
      {"ports: {a: 65536}",
       "14: connections.ports.a: \"65536\": expected a port from 1 to 65535, or a range such as "
       "8000-8099"},
      {"ports: {a: -1}",
       "14: connections.ports.a: \"-1\": expected a port from 1 to 65535, or a range such as "
       "8000-8099"},
      {"ports: {a: 80-}",
       "14: connections.ports.a: \"80-\": expected a port from 1 to 65535, or a range such as "
       "8000-8099"},
      {"ports: {a: 0-80}",
       "14: connections.ports.a: \"0-80\": expected a port from 1 to 65535, or a range such as "
       "8000-8099"},
      {"ports: {a: 80-90-99}",
       "14: connections.ports.a: \"80-90-99\": expected a port from 1 to 65535, or a range such as "
       "8000-8099"},
      {"ports: {a: http}",
       "14: connections.ports.a: \"http\": expected a port from 1 to 65535, or a range such as "
       "8000-8099"},
      {"ports: {a: 90-80}",
       "14: connections.ports.a: \"90-80\": ends before it begins: expected 80-90"},
      {"ports: {a: 80, b: 80}",
       "21: connections.ports.b: \"80\": meets 80-80 of a in line 2, which is as wide: expected "
       "one "
       "to be narrower"},
      {"ports: {a: 1-10, b: 5-14}",
       "23: connections.ports.b: \"5-14\": meets 1-10 of a in line 2, which is as wide: expected "
       "one "
       "to be narrower"},
      {"ports: {a: 11-20, b: 31-40, c: 15-24}",
       "34: connections.ports.c: \"15-24\": meets 11-20 of a in line 2, which is as wide: expected "
       "one to be narrower"},
      {"ports: {other: 80}",
       "11: connections.ports: \"other\": a name with a meaning of its own: expected another"},
      {"ports: {unknown: 80}",
       "11: connections.ports: \"unknown\": a name with a meaning of its own: expected another"},
      {"ports: {ephemeral: 80}",
       "11: connections.ports: \"ephemeral\": a name with a meaning of its own: expected another"},
      {"ports: {8080: 80}",
       "11: connections.ports: \"8080\": a number is no name for a port: expected a letter in it"},

      {"group_by: [service]",
       "14: connections.group_by: \"service\": expected one of direction, port, peer, "
       "cgroup, netns"},
      {"group_by: [peer, port, peer]", "26: connections.group_by: \"peer\": a second time"},
      {"group_by: []", "13: connections.group_by: a list: expected at least one value in it"},
      {"group_by:",
       "3: connections.group_by: nothing: expected one of direction, port, peer, cgroup, "
       "netns"},

      {"exclude: true", "12: connections.exclude: \"true\": expected a map"},
      {"exclude: {loopback: yes}",
       "23: connections.exclude.loopback: \"yes\": expected true or false"},
      {"exclude: {port: 80}",
       "13: connections.exclude: \"port\": expected one of loopback, ports, peers"},
      {"exclude: {ports: [80, 70000]}",
       "25: connections.exclude.ports: \"70000\": expected a port from 1 to 65535, or a range such "
       "as 8000-8099"},
      {"exclude: {peers: 10.0.0.1/8}",
       "20: connections.exclude.peers: \"10.0.0.1/8\": bits are set past its length: expected "
       "10.0.0.0/8"},

      {"limits: {sockets: 5}",
       "12: connections.limits: \"sockets\": expected one of connections, groups, peers, "
       "cgroups, namespaces, listeners"},
      {"limits: {groups: -1}",
       "20: connections.limits.groups: \"-1\": expected a number from 1 to 10000"},
      {"limits: {groups: 0}",
       "20: connections.limits.groups: \"0\": expected a number from 1 to 10000"},
      {"limits: {groups: 99999999999999999999}",
       "20: connections.limits.groups: \"99999999999999999999\": expected a number from 1 to "
       "10000"},
      {"limits: {groups: 1.5}",
       "20: connections.limits.groups: \"1.5\": expected a number from 1 to 10000"},
      {"limits: {groups: .nan}",
       "20: connections.limits.groups: \".nan\": expected a number from 1 to 10000"},
      {"limits: {connections: 16777217}",
       "25: connections.limits.connections: \"16777217\": expected a number from 1 to 16777216"},
      {"limits: {peers: 3}",
       "19: connections.limits.peers: \"3\": expected a number from 4 to 255"},

      {"cpu_budget: 0", "15: connections.cpu_budget: \"0\": expected a number from 0.001 to 1"},
      {"cpu_budget: nan", "15: connections.cpu_budget: \"nan\": expected a number from 0.001 to 1"},
      {"cpu_budget: inf", "15: connections.cpu_budget: \"inf\": expected a number from 0.001 to 1"},
      {"cpu_budget: 5%", "15: connections.cpu_budget: \"5%\": expected a number from 0.001 to 1"},
      {"group_idle: 0s",
       "15: connections.group_idle: \"0s\": expected a duration from 1s to 1y, such as 90s, 5m or "
       "1h30m"},
      {"group_idle: 3600",
       "15: connections.group_idle: \"3600\": expected a duration from 1s to 1y, such as 90s, 5m "
       "or "
       "1h30m"},
      {"group_idle: 30m1h",
       "15: connections.group_idle: \"30m1h\": expected a duration from 1s to 1y, such as 90s, 5m "
       "or "
       "1h30m"},
      {"group_idle: 1h-0s",
       "15: connections.group_idle: \"1h-0s\": expected a duration from 1s to 1y, such as 90s, 5m "
       "or "
       "1h30m"},
      {"group_idle: 1500ms",
       "15: connections.group_idle: \"1500ms\": expected a duration from 1s to 1y, such as 90s, 5m "
       "or 1h30m"},
      {"group_idle: 366d",
       "15: connections.group_idle: \"366d\": expected a duration from 1s to 1y, such as 90s, 5m "
       "or "
       "1h30m"},
      {"close_wait_threshold: soon",
       "25: connections.close_wait_threshold: \"soon\": expected a duration from 1s to 1y, such as "
       "90s, 5m or 1h30m"},
      {"ephemeral_destinations: 1001",
       "27: connections.ephemeral_destinations: \"1001\": expected a number from 0 to 1000"},
  };
  for (const auto& row : kTable) {
    CHECK(complaint(under_connections(row.line)) == std::string("t.yml:2:") + row.expected);
  }
  CHECK(
      complaint(under_connections("peers:\n    a: 10.0.0.0/8\n    b: [11.0.0.0/8, 10.0.0.0/8]")) ==
      "t.yml:4:21: connections.peers.b: \"10.0.0.0/8\": a second time: a has it in line 3");
}

TEST_CASE("what is wrong with the text itself is told by line and column") {
  const struct {
    std::string text;
    const char* expected;  // after "t.yml:"
  } kTable[] = {
      {"connections", "1:1: \"connections\": expected a map"},
      {"- connections", "1:1: a list: expected a map"},
      {"connection: {}", "1:1: \"connection\": expected one of connections, server"},
      {"connections: []", "1:14: connections: a list: expected a map"},
      {"connections:\nconnections:\n", "2:1: \"connections\": a second time; first in line 1"},
      {"connections:\n\tpeers: {}\n", "2:1: a tab: expected spaces as indentation"},
      {"connections:\n  \tpeers: {}\n", "2:3: a tab: expected spaces as indentation"},
      {"connections: {", "1:1: not YAML: end of map flow not found"},
      {"connections: {peers: [}", "1:23: not YAML: illegal flow end"},
      {"connections: 'x", "1:16: not YAML: illegal EOF in scalar"},
      {"a: b: c", "1:5: not YAML: illegal map value"},
      {"connections: *nothing", "1:14: not YAML: the referenced anchor is not defined"},
      {"connections: {}\n---\nconnections: {}\n", "2:1: a second document: expected only one"},
      {"[]\nconnections: {}\n", "2:1: a second document: expected only one"},
      {"{},---\n", "1:3: a second document: expected only one"},
      {"connections: !include other.yml", "1:14: a tag: expected a plain value"},
      {"connections:\n  peers: \xFF\n", "2:10: byte 0xff is not UTF-8"},
      {"connections:\n  peers: \xC3", "2:10: byte 0xc3 is not UTF-8"},
      {std::string("\xFF\xFE{\0}\0", 6), "1:1: byte 0xff is not UTF-8"},
      {std::string("connections:\0", 13), "1:13: control character 0x00: expected text"},
      {"connections:\n\x04  pears: 1\n", "2:1: control character 0x04: expected text"},
      {"&a [*a]", "1:1: a list: expected a map"},
      {"connections: &a {peers: {x: *a}}",
       "1:14: connections.peers.x: a map: expected a prefix such as 10.0.0.0/8 or fc00::/7"},
      {std::string(33, '['), "1:17: nested too deeply"},
      {std::string(100'000, '['), "1:17: nested too deeply"},
      {std::string(kMaxYamlBytes + 1, ' '), "1:1: expected a file of at most 1048576 bytes"},
  };
  for (const auto& row : kTable) {
    CAPTURE(row.expected);
    CHECK(complaint(row.text) == std::string("t.yml:") + row.expected);
  }
  CHECK(complaint(std::string(kMaxYamlBytes, '\n')) == "ok");
}

TEST_CASE("what would be too much is told as that") {
  std::string peers;
  std::string ports;
  std::string excludes;
  for (int i = 0; i < 1001; ++i) {
    if (i < 61) peers += fmt::format("    p{}: 10.0.{}.0/24\n", i, i);
    ports += fmt::format("    s{}: {}\n", i, i + 1);
  }
  for (int i = 0; i < 5000; ++i) excludes += fmt::format("10.{}.{}.0/24, ", i / 256, i % 256);
  CHECK(
      complaint("connections:\n  peers:\n" + peers) ==
      "t.yml:3:5: connections.peers: a map: 65 names, 4 of them built in: expected at most 64, as "
      "connections.limits.peers or --connections.max-peers has it");
  CHECK(complaint("connections:\n  limits: {peers: 65}\n  peers:\n" + peers) == "ok");
  CHECK(complaint("connections:\n  ports:\n" + ports) ==
        "t.yml:3:5: connections.ports: a map: expected at most 1000 names");
  CHECK(complaint("connections:\n  exclude: {peers: [" + excludes + "]}")
            .rfind("t.yml:2:12: connections.exclude: a map: 5000 prefixes and 0 ranges of ports "
                   "are more "
                   "than the kernel can exclude",
                   0) == 0);
  CHECK(PeerGroups().size() == kBuiltInPeers);
}

TEST_CASE("a list of lists of lists by aliases costs what it takes to read it once") {
  std::string bomb = "connections:\n  peers:\n    a0: &a0 [x, x, x, x, x, x, x, x, x]\n";
  for (int i = 1; i < 20; ++i) {
    bomb += "    a" + std::to_string(i) + ": &a" + std::to_string(i) + " [";
    for (int k = 0; k < 9; ++k) bomb += "*a" + std::to_string(i - 1) + ", ";
    bomb += "]\n";
  }
  CHECK(
      complaint(bomb) ==
      "t.yml:3:14: connections.peers.a0: \"x\": expected a prefix such as 10.0.0.0/8 or fc00::/7");
}

TEST_CASE("a file is read through a link; what is no file is told") {
  const std::string dir = "/tmp/tcpvitals-config-test-" + std::to_string(::getpid());
  REQUIRE(std::filesystem::create_directory(dir));
  std::ofstream(dir + "/real.yml") << "connections: {cpu_budget: 0.5}";
  std::filesystem::create_symlink("real.yml", dir + "/link.yml");
  REQUIRE(::mkfifo((dir + "/pipe").c_str(), 0600) == 0);
  std::ofstream(dir + "/large.yml") << std::string(kMaxYamlBytes + 1, '\n');

  CHECK(read_config(dir + "/link.yml")->connections.cpu_budget == 0.5);
  CHECK(read_config(dir).error().message == dir + ": expected a regular file");
  CHECK(read_config(dir + "/pipe").error().message == dir + "/pipe: expected a regular file");
  CHECK(read_config(dir + "/none").error().message == dir + "/none: No such file or directory");
  CHECK(read_config(dir + "/large.yml").error().message ==
        dir + "/large.yml:1:1: expected a file of at most 1048576 bytes");
  std::filesystem::remove_all(dir);
}

// Each begins with a comment that has what is said of it, after the name of the file.
TEST_CASE("every broken file in the fixtures is refused for its own reason") {
  std::size_t files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(fixture_path("config/broken"))) {
    const std::string path = entry.path();
    const std::string text = file_text(path);
    CAPTURE(path);
    REQUIRE(text.starts_with("# "));
    const auto config = read_config(path);
    REQUIRE_FALSE(config.ok());
    CHECK(config.error().message == path + ":" + text.substr(2, text.find('\n') - 2));
    ++files;
  }
  CHECK(files >= 30);
}
