#include "collectors/host/snmp.h"

#include <algorithm>

#include "collectors/host/snmp6.h"
#include "tests/support/testing.h"

using namespace tcpvitals;
using namespace tcpvitals::testing;

namespace {

struct Wrong {
  const char* text;
  Fields left;
  std::uint64_t errors;
  const char* first;
};

// One fault each, in a file that is sound besides.
void check_snmp(const Wrong& wrong) {
  CAPTURE(wrong.text);
  const auto parsed = parse_snmp(wrong.text);
  CHECK(parsed.record == wrong.left);
  CHECK(parsed.errors.count == wrong.errors);
  CHECK(parsed.errors.first == wrong.first);
}

}  // namespace

TEST_CASE("snmp: the kernel's counters come out under our names") {
  const ProcSource source = fixture_source("6.18-namespace");
  const Collected got = collect(*make_snmp_collector(source));
  REQUIRE(got.outcome.ok());
  CHECK(got.at("tcp_host_segments_sent_total") == 1123);
  CHECK(got.at("tcp_host_segments_received_total") == 1134);
  CHECK(got.at("tcp_host_segments_retransmitted_total") == 25);
  CHECK(got.at("tcp_host_connections_opened_total{by=\"active\"}") == 79);
  CHECK(got.at("tcp_host_connections_opened_total{by=\"passive\"}") == 68);
  CHECK(got.at("tcp_host_connect_failures_total") == 5);
  CHECK(got.at("tcp_host_established_resets_total") == 20);
  CHECK(got.at("tcp_host_resets_sent_total") == 15);
  CHECK(got.at("tcp_host_receive_errors_total") == 0);
  CHECK(got.at("tcp_host_checksum_errors_total") == 0);
  CHECK(got.at("tcp_host_connections_established") == 14);
  CHECK(got.at("tcp_host_retransmission_timeout_min_seconds") == 0.2);
  CHECK(got.at("tcp_host_retransmission_timeout_max_seconds") == 120);
}

TEST_CASE("snmp: kernels with fewer fields give the same TCP counters") {
  for (const char* fixture : {"5.10-reduced", "4.19-reduced"}) {
    CAPTURE(fixture);
    const ProcSource source = fixture_source(fixture);
    const Collected got = collect(*make_snmp_collector(source));
    REQUIRE(got.outcome.ok());
    CHECK(got.at("tcp_host_segments_sent_total") == 1123);
    CHECK(got.at("tcp_host_checksum_errors_total") == 0);
  }
}

TEST_CASE("snmp: a field that the kernel did not print is absent, not zero") {
  const auto parsed = parse_snmp("Tcp: MaxConn OutSegs\nTcp: -1 5\n");
  CHECK(parsed.record == Fields{{"TcpOutSegs", 5}});  // -1: the kernel has no such limit
  CHECK(parsed.errors.count == 0);
}

TEST_CASE("snmp: a prefix of the file never gives another number") {
  for (const char* fixture : {"6.18-host", "6.18-namespace", "5.10-reduced", "4.19-reduced"}) {
    CAPTURE(fixture);
    const std::string text = fixture_text(fixture, "net/snmp");
    const auto whole = parse_snmp(text);
    CHECK(whole.errors.count == 0);
    check_every_prefix(text, parse_snmp, [&](const Fields& fields) {
      return std::includes(whole.record.begin(), whole.record.end(), fields.begin(), fields.end());
    });
  }
}

TEST_CASE("snmp: a bad value costs its field") {
  check_snmp({"Tcp: A B\nTcp: 1 x\n", {{"TcpA", 1}}, 1, "line 2: B: \"x\" is not a count"});
  check_snmp({"Tcp: A B\nTcp: -7 2\n", {{"TcpB", 2}}, 1, "line 2: A: \"-7\" is not a count"});
  check_snmp({"Tcp: A B\nTcp: 18446744073709551616 2\n",
              {{"TcpB", 2}},
              1,
              "line 2: A: \"18446744073709551616\" does not fit 64 bits"});
  check_snmp({"Tcp: A B A C A\nTcp: 1 2 3 4 5\n",
              {{"TcpB", 2}, {"TcpC", 4}},
              2,
              "line 2: A appears twice"});
}

TEST_CASE("snmp: a bad line costs its section") {
  const Fields ip{{"IpA", 7}};
  check_snmp({"Tcp: A B\nTcp: 1\nIp: A\nIp: 7\n", ip, 1, "line 2: Tcp: 2 names but 1 values"});
  check_snmp({"Tcp: A\nTcp: 1 2\nIp: A\nIp: 7\n", ip, 1, "line 2: Tcp: 1 names but 2 values"});
  check_snmp({"Tcp: 1 2\nIp: A\nIp: 7\n", ip, 1, "line 1: Tcp: values without names"});
  check_snmp({"Ip: A\nIp: 7\nTcp: A B\nTcp: 1 2", ip, 1, "line 4: cut off before its end"});
  check_snmp({"Ip: A\nIp: 7\nwhat is this\n", ip, 1, "line 3: no section name"});
  // What another section says is nobody's trouble.
  check_snmp({"Udp: A A\nUdp: 1 2 x\nIp: A\nIp: 7\nUdp: 1\n", ip, 0, ""});
}

TEST_CASE("snmp: a blank line is counted and costs nothing") {
  check_snmp({"Tcp: A\n\nTcp: 1\n", {{"TcpA", 1}}, 1, "line 2: blank"});
  check_snmp({"Tcp: A \nTcp: 1\t \n", {{"TcpA", 1}}, 0, ""});
}

TEST_CASE("snmp: a section without values, or one that is not there, is absent and no error") {
  const Fields ip{{"IpA", 7}};
  check_snmp({"Tcp: A B\nIp: A\nIp: 7\n", ip, 0, ""});
  check_snmp({"Ip: A\nIp: 7\nTcp: A B\n", ip, 0, ""});
  check_snmp({"Ip: A\nIp: 7\n", ip, 0, ""});
}

TEST_CASE("snmp: what is wrong is told by file, line, field and value, and the rest is served") {
  const TextSource source{{"net/snmp", "Tcp: OutSegs InSegs\nTcp: 1 x\n"}};
  const Collected got = collect(*make_snmp_collector(source));
  REQUIRE(got.outcome.ok());
  CHECK(got.samples == std::map<std::string, double>{{"tcp_host_segments_sent_total", 1}});
  CHECK(got.parse_errors.count == 1);
  CHECK(got.parse_errors.first == "net/snmp: line 2: InSegs: \"x\" is not a count");
}

TEST_CASE("snmp: the collector fails only where nothing could be parsed") {
  const TextSource source{{"net/snmp", "Tcp: OutSegs\nTcp: x\n"}};
  const Collected got = collect(*make_snmp_collector(source));
  REQUIRE_FALSE(got.outcome.ok());
  CHECK_FALSE(got.outcome.error().is_absent());
  CHECK(got.outcome.error().message == "net/snmp: line 2: OutSegs: \"x\" is not a count");
}

TEST_CASE("snmp: a file without any of the fields is absent") {
  const TextSource source{{"net/snmp", "Ip: A\nIp: 1\nTcp: A\nTcp: 1\n"}};
  const Collected got = collect(*make_snmp_collector(source));
  REQUIRE_FALSE(got.outcome.ok());
  CHECK(got.outcome.error().is_absent());
  CHECK(got.parse_errors.count == 0);
}

TEST_CASE("snmp: a gauge of connections that fell below zero is absent, not enormous") {
  for (const char* wrapped : {"18446744073709551615", "4294967295", "2147483648"}) {
    CAPTURE(wrapped);
    const TextSource source{
        {"net/snmp", std::string("Tcp: CurrEstab OutSegs\nTcp: ") + wrapped + " 4294967296\n"}};
    const Collected got = collect(*make_snmp_collector(source));
    REQUIRE(got.outcome.ok());
    // A counter may be that large.
    CHECK(got.samples ==
          std::map<std::string, double>{{"tcp_host_segments_sent_total", 4294967296.0}});
    CHECK(got.parse_errors.first.starts_with("/proc/net/snmp: TcpCurrEstab: "));
    CHECK(got.parse_errors.first.ends_with(" is more than there can be"));
  }
  const TextSource most{{"net/snmp", "Tcp: CurrEstab\nTcp: 2147483647\n"}};
  CHECK(collect(*make_snmp_collector(most)).at("tcp_host_connections_established") == 2147483647);
}

TEST_CASE("snmp6: what IPv6 did to packets comes out under our names") {
  const auto parsed =
      parse_snmp6("Ip6OutNoRoutes                  \t3\nIp6InCEPkts \t4\nIcmp6InPktTooBigs \t5\n");
  CHECK(parsed.record ==
        Fields{{"Ip6OutNoRoutes", 3}, {"Ip6InCEPkts", 4}, {"Icmp6InPktTooBigs", 5}});
  CHECK(parsed.errors.count == 0);

  const ProcSource source = fixture_source("6.18-host");
  const Collected got = collect(*make_snmp6_collector(source));
  REQUIRE(got.outcome.ok());
  CHECK(got.at("tcp_host_ipv6_too_big_received_total") == 0);
  CHECK(got.at("tcp_host_ipv6_unreachables_received_total") == 1);
}

TEST_CASE("snmp6: an odd line costs itself") {
  const auto parsed = parse_snmp6("A 1\n\nB\nC 3 4\nD -2\nE 5 \nF 6\nF 7\nG 8");
  CHECK(parsed.record == Fields{{"A", 1}, {"E", 5}});
  CHECK(parsed.errors.count == 6);
  CHECK(parsed.errors.first == "line 2: blank");
  CHECK(parse_snmp6("B\n").errors.first == "line 1: B: 1 words, not a name and a value");
  CHECK(parse_snmp6("F 6\nF 7\n").errors.first == "line 2: F appears twice");
  CHECK(parse_snmp6("D -2\n").errors.first == "line 1: D: \"-2\" is not a count");
}

TEST_CASE("snmp6: a host without IPv6 is absent, not failed") {
  const ProcSource source = fixture_source("4.19-reduced");
  const Collected got = collect(*make_snmp6_collector(source));
  REQUIRE_FALSE(got.outcome.ok());
  CHECK(got.outcome.error().is_absent());
}

TEST_CASE("snmp6: a prefix of the file never gives another number") {
  const std::string text = fixture_text("6.18-namespace", "net/snmp6");
  const Fields whole = parse_snmp6(text).record;
  check_every_prefix(text, parse_snmp6, [&](const Fields& fields) {
    return std::includes(whole.begin(), whole.end(), fields.begin(), fields.end());
  });
}
