#include "collectors/host/netstat.h"

#include <algorithm>

#include "tests/support/testing.h"

using namespace tcpvitals;
using namespace tcpvitals::testing;

namespace {

Collected collect_netstat(const KernelSource& source, const std::string& fields) {
  auto collector = make_netstat_collector(source, fields);
  REQUIRE(collector.ok());
  return collect(**collector);
}

}  // namespace

TEST_CASE("netstat: an incident's counters come out under our names") {
  const ProcSource source = fixture_source("6.18-namespace");
  const Collected got = collect_netstat(source, "");
  REQUIRE(got.outcome.ok());
  CHECK(got.at("tcp_host_listen_overflows_total") == 16);
  CHECK(got.at("tcp_host_listen_drops_total") == 16);
  CHECK(got.at("tcp_host_syn_retransmits_total") == 18);
  CHECK(got.at("tcp_host_timeouts_total") == 18);
  CHECK(got.at("tcp_host_fast_retransmits_total") == 6);
  CHECK(got.at("tcp_host_lost_retransmits_total") == 12);
  CHECK(got.at("tcp_host_tail_loss_probes_total") == 1);
  CHECK(got.at("tcp_host_dsacks_received_total") == 1);
  CHECK(got.at("tcp_host_data_segments_sent_total") == 605);
  CHECK(got.at("tcp_host_data_segments_delivered_total") == 674);
  CHECK(got.at("tcp_host_aborts_total{reason=\"data\"}") == 7);
  CHECK(got.at("tcp_host_aborts_total{reason=\"unread\"}") == 3);
  CHECK(got.at("tcp_host_aborts_total{reason=\"timeout\"}") == 0);
  CHECK(got.at("tcp_host_time_wait_total") == 51);
  CHECK(got.at("tcp_host_zero_windows_advertised_total") == 1);
  CHECK(got.at("tcp_host_window_probes_total") == 3);
  CHECK(got.at("tcp_host_path_rehashes_total{reason=\"timeout\"}") == 18);
  CHECK(got.at("tcp_host_out_of_order_queued_total") == 10);
  CHECK(got.at("tcp_host_ipv4_ce_marked_packets_total") == 0);
}

TEST_CASE("netstat: where one metric has several fields each comes under its own label") {
  const TextSource source{
      {"net/netstat",
       "TcpExt: TCPSACKReorder TCPRenoReorder TCPTSReorder TCPAbortOnData TCPAbortOnClose "
       "TCPAbortOnMemory TCPAbortOnTimeout TCPAbortOnLinger PAWSActive PAWSEstab TcpTimeoutRehash "
       "TcpDuplicateDataRehash TCPFastOpenActive TCPFastOpenPassive TCPFastOpenActiveFail "
       "TCPFastOpenPassiveFail\n"
       "TcpExt: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n"}};
  CHECK(
      collect_netstat(source, "").samples ==
      std::map<std::string, double>{{"tcp_host_reordering_events_total{by=\"sack\"}", 1},
                                    {"tcp_host_reordering_events_total{by=\"reno\"}", 2},
                                    {"tcp_host_reordering_events_total{by=\"timestamp\"}", 3},
                                    {"tcp_host_aborts_total{reason=\"data\"}", 4},
                                    {"tcp_host_aborts_total{reason=\"unread\"}", 5},
                                    {"tcp_host_aborts_total{reason=\"memory\"}", 6},
                                    {"tcp_host_aborts_total{reason=\"timeout\"}", 7},
                                    {"tcp_host_aborts_total{reason=\"linger\"}", 8},
                                    {"tcp_host_paws_rejects_total{state=\"syn_sent\"}", 9},
                                    {"tcp_host_paws_rejects_total{state=\"established\"}", 10},
                                    {"tcp_host_path_rehashes_total{reason=\"timeout\"}", 11},
                                    {"tcp_host_path_rehashes_total{reason=\"duplicate_data\"}", 12},
                                    {"tcp_host_fastopen_connections_total{by=\"active\"}", 13},
                                    {"tcp_host_fastopen_connections_total{by=\"passive\"}", 14},
                                    {"tcp_host_fastopen_failures_total{by=\"active\"}", 15},
                                    {"tcp_host_fastopen_failures_total{by=\"passive\"}", 16}});
}

TEST_CASE("netstat: time under memory pressure is in seconds") {
  const TextSource source{
      {"net/netstat", "TcpExt: TCPMemoryPressuresChrono\nTcpExt: 1500\nIpExt: A\nIpExt: 0\n"}};
  const Collected got = collect_netstat(source, "");
  CHECK(got.at("tcp_host_memory_pressure_seconds_total") == 1.5);
  CHECK(got.samples.size() == 1);
}

TEST_CASE("netstat: what an older kernel does not count is absent") {
  const ProcSource source = fixture_source("4.19-reduced");
  const Collected got = collect_netstat(source, "");
  REQUIRE(got.outcome.ok());
  CHECK(got.at("tcp_host_syn_retransmits_total") == 18);
  CHECK_FALSE(got.has("tcp_host_dsack_segments_received_total"));
  CHECK_FALSE(got.has("tcp_host_path_rehashes_total{reason=\"timeout\"}"));
}

TEST_CASE("netstat: other fields come by a regular expression of the whole name, and none twice") {
  const ProcSource source = fixture_source("6.18-namespace");
  const std::size_t curated = collect_netstat(source, "").samples.size();

  const Collected some = collect_netstat(source, "TcpExtTCPHP.*|IpExtInOctets|TcpExt");
  CHECK(some.at("tcp_host_netstat_value{field=\"TcpExtTCPHPHits\"}") == 80);
  CHECK(some.at("tcp_host_netstat_value{field=\"TcpExtTCPHPAcks\"}") == 72);
  CHECK(some.at("tcp_host_netstat_value{field=\"IpExtInOctets\"}") == 20372401);
  CHECK(some.samples.size() == curated + 3);

  const Collected all = collect_netstat(source, ".*");
  const std::size_t fields =
      parse_netstat(fixture_text("6.18-namespace", "net/netstat")).record.size();
  CHECK(all.samples.size() == fields);
  CHECK_FALSE(all.has("tcp_host_netstat_value{field=\"TcpExtListenDrops\"}"));
}

TEST_CASE("netstat: a bad regular expression is refused with its reason") {
  const ProcSource source = fixture_source("6.18-namespace");
  for (const char* bad : {"(", "[a", "*(", "a\\"}) {
    CAPTURE(bad);
    const auto collector = make_netstat_collector(source, bad);
    REQUIRE_FALSE(collector.ok());
    CHECK(collector.error().message.find(bad) != std::string::npos);
  }
}

TEST_CASE("netstat: an expression takes whole names only") {
  const TextSource source{{"net/netstat", "TcpExt: Pause\nTcpExt: 7\n"}};
  const std::string pause = "tcp_host_netstat_value{field=\"TcpExtPause\"}";
  CHECK(collect_netstat(source, "TcpExtPause").has(pause));
  CHECK(collect_netstat(source, "TcpExtP.*").has(pause));
  for (const char* part : {"Pause", "TcpExtPaus", "cpExtPause", "TcpExt", "^TcpExt", "use$"}) {
    CAPTURE(part);
    CHECK_FALSE(collect_netstat(source, part).has(pause));
  }
}

TEST_CASE("netstat: one name more than values costs the section and nothing else") {
  const TextSource source{{"net/netstat",
                           "TcpExt: ListenDrops VendorThing\nTcpExt: 3\n"
                           "IpExt: InCEPkts\nIpExt: 5\n"}};
  const Collected got = collect_netstat(source, "");
  REQUIRE(got.outcome.ok());
  CHECK(got.samples == std::map<std::string, double>{{"tcp_host_ipv4_ce_marked_packets_total", 5}});
  CHECK(got.parse_errors.count == 1);
  CHECK(got.parse_errors.first == "net/netstat: line 2: TcpExt: 2 names but 1 values");
}

TEST_CASE("netstat: fields and sections that are not known do no harm") {
  const TextSource source{{"net/netstat",
                           "TcpExt: SyncookiesSent SomethingNew ListenDrops\nTcpExt: 1 7 3\n"
                           "MPTcpExt: MPCapableSYNRX MPCapableSYNRX\nMPTcpExt: 1 2 3\n"}};
  const Collected got = collect_netstat(source, "");
  REQUIRE(got.outcome.ok());
  CHECK(got.samples == std::map<std::string, double>{{"tcp_host_syncookies_sent_total", 1},
                                                     {"tcp_host_listen_drops_total", 3}});
  CHECK(got.parse_errors.count == 0);
}

TEST_CASE("netstat: names without values are a kernel that counts none of it: absent") {
  for (const char* text : {"TcpExt: ListenDrops ListenOverflows\n",
                           "TcpExt: ListenDrops\nIpExt: InCEPkts\n", "TcpExt:\nTcpExt:\n"}) {
    CAPTURE(text);
    const TextSource source{{"net/netstat", text}};
    const Collected got = collect_netstat(source, ".*");
    REQUIRE_FALSE(got.outcome.ok());
    CHECK(got.outcome.error().is_absent());
    CHECK(got.outcome.error().message == "net/netstat: has none of the fields");
    CHECK(got.parse_errors.count == 0);
  }
}

TEST_CASE("netstat: a prefix of the file never gives another number") {
  for (const char* fixture : {"6.18-namespace", "4.19-reduced"}) {
    CAPTURE(fixture);
    const std::string text = fixture_text(fixture, "net/netstat");
    const Fields whole = parse_netstat(text).record;
    check_every_prefix(text, parse_netstat, [&](const Fields& fields) {
      return std::includes(whole.begin(), whole.end(), fields.begin(), fields.end());
    });
  }
}
