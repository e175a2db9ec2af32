#include "collectors/host/sockstat.h"

#include <unistd.h>

#include "tests/support/testing.h"

using namespace tcpvitals;
using namespace tcpvitals::testing;

namespace {

Parsed<Fields> parse_tcp(std::string_view text) { return parse_sockstat(text, "TCP"); }
Parsed<Fields> parse_tcp6(std::string_view text) { return parse_sockstat(text, "TCP6"); }

}  // namespace

TEST_CASE("sockstat: sockets, orphans and memory come out in base units") {
  const ProcSource source = fixture_source("6.18-namespace");
  const Collected got = collect(*make_sockstat_collector(source));
  REQUIRE(got.outcome.ok());
  CHECK(got.at("tcp_host_sockets") == 27);
  CHECK(got.at("tcp_host_ipv4_sockets_in_use") == 17);
  CHECK(got.at("tcp_host_orphans") == 0);
  CHECK(got.at("tcp_host_time_wait") == 51);
  CHECK(got.at("tcp_host_memory_bytes") == 932.0 * static_cast<double>(sysconf(_SC_PAGESIZE)));

  const Collected got6 = collect(*make_sockstat6_collector(source));
  REQUIRE(got6.outcome.ok());
  CHECK(got6.at("tcp_host_ipv6_sockets_in_use") == 9);
}

TEST_CASE("sockstat6: a host without IPv6 is absent, and sockstat is whole without it") {
  const ProcSource source = fixture_source("4.19-reduced");
  CHECK(collect(*make_sockstat_collector(source)).outcome.ok());
  const Collected got6 = collect(*make_sockstat6_collector(source));
  REQUIRE_FALSE(got6.outcome.ok());
  CHECK(got6.outcome.error().is_absent());
}

TEST_CASE("sockstat: a field that is wrong costs itself") {
  struct Row {
    const char* line;
    Fields left;
    const char* first;
  };
  const Row rows[] = {
      {"TCP: inuse 1 orphan\n", {{"TCP:inuse", 1}}, "line 1: no value for orphan"},
      {"TCP: inuse orphan 2 tw 3\n",
       {{"TCP:orphan", 2}, {"TCP:tw", 3}},
       "line 1: no value for inuse"},
      {"TCP: inuse 1 5 tw 3\n", {{"TCP:inuse", 1}, {"TCP:tw", 3}}, "line 1: \"5\" has no name"},
      {"TCP: inuse 1 tw 3 inuse 1\n", {{"TCP:tw", 3}}, "line 1: inuse appears twice"},
      {"TCP: inuse -4 tw 3\n", {{"TCP:tw", 3}}, "line 1: inuse: \"-4\" is not a count"},
      {"TCP: inuse 1x tw 3\n", {{"TCP:tw", 3}}, "line 1: inuse: \"1x\" is not a count"},
      {"UDP: inuse\n\nTCP: tw 3 \n", {{"TCP:tw", 3}}, "line 2: blank"},
      {"TCP: inuse 1\nTCP: tw", {{"TCP:inuse", 1}}, "line 2: cut off before its end"},
  };
  for (const Row& row : rows) {
    CAPTURE(row.line);
    const auto parsed = parse_tcp(row.line);
    CHECK(parsed.record == row.left);
    CHECK(parsed.errors.count == 1);
    CHECK(parsed.errors.first == row.first);
  }
}

TEST_CASE("sockstat: what the line does not have is absent") {
  const TextSource source{{"net/sockstat", "sockets: used 0\nTCP: inuse 9 tw 123\nUDP: inuse 0\n"}};
  const Collected got = collect(*make_sockstat_collector(source));
  REQUIRE(got.outcome.ok());
  CHECK(got.samples == std::map<std::string, double>{{"tcp_host_ipv4_sockets_in_use", 9},
                                                     {"tcp_host_time_wait", 123}});
  CHECK(got.parse_errors.count == 0);
}

TEST_CASE("sockstat: a line without a head is told and costs itself") {
  const auto parsed = parse_tcp("what is this\nTCP: tw 3\n");
  CHECK(parsed.record == Fields{{"TCP:tw", 3}});
  CHECK(parsed.errors.first == "line 1: no section name");
}

TEST_CASE("sockstat: a file without the line, or with an empty one, is absent") {
  for (const char* text : {"UDP: inuse 1\n", "TCP6: inuse 1\n", "sockets: used 0\nTCP:\n"}) {
    CAPTURE(text);
    const TextSource source{{"net/sockstat", text}};
    const Collected got = collect(*make_sockstat_collector(source));
    REQUIRE_FALSE(got.outcome.ok());
    CHECK(got.outcome.error().is_absent());
  }
}

TEST_CASE("sockstat: no gauge tells of more sockets, or more pages, than there can be") {
  const TextSource source{{"net/sockstat",
                           "TCP: inuse 4294967295 orphan -3 tw 18446744073709551615 alloc 5 mem "
                           "18446744073709551613\n"}};
  const Collected got = collect(*make_sockstat_collector(source));
  REQUIRE(got.outcome.ok());
  CHECK(got.samples == std::map<std::string, double>{{"tcp_host_sockets", 5}});
  CHECK(got.parse_errors.count == 4);
}

TEST_CASE("sockstat: every prefix of the file gives the same numbers or none") {
  const std::string text = fixture_text("6.18-namespace", "net/sockstat");
  const Fields whole = parse_tcp(text).record;
  check_every_prefix(text, parse_tcp, [&](const Fields& f) { return f.empty() || f == whole; });
  const std::string text6 = fixture_text("6.18-namespace", "net/sockstat6");
  const Fields whole6 = parse_tcp6(text6).record;
  check_every_prefix(text6, parse_tcp6, [&](const Fields& f) { return f.empty() || f == whole6; });
}
