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

TEST_CASE("conntrack: each of its files can be missing or unreadable and costs its own metrics") {
  const ProcSource real = fixture_source("6.18-namespace");
  const struct {
    const char* path;
    std::size_t samples;
  } files[] = {{"sys/net/netfilter/nf_conntrack_count", 1},
               {"sys/net/netfilter/nf_conntrack_max", 1},
               {"net/stat/nf_conntrack", 7}};
  for (const auto& file : files) {
    for (const Fault fault : {Fault::kMissing, Fault::kError}) {
      CAPTURE(file.path);
      const FailingSource source(real, fault, file.path);
      const Collected got = collect(*make_conntrack_collector(source));
      REQUIRE(got.outcome.ok());
      CHECK(got.samples.size() == 9 - file.samples);
      CHECK(got.parse_errors.count == (fault == Fault::kError ? 1 : 0));
    }
  }
  const FailingSource source(real, Fault::kMissing, "net/stat/nf_conntrack");
  CHECK(collect(*make_conntrack_collector(source)).samples ==
        std::map<std::string, double>{{"tcp_conntrack_count", 8}, {"tcp_conntrack_limit", 262144}});
}

TEST_CASE("conntrack: the statistics alone are served") {
  const TextSource source{{"net/stat/nf_conntrack", "insert_failed drop\n00000009  00000005\n"}};
  const Collected got = collect(*make_conntrack_collector(source));
  REQUIRE(got.outcome.ok());
  CHECK(got.samples == std::map<std::string, double>{{"tcp_conntrack_drops_total", 5},
                                                     {"tcp_conntrack_insert_failures_total", 9}});
}

TEST_CASE("conntrack: a table without a limit has none, not 0; a count that cannot be is absent") {
  for (const char* none : {"0\n", "-1\n"}) {
    const TextSource source{{"sys/net/netfilter/nf_conntrack_count", "12\n"},
                            {"sys/net/netfilter/nf_conntrack_max", none}};
    const Collected got = collect(*make_conntrack_collector(source));
    CHECK(got.samples == std::map<std::string, double>{{"tcp_conntrack_count", 12}});
    CHECK(got.parse_errors.count == 0);
  }
  for (const char* wrapped : {"-1\n", "4294967295\n"}) {
    const TextSource source{{"sys/net/netfilter/nf_conntrack_count", wrapped},
                            {"sys/net/netfilter/nf_conntrack_max", "9\n"}};
    const Collected got = collect(*make_conntrack_collector(source));
    CHECK(got.samples == std::map<std::string, double>{{"tcp_conntrack_limit", 9}});
    CHECK(got.parse_errors.count == 1);
  }
}

TEST_CASE("conntrack: each namespace has its own table and its own statistics") {
  const ProcSource host = fixture_source("6.18-host");
  NamespaceSources sources(host);
  sources.publish("host", {{"blue", std::make_shared<TextSource>(
                                        TextSource{{"sys/net/netfilter/nf_conntrack_count", "11\n"},
                                                   {"sys/net/netfilter/nf_conntrack_max", "16\n"},
                                                   {"net/stat/nf_conntrack", "drop\n0a\n"}})}});
  const Collected got = collect(*make_conntrack_collector(sources));
  const Collected ours = collect(*make_conntrack_collector(host));
  REQUIRE(got.outcome.ok());
  CHECK(got.at("tcp_conntrack_count{netns=\"blue\"}") == 11);
  CHECK(got.at("tcp_conntrack_limit{netns=\"blue\"}") == 16);
  CHECK(got.at("tcp_conntrack_drops_total{netns=\"blue\"}") == 10);
  CHECK(got.at("tcp_conntrack_count{netns=\"host\"}") == ours.at("tcp_conntrack_count"));
  CHECK(got.samples.size() == ours.samples.size() + 3);
}

TEST_CASE("conntrack: where only another namespace tracks, that one is served") {
  const TextSource host{};
  NamespaceSources sources(host);
  sources.publish("host", {{"blue", std::make_shared<TextSource>(TextSource{
                                        {"sys/net/netfilter/nf_conntrack_count", "11\n"}})}});
  const Collected got = collect(*make_conntrack_collector(sources));
  REQUIRE(got.outcome.ok());
  CHECK(got.samples == std::map<std::string, double>{{"tcp_conntrack_count{netns=\"blue\"}", 11}});
}

TEST_CASE("conntrack: fewer CPUs than before are a file cut off, not counters that fell") {
  TextSource source{{"sys/net/netfilter/nf_conntrack_count", "1\n"},
                    {"net/stat/nf_conntrack", "drop\n05\n06\n"}};
  const auto collector = make_conntrack_collector(source);
  const std::string drops = "tcp_conntrack_drops_total";
  CHECK(collect(*collector).at(drops) == 11);
  for (const char* shorter : {"drop\n05\n", "drop\n", "drop\n05\n06", "drop\n05\n06 1\n"}) {
    CAPTURE(shorter);
    source.set("net/stat/nf_conntrack", shorter);
    const Collected got = collect(*collector);
    REQUIRE(got.outcome.ok());
    CHECK(got.samples == std::map<std::string, double>{{"tcp_conntrack_count", 1}});
    CHECK(got.parse_errors.count > 0);
  }
  source.set("net/stat/nf_conntrack", "drop\n05\n");
  CHECK(collect(*collector).parse_errors.first == "net/stat/nf_conntrack: 1 CPUs, 2 before");
  source.set("net/stat/nf_conntrack", "drop\n05\n08\n");
  CHECK(collect(*collector).at(drops) == 13);
}

TEST_CASE("conntrack: each namespace is compared with its own CPUs") {
  const TextSource host{{"net/stat/nf_conntrack", "drop\n05\n"}};
  NamespaceSources sources(host);
  sources.publish("host", {{"blue", std::make_shared<TextSource>(
                                        TextSource{{"net/stat/nf_conntrack", "drop\n01\n02\n"}})}});
  const auto collector = make_conntrack_collector(sources);
  for (int i = 0; i < 2; ++i) {
    const Collected got = collect(*collector);
    CHECK(got.at("tcp_conntrack_drops_total{netns=\"host\"}") == 5);
    CHECK(got.at("tcp_conntrack_drops_total{netns=\"blue\"}") == 3);
  }
}

TEST_CASE("conntrack: a line that cannot be used costs all sums, a value its own") {
  const auto drop_of = [](std::string_view text) {
    const auto parsed = parse_conntrack_stat(text);
    const auto drop = parsed.record.totals.find("drop");
    return drop == parsed.record.totals.end() ? -1 : drop->second;
  };
  CHECK(drop_of("new drop\n1 2\n3 4\n") == 6);
  CHECK(drop_of("new drop \n1 2  \n\n3 4\n") == 6);
  CHECK(drop_of("new drop\nx 2\n3 4\n") == 6);
  CHECK(drop_of("new drop\n1 2\n3 xyz\n") == -1);
  CHECK(drop_of("new drop\n1 2\n3\n") == -1);
  CHECK(drop_of("new drop\n1 2\n3 4 5\n") == -1);
  CHECK(drop_of("new drop\n1 2\n3 4") == -1);
  CHECK(drop_of("drop drop\n1 2\n") == -1);
  CHECK(drop_of("new drop\n") == -1);
  const auto first_error = [](std::string_view text) {
    return parse_conntrack_stat(text).errors.first;
  };
  CHECK(first_error("a b\n").empty());
  CHECK(first_error("a b\n1 2\n1\n") == "line 3: 2 names but 1 values");
  CHECK(first_error("a b\n1 2 3\n") == "line 2: 2 names but 3 values");
  CHECK(first_error("a b\n1 xyz\n") == "line 2: b: \"xyz\" is not a count");
  CHECK(first_error("a a\n1 2\n") == "line 1: a appears twice");
}

TEST_CASE(
    "conntrack: an old kernel's statistics, with a blank at the end of each line, are whole") {
  const TextSource source{
      {"net/stat/nf_conntrack",
       "entries  searched found new invalid ignore delete delete_list insert insert_failed drop "
       "early_drop icmp_error  expect_new expect_create expect_delete\n"
       "00000021  00000000 00000000 00000000 00000003 0000000d 00000000 00000000 00000000 00000001 "
       "00000002 00000000 00000000  00000000 00000000 00000000 \n"}};
  const Collected got = collect(*make_conntrack_collector(source));
  REQUIRE(got.outcome.ok());
  CHECK(got.samples == std::map<std::string, double>{{"tcp_conntrack_drops_total", 2},
                                                     {"tcp_conntrack_early_drops_total", 0},
                                                     {"tcp_conntrack_insert_failures_total", 1},
                                                     {"tcp_conntrack_invalid_packets_total", 3}});
  CHECK(got.parse_errors.count == 0);
}

TEST_CASE("conntrack: of a header whose names have no values the other files are served") {
  // 16 names and 17 values: an old kernel with a counter that its header does not name.
  const TextSource source{{"sys/net/netfilter/nf_conntrack_count", "33\n"},
                          {"net/stat/nf_conntrack", "entries drop\n21 2 7\n"}};
  const Collected got = collect(*make_conntrack_collector(source));
  REQUIRE(got.outcome.ok());
  CHECK(got.samples == std::map<std::string, double>{{"tcp_conntrack_count", 33}});
  CHECK(got.parse_errors.first == "net/stat/nf_conntrack: line 2: 2 names but 3 values");
}

TEST_CASE("conntrack: a prefix of the statistics gives no sums, or those of fewer CPUs") {
  for (const char* fixture : {"5.10-reduced", "6.18-namespace"}) {
    CAPTURE(fixture);
    const std::string text = fixture_text(fixture, "net/stat/nf_conntrack");
    const ConntrackStat whole = parse_conntrack_stat(text).record;
    check_every_prefix(text, parse_conntrack_stat, [&](const ConntrackStat& stat) {
      return stat.totals.empty() || stat.cpus < whole.cpus;
    });
  }
}
