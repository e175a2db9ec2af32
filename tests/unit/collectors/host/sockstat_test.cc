#include "collectors/host/sockstat.h"

#include <unistd.h>

#include "tests/support/testing.h"

using namespace tcpvitals;
using namespace tcpvitals::testing;

namespace {

Result<Fields> parse_tcp(std::string_view text) { return parse_sockstat(text, "TCP"); }
Result<Fields> parse_tcp6(std::string_view text) { return parse_sockstat(text, "TCP6"); }

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

TEST_CASE("sockstat: an error says which line and what is wrong with it") {
  CHECK(parse_tcp("UDP: inuse 1\n").error().message == "no line TCP:");
  CHECK(parse_tcp("TCP6: inuse 1\n").error().message == "no line TCP:");
  CHECK(parse_tcp("x\nTCP: inuse\n").error().message == "line 2: no value for inuse");
  CHECK(parse_tcp("TCP: inuse 1 inuse 2\n").error().message == "line 1: inuse appears twice");
  CHECK(parse_tcp("TCP: inuse -4\n").error().message == "line 1: \"-4\" is not a number");
}

TEST_CASE("sockstat: every prefix of the file is an error or gives the same numbers") {
  const std::string text = fixture_text("6.18-namespace", "net/sockstat");
  const Fields whole = *parse_tcp(text);
  check_every_prefix(text, parse_tcp, [&](const Fields& f) { return f == whole; });
  const std::string text6 = fixture_text("6.18-namespace", "net/sockstat6");
  const Fields whole6 = *parse_tcp6(text6);
  check_every_prefix(text6, parse_tcp6, [&](const Fields& f) { return f == whole6; });
}
