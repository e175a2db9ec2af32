#include "collectors/host/snmp.h"

#include <algorithm>

#include "collectors/host/snmp6.h"
#include "tests/support/testing.h"

using namespace tcpvitals;
using namespace tcpvitals::testing;

namespace {

std::string error_of(std::string_view text) {
  const auto fields = parse_snmp(text);
  REQUIRE_FALSE(fields.ok());
  return fields.error().message;
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
  const std::string text = "Ip: A\nIp: 1\nIcmp: A\nIcmp: 1\nTcp: MaxConn OutSegs\nTcp: -1 5\n";
  const auto fields = parse_snmp(text);
  REQUIRE(fields.ok());
  CHECK(fields->count("TcpOutSegs") == 1);
  CHECK(fields->count("TcpInCsumErrors") == 0);
  CHECK(fields->count("TcpMaxConn") == 0);  // -1: the kernel has no such limit
}

TEST_CASE("snmp: every prefix of the file is an error or gives the same numbers") {
  for (const char* fixture : {"6.18-host", "6.18-namespace", "5.10-reduced", "4.19-reduced"}) {
    CAPTURE(fixture);
    const std::string text = fixture_text(fixture, "net/snmp");
    const Fields whole = *parse_snmp(text);
    check_every_prefix(text, parse_snmp, [&](const Fields& f) { return f == whole; });
  }
}

TEST_CASE("snmp: an error says which line and what is wrong with it") {
  CHECK(error_of("") == "empty");
  CHECK(error_of("Tcp: A B\nTcp: 1 2") == "line 2: cut off before its end");
  CHECK(error_of("Tcp: A B\nTcp: 1\n") == "line 2: 2 names but 1 values");
  CHECK(error_of("Tcp: A B\nTcp: 1 x\n") == "line 2: B: \"x\" is not a number");
  CHECK(error_of("Tcp: A\nTcp: 18446744073709551616\n") ==
        "line 2: A: \"18446744073709551616\" does not fit 64 bits");
  CHECK(error_of("Tcp: A A\nTcp: 1 2\n") == "line 2: A appears twice");
  CHECK(error_of("Tcp: A\nUdp: 1\n") == "line 2: not the values of Tcp:");
  CHECK(error_of("Tcp: A\n") == "line 1: names without values");
  CHECK(error_of("\n\n") == "line 1: no section name");
  CHECK(error_of("Tcp: A\nTcp: 1\n") == "only 1 of the sections Ip, Icmp, Tcp");
}

TEST_CASE("snmp: a file with none of the known fields is a failure, not an empty success") {
  const TextSource source{{"net/snmp", "Ip: A\nIp: 1\nIcmp: A\nIcmp: 1\nTcp: A\nTcp: 1\n"}};
  const Collected got = collect(*make_snmp_collector(source));
  REQUIRE_FALSE(got.outcome.ok());
  CHECK(got.outcome.error().message == "net/snmp: none of the fields that belong in it");
  CHECK_FALSE(got.outcome.error().is_absent());
}

TEST_CASE("snmp6: what IPv6 did to packets comes out under our names") {
  const std::string text =
      "Ip6OutNoRoutes                  \t3\nIp6InCEPkts \t4\nIcmp6InPktTooBigs \t5\n";
  const auto fields = parse_snmp6(text);
  REQUIRE(fields.ok());
  CHECK(*fields == Fields{{"Ip6OutNoRoutes", 3}, {"Ip6InCEPkts", 4}, {"Icmp6InPktTooBigs", 5}});
  CHECK(parse_snmp6("A 1\nB\n").error().message == "line 2: 1 words, not a name and a value");
  CHECK(parse_snmp6("A 1\nA 2\n").error().message == "line 2: A appears twice");
  CHECK(parse_snmp6("A -2\n").error().message == "line 1: \"-2\" is not a number");

  const ProcSource source = fixture_source("6.18-host");
  const Collected got = collect(*make_snmp6_collector(source));
  REQUIRE(got.outcome.ok());
  CHECK(got.at("tcp_host_ipv6_too_big_received_total") == 0);
  CHECK(got.at("tcp_host_ipv6_unreachables_received_total") == 1);
}

TEST_CASE("snmp6: a host without IPv6 is absent, not failed") {
  const ProcSource source = fixture_source("4.19-reduced");
  const Collected got = collect(*make_snmp6_collector(source));
  REQUIRE_FALSE(got.outcome.ok());
  CHECK(got.outcome.error().is_absent());
}

TEST_CASE("snmp6: a prefix of the file never gives another number") {
  const std::string text = fixture_text("6.18-namespace", "net/snmp6");
  const Fields whole = *parse_snmp6(text);
  check_every_prefix(text, parse_snmp6, [&](const Fields& fields) {
    return std::includes(whole.begin(), whole.end(), fields.begin(), fields.end());
  });
}
