// The collectors of /proc/net, where more than one network namespace is watched.
#include "collectors/host/fields.h"

#include "collectors/host/netstat.h"
#include "collectors/host/snmp.h"
#include "collectors/host/snmp6.h"
#include "collectors/host/sockstat.h"
#include "tests/support/testing.h"

using namespace tcpvitals;
using namespace tcpvitals::testing;

namespace {

// Ours is one captured host, `blue` another.
struct TwoNamespaces {
  explicit TwoNamespaces(std::shared_ptr<const KernelSource> blue_source =
                             std::make_shared<ProcSource>(fixture_source("6.18-namespace"))) {
    sources.publish("host", {{"blue", std::move(blue_source)}});
  }
  const ProcSource host = fixture_source("6.18-host");
  NamespaceSources sources{host};
};

std::shared_ptr<const KernelSource> failing(Fault fault, const std::string& path) {
  static const ProcSource real = fixture_source("6.18-namespace");
  return std::make_shared<FailingSource>(real, fault, path);
}

}  // namespace

TEST_CASE("every namespace's counters come under its name, in one family") {
  const TwoNamespaces two;
  const ProcSource blue = fixture_source("6.18-namespace");
  const Collected apart = collect(*make_snmp_collector(two.sources));
  const Collected ours = collect(*make_snmp_collector(two.host));
  const Collected other = collect(*make_snmp_collector(blue));
  REQUIRE(apart.outcome.ok());
  CHECK(apart.families.size() == ours.families.size());
  CHECK(apart.samples.size() == ours.samples.size() + other.samples.size());
  for (const char* by : {"active", "passive"}) {
    const std::string name = std::string("tcp_host_connections_opened_total{by=\"") + by + "\"";
    CHECK(apart.at(name + ",netns=\"host\"}") == ours.at(name + "}"));
    CHECK(apart.at(name + ",netns=\"blue\"}") == other.at(name + "}"));
  }
  const std::string sent = "tcp_host_segments_sent_total";
  CHECK(apart.at(sent + "{netns=\"host\"}") == ours.at(sent));
  CHECK(apart.at(sent + "{netns=\"blue\"}") == other.at(sent));
}

TEST_CASE("what is one number for the whole machine is told once and without a namespace") {
  const TwoNamespaces two;
  const Collected got = collect(*make_sockstat_collector(two.sources));
  const Collected ours = collect(*make_sockstat_collector(two.host));
  REQUIRE(got.outcome.ok());
  for (const char* name : {"tcp_host_sockets", "tcp_host_orphans", "tcp_host_memory_bytes"}) {
    CAPTURE(name);
    CHECK(got.at(name) == ours.at(name));
  }
  CHECK(got.samples.size() == 3 + 2 * 2);
  CHECK(got.at("tcp_host_time_wait{netns=\"host\"}") == ours.at("tcp_host_time_wait"));
}

TEST_CASE("fields chosen by a regular expression have their namespace too") {
  const TwoNamespaces two;
  const auto collector = make_netstat_collector(two.sources, "TcpExtTCPHPHits");
  REQUIRE(collector.ok());
  const Collected got = collect(**collector);
  REQUIRE(got.outcome.ok());
  const std::string field = "tcp_host_netstat_value{field=\"TcpExtTCPHPHits\",netns=";
  CHECK(got.samples.contains(field + "\"host\"}"));
  CHECK(got.samples.contains(field + "\"blue\"}"));
}

TEST_CASE("a namespace whose file cannot be read costs its own numbers, and is counted") {
  const TwoNamespaces two(failing(Fault::kError, "net/snmp"));
  const Collected got = collect(*make_snmp_collector(two.sources));
  REQUIRE(got.outcome.ok());
  CHECK(got.samples.contains("tcp_host_segments_sent_total{netns=\"host\"}"));
  CHECK_FALSE(got.samples.contains("tcp_host_segments_sent_total{netns=\"blue\"}"));
  CHECK(two.sources.failures() == 1);
  CHECK(got.parse_errors.count == 0);
  CHECK(collect(*make_snmp6_collector(two.sources)).outcome.ok());
  CHECK(two.sources.failures() == 1);
}

TEST_CASE("what cannot be parsed in a namespace is told under its name") {
  for (const Fault fault : {Fault::kTruncated, Fault::kGarbage}) {
    CAPTURE(static_cast<int>(fault));
    const TwoNamespaces two(failing(fault, "net/snmp"));
    const Collected got = collect(*make_snmp_collector(two.sources));
    REQUIRE(got.outcome.ok());
    CHECK(got.samples.contains("tcp_host_segments_sent_total{netns=\"host\"}"));
    CHECK_FALSE(got.samples.contains("tcp_host_segments_sent_total{netns=\"blue\"}"));
    CHECK(two.sources.failures() == 0);
    CHECK(got.parse_errors.count > 0);
    CHECK(got.parse_errors.first.starts_with("blue: net/snmp: line "));
  }
}

TEST_CASE("a file that a namespace does not have is absent there, and nothing to count") {
  const TwoNamespaces two(failing(Fault::kMissing, "net/snmp6"));
  const Collected got = collect(*make_snmp6_collector(two.sources));
  REQUIRE(got.outcome.ok());
  CHECK(got.samples.size() == collect(*make_snmp6_collector(two.host)).samples.size());
  CHECK(two.sources.failures() == 0);
}

TEST_CASE("where ours cannot be read the others are served, and it is told") {
  const ProcSource real = fixture_source("6.18-host");
  const FailingSource broken(real, Fault::kError, "net/snmp");
  NamespaceSources sources(broken);
  sources.publish("host", {{"blue", failing(Fault::kMissing, "none")}});
  const Collected got = collect(*make_snmp_collector(sources));
  REQUIRE(got.outcome.ok());
  CHECK(got.has("tcp_host_segments_sent_total{netns=\"blue\"}"));
  CHECK_FALSE(got.has("tcp_host_segments_sent_total{netns=\"host\"}"));
  CHECK(got.parse_errors.count == 1);
  CHECK(got.parse_errors.first == "net/snmp: Input/output error");
}

TEST_CASE("where nothing can be read in any namespace the collector fails") {
  const ProcSource real = fixture_source("6.18-host");
  const FailingSource broken(real, Fault::kError, "net/snmp");
  NamespaceSources sources(broken);
  sources.publish("host", {{"blue", failing(Fault::kError, "net/snmp")}});
  const Collected got = collect(*make_snmp_collector(sources));
  REQUIRE_FALSE(got.outcome.ok());
  CHECK(got.outcome.error().message == "net/snmp: Input/output error");
}
