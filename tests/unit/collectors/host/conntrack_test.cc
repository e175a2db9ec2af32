#include "collectors/host/conntrack.h"

#include "tests/support/testing.h"

using namespace tcpvitals;
using namespace tcpvitals::testing;

TEST_CASE("conntrack: the statistics are hexadecimal and summed over the CPUs") {
  const ProcSource source = fixture_source("5.10-reduced");
  const Collected got = collect(*make_conntrack_collector(source));
  REQUIRE(got.outcome.ok());
  CHECK(got.at("tcp_conntrack_count") == 1000);
  CHECK(got.at("tcp_conntrack_limit") == 262144);
  CHECK(got.at("tcp_conntrack_drops_total") == 0xffffffff + 0x10p0);
  CHECK(got.at("tcp_conntrack_early_drops_total") == 4);
  CHECK(got.at("tcp_conntrack_insert_failures_total") == 3);
  CHECK(got.at("tcp_conntrack_invalid_packets_total") == 25);
  CHECK(got.at("tcp_conntrack_clashes_resolved_total") == 3);
  CHECK(got.at("tcp_conntrack_search_restarts_total") == 6);
  CHECK_FALSE(got.has("tcp_conntrack_chain_overflows_total"));  // 5.15 began to count it
}

TEST_CASE("conntrack: a host that does not track is absent, not zero") {
  const ProcSource source = fixture_source("4.19-reduced");
  const Collected got = collect(*make_conntrack_collector(source));
  REQUIRE_FALSE(got.outcome.ok());
  CHECK(got.outcome.error().is_absent());
}

TEST_CASE("conntrack: count and limit are served where the statistics are missing") {
  const ProcSource real = fixture_source("6.18-namespace");
  const FailingSource source(real, Fault::kMissing, "net/stat/nf_conntrack");
  const Collected got = collect(*make_conntrack_collector(source));
  REQUIRE(got.outcome.ok());
  CHECK(got.samples ==
        std::map<std::string, double>{{"tcp_conntrack_count", 8}, {"tcp_conntrack_limit", 262144}});
}

TEST_CASE("conntrack: fewer CPUs than before are a file cut off, not counters that fell") {
  TextSource source{{"sys/net/netfilter/nf_conntrack_count", "1\n"},
                    {"sys/net/netfilter/nf_conntrack_max", "1\n"},
                    {"net/stat/nf_conntrack", "drop\n05\n06\n"}};
  const auto collector = make_conntrack_collector(source);
  CHECK(collect(*collector).at("tcp_conntrack_drops_total") == 11);
  source.set("net/stat/nf_conntrack", "drop\n05\n");
  const Collected second = collect(*collector);
  REQUIRE_FALSE(second.outcome.ok());
  CHECK(second.outcome.error().message == "net/stat/nf_conntrack: 1 CPUs, 2 before");
}

TEST_CASE("conntrack: every prefix of the statistics is an error or says that it has fewer CPUs") {
  for (const char* fixture : {"5.10-reduced", "6.18-namespace"}) {
    CAPTURE(fixture);
    const std::string text = fixture_text(fixture, "net/stat/nf_conntrack");
    const ConntrackStat whole = *parse_conntrack_stat(text);
    check_every_prefix(text, parse_conntrack_stat,
                       [&](const ConntrackStat& stat) { return stat.cpus < whole.cpus; });
  }
}

TEST_CASE("conntrack: an error says which line and what is wrong with it") {
  CHECK(parse_conntrack_stat("a b\n").error().message == "no CPUs");
  CHECK(parse_conntrack_stat("a b\n1 2\n1\n").error().message == "line 3: 2 names but 1 values");
  CHECK(parse_conntrack_stat("a b\n1 xyz\n").error().message == "line 2: \"xyz\" is not a number");
  CHECK(parse_conntrack_stat("a a\n1 2\n").error().message == "line 1: a appears twice");
}
