#include "server/server_collector.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <set>
#include <string>

#include "server/listener.h"

using namespace tcpvitals;

namespace {

ServerSnapshot sample_snapshot() {
  ServerSnapshot snapshot;
  snapshot.tcp_info_length = sizeof(TcpInfo);
  ListenerReport listener{"echo", {.limit = 100, .accept_peak = 7}, {}, {2, 1}};
  listener.statistics.accepted = 5;
  listener.statistics.closed[static_cast<std::size_t>(CloseCause::kPeerRst)] = 2;
  listener.statistics.tcp.retransmitted_segments = 9;
  listener.statistics.tcp.rtt.observe(70);
  snapshot.listeners.push_back(listener);
  ConnectionReport connection{77, 0, std::chrono::milliseconds(1500), {}};
  connection.vitals.rtt_us = 250;
  connection.vitals.data_segments_sent = 8;
  connection.vitals.retransmitted_segments = 2;
  snapshot.series.push_back(connection);
  return snapshot;
}

const prometheus::MetricFamily* find(const std::vector<prometheus::MetricFamily>& families,
                                     const std::string& name) {
  const auto it =
      std::find_if(families.begin(), families.end(), [&](const auto& f) { return f.name == name; });
  return it == families.end() ? nullptr : &*it;
}

std::vector<prometheus::MetricFamily> emitted(const ServerSnapshot& snapshot) {
  Sink sink(10'000);
  emit(snapshot, sink);
  CHECK(sink.dropped() == 0);
  return sink.take();
}

}  // namespace

TEST_CASE("the server's metrics have the snapshot's values, in base units") {
  const auto families = emitted(sample_snapshot());
  const auto* live = find(families, "tcp_server_connections");
  REQUIRE(live != nullptr);
  CHECK(live->metric.at(0).gauge.value == 3);
  CHECK(find(families, "tcp_server_connections_limit")->metric.at(0).gauge.value == 100);
  CHECK(find(families, "tcp_server_retransmitted_segments_total")->metric.at(0).counter.value == 9);
  const auto& rtt = find(families, "tcp_server_rtt_seconds")->metric.at(0).histogram;
  CHECK(rtt.sample_count == 1);
  CHECK(rtt.sample_sum == doctest::Approx(70e-6));

  const auto* ratio = find(families, "tcp_server_connection_retransmit_ratio");
  REQUIRE(ratio != nullptr);
  CHECK(ratio->metric.at(0).gauge.value == 0.25);
  REQUIRE(ratio->metric.at(0).label.size() == 2);
  CHECK(ratio->metric.at(0).label[0].value == "echo");
  CHECK(ratio->metric.at(0).label[1].value == "77");
  CHECK(find(families, "tcp_server_connection_rtt_seconds")->metric.at(0).gauge.value ==
        doctest::Approx(250e-6));
  CHECK(find(families, "tcp_server_connection_age_seconds")->metric.at(0).gauge.value == 1.5);
  // It never measured one.
  CHECK(find(families, "tcp_server_connection_min_rtt_seconds") == nullptr);
}

TEST_CASE("every cause and every reason is there, zeros included") {
  const auto families = emitted(sample_snapshot());
  const auto* closed = find(families, "tcp_server_connections_closed_total");
  REQUIRE(closed != nullptr);
  REQUIRE(closed->metric.size() == kCloseCauses.size());
  std::set<std::string_view> causes;
  for (const auto& metric : closed->metric) {
    const std::string& cause = metric.label.at(1).value;
    causes.insert(cause);
    CHECK(metric.counter.value == (cause == "peer_rst" ? 2 : 0));
  }
  CHECK(causes == std::set<std::string_view>(kCloseCauses.begin(), kCloseCauses.end()));
  CHECK(find(families, "tcp_server_accept_pauses_total")->metric.size() == kPauseReasons.size());
  CHECK(find(families, "tcp_server_connections_rejected_total")->metric.size() ==
        kRejectReasons.size());
  // A listener without TLS has none of its metrics.
  CHECK(find(families, "tcp_server_tls_handshakes_total") == nullptr);
  CHECK(find(families, "tcp_server_tls_handshake_seconds") == nullptr);
  CHECK(find(families, "tcp_server_tls_certificate_expiry_timestamp_seconds") == nullptr);
}

TEST_CASE("what a listener cannot have is absent: a backend, limits of each peer") {
  const char* const of_relays[] = {"tcp_server_backend_connections_total",
                                   "tcp_server_backend_failures_total"};
  const char* const of_limits[] = {"tcp_server_limited_peers",
                                   "tcp_server_unlimited_connections_total"};
  ServerSnapshot snapshot = sample_snapshot();
  for (const char* name : of_relays) CHECK(find(emitted(snapshot), name) == nullptr);
  for (const char* name : of_limits) CHECK(find(emitted(snapshot), name) == nullptr);
  snapshot.listeners[0].gauges.connects = true;
  snapshot.listeners[0].gauges.limited_peers = 0;
  for (const char* name : of_relays) CHECK(find(emitted(snapshot), name) != nullptr);
  for (const char* name : of_limits) CHECK(find(emitted(snapshot), name) != nullptr);
}

TEST_CASE("a listener says of itself whether it has a backend and limits of each peer") {
  ListenerOptions options;
  const auto gauges = [&] {
    const ListenerSettings settings(options, 1, nullptr,
                                    std::make_shared<PeerLimits>(options.per_peer));
    return ServerListener(options.accept_rate).gauges(settings, Clock::now());
  };
  CHECK_FALSE(gauges().connects);
  CHECK_FALSE(gauges().limited_peers.has_value());
  options.handler = HandlerKind::kRelay;
  options.per_peer.max_connections = 1;
  CHECK(gauges().connects);
  CHECK(gauges().limited_peers == 0);
}

TEST_CASE("each worker's share of the connections is told, and the peak of accepts") {
  const auto families = emitted(sample_snapshot());
  const auto* workers = find(families, "tcp_server_worker_connections");
  REQUIRE(workers->metric.size() == 2);
  CHECK(workers->metric[0].label.at(1).value == "0");
  CHECK(workers->metric[0].gauge.value == 2);
  CHECK(workers->metric[1].gauge.value == 1);
  CHECK(find(families, "tcp_server_accepts_per_second_peak")->metric.at(0).gauge.value == 7);
}

TEST_CASE("what an older kernel's TCP_INFO lacks is absent, not zero") {
  ServerSnapshot snapshot = sample_snapshot();
  snapshot.tcp_info_length = 104;
  const auto families = emitted(snapshot);
  CHECK(find(families, "tcp_server_retransmitted_segments_total") != nullptr);
  CHECK(find(families, "tcp_server_rtt_seconds") != nullptr);
  CHECK(find(families, "tcp_server_connection_rtt_seconds") != nullptr);
  for (const char* name :
       {"tcp_server_sent_bytes_total", "tcp_server_received_bytes_total",
        "tcp_server_retransmitted_bytes_total", "tcp_server_data_segments_sent_total",
        "tcp_server_spurious_retransmissions_total", "tcp_server_retransmission_timeouts_total",
        "tcp_server_min_rtt_seconds", "tcp_server_connection_retransmit_ratio",
        "tcp_server_connection_data_segments_sent_total"}) {
    CAPTURE(name);
    CHECK(find(families, name) == nullptr);
  }
}

TEST_CASE("the server collector declares every metric it emits, each once") {
  ServerOptions options{.workers = 1};
  options.listeners[0].endpoint.port = 0;
  const auto server = Server::start(options);
  REQUIRE(server.ok());
  const ServerCollector collector(**server);
  std::set<std::string> declared;
  for (const MetricDesc& desc : collector.metrics()) {
    CHECK(declared.insert(std::string(desc.name)).second);
  }
  ServerSnapshot snapshot = sample_snapshot();
  snapshot.series[0].vitals.min_rtt_us = 5;
  ListenerGauges& gauges = snapshot.listeners[0].gauges;
  const std::chrono::sys_seconds some_time(std::chrono::seconds(1));
  gauges.tls = TlsStoreStatistics{.not_after = some_time, .loaded = some_time};
  gauges.connects = true;
  gauges.limited_peers = 0;
  const auto families = emitted(snapshot);
  CHECK(families.size() == declared.size());
  for (const auto& family : families) CHECK(declared.count(family.name) == 1);
}
