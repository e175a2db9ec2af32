// Which series a snapshot becomes.
#include "collectors/connections/connection_metrics.h"

#include <doctest/doctest.h>

#include "tests/support/testing.h"

using namespace tcpvitals;
using namespace tcpvitals::testing;

namespace {

class FixedSnapshot final : public Collector {
 public:
  explicit FixedSnapshot(const Snapshot& snapshot) : snapshot_(snapshot) {}
  std::string_view name() const override { return "connections"; }
  std::span<const MetricDesc> metrics() const override { return connection_metrics(); }
  Result<void> collect(Sink& sink, TimePoint) override {
    emit_connections(sink, snapshot_);
    return {};
  }

 private:
  const Snapshot& snapshot_;
};

Collected emit(const Snapshot& snapshot) {
  FixedSnapshot collector(snapshot);
  return collect(collector);
}

Snapshot::Group group(const char* direction, const char* port, const char* peer = "public") {
  return {.labels = {direction, port, peer, "", ""}};
}

Snapshot with_groups(std::vector<Snapshot::Group> groups) {
  Snapshot s;
  s.dump_end = Clock::now();
  s.info_length = sizeof(TcpInfo);
  s.groups = std::move(groups);
  for (Snapshot::Group& g : s.groups) g.stats.opened = 1;
  s.namespaces.emplace_back();
  return s;
}

bool has_family(const Collected& collected, std::string_view name) {
  for (const auto& family : collected.families) {
    if (family.name == name) return true;
  }
  return false;
}

}  // namespace

TEST_CASE("attempts fail outbound: what comes in has no failures, what has no direction may") {
  Snapshot s = with_groups({group("inbound", "443"), group("outbound", "5432"), group("", "80")});
  for (Snapshot::Group& g : s.groups) {
    g.stats.failures[static_cast<std::size_t>(ConnectFailure::kRefused)] = 2;
  }
  const Collected got = emit(s);
  const std::string name = "tcp_connection_failures_total";
  CHECK(got.at(name + R"({direction="outbound",port="5432",peer="public",reason="refused"})") == 2);
  CHECK(got.at(name + R"({direction="outbound",port="5432",peer="public",reason="unanswered"})") ==
        0);
  CHECK(got.at(name + R"({port="80",peer="public",reason="refused"})") == 2);
  CHECK_FALSE(got.has(name + R"({direction="inbound",port="443",peer="public",reason="refused"})"));
}

TEST_CASE("how connections ended adds up to how many did") {
  Snapshot s = with_groups({group("inbound", "443")});
  s.groups[0].stats.closed = {5, 4, 3, 2, 1};
  s.groups[0].stats.at_start = -7;
  const Collected got = emit(s);
  const std::string labels = R"(direction="inbound",port="443",peer="public")";
  CHECK(got.at("tcp_connections_closed_total{" + labels + "}") == 15);
  double sum = 0;
  for (const char* how : {"orderly", "reset", "timeout", "aborted", "unknown"}) {
    sum += got.at("tcp_connection_ends_total{" + labels + ",how=\"" + how + "\"}");
  }
  CHECK(sum == 15);
  CHECK(got.at("tcp_connections_at_start{" + labels + "}") == -7);
}

TEST_CASE("a label that is not grouped by is left out, one that is stands on every series") {
  Snapshot s = with_groups({group("", "443", "")});
  s.groups[0].labels.cgroup = "nginx.service";
  s.groups[0].labels.netns = "blue";
  s.groups[0].stats.opened = 3;
  const Collected got = emit(s);
  CHECK(got.at(R"(tcp_connections_opened_total{port="443",cgroup="nginx.service",netns="blue"})") ==
        3);

  Snapshot nothing = with_groups({group("", "", "")});
  nothing.groups[0].stats.opened = 4;
  CHECK(emit(nothing).at("tcp_connections_opened_total") == 4);
}

TEST_CASE(
    "a group of attempts alone shows states, attempts and failures; one connection shows all") {
  Snapshot s = with_groups({group("outbound", "81")});
  GroupStats& g = s.groups[0].stats;
  g.opened = 0;
  g.failures[static_cast<std::size_t>(ConnectFailure::kRefused)] = 3;
  g.syns_sent = 5;
  g.retransmitted_segments = g.retransmitted_syns = 2;
  const std::string labels = R"({direction="outbound",port="81",peer="public"})";
  const Collected attempts = emit(s);
  CHECK(attempts.at("tcp_syns_sent_total" + labels) == 5);
  CHECK(attempts.at("tcp_retransmitted_syns_total" + labels) == 2);
  CHECK(attempts.at("tcp_retransmitted_segments_total" + labels) == 2);
  CHECK(has_family(attempts, "tcp_connections"));
  CHECK(has_family(attempts, "tcp_connection_failures_total"));
  for (const char* name : {"tcp_connections_opened_total", "tcp_connection_ends_total",
                           "tcp_sent_bytes_total", "tcp_rtt_seconds", "tcp_send_queue_bytes"}) {
    CAPTURE(name);
    CHECK_FALSE(has_family(attempts, name));
  }
  for (const auto make : {+[](GroupStats& stats) { stats.opened = 1; },
                          +[](GroupStats& stats) { stats.at_start = -1; },
                          +[](GroupStats& stats) { stats.closed[4] = 1; }}) {
    GroupStats& changed = s.groups[0].stats;
    changed.opened = 0;
    changed.at_start = 0;
    changed.closed = {};
    make(changed);
    const Collected all = emit(s);
    CHECK(all.at("tcp_sent_bytes_total" + labels) == 0);
    CHECK(all.at("tcp_connections_closed_total" + labels) == changed.closed[4]);
    CHECK(has_family(all, "tcp_rtt_seconds"));
    CHECK(has_family(all, "tcp_connection_ends_total"));
  }
}

TEST_CASE("each counter of the table is a series, in its unit and under its label") {
  Snapshot s = with_groups({group("inbound", "443")});
  double value = 0;
  for (const TcpCounterRow& row : kTcpCounters) {
    s.groups[0].stats.*row.total = static_cast<std::uint64_t>(value += 1000);
  }
  const Collected got = emit(s);
  value = 0;
  for (const TcpCounterRow& row : kTcpCounters) {
    CAPTURE(row.name);
    std::string series =
        std::string(row.metric) + R"({direction="inbound",port="443",peer="public")";
    if (!row.by.empty()) series += ",by=\"" + std::string(row.by) + "\"";
    CHECK(got.at(series + "}") == doctest::Approx((value += 1000) * row.unit));
  }
}

TEST_CASE("what is left of closed connections stands beside those that are tracked") {
  Snapshot s = with_groups({group("inbound", "443")});
  GroupStats& g = s.groups[0].stats;
  g.connections[static_cast<std::size_t>(TcpState::kSynReceived)] = 1;
  g.connections[static_cast<std::size_t>(TcpState::kEstablished)] = 5;
  g.last_dump.time_wait = 7;
  g.last_dump.fin_wait2 = 4;
  g.last_dump.syn_received = 2;
  const Collected got = emit(s);
  const std::string start =
      R"(tcp_connections{direction="inbound",port="443",peer="public",state=)";
  CHECK(got.at(start + "\"established\"}") == 5);
  CHECK(got.at(start + "\"time_wait\"}") == 7);
  CHECK(got.at(start + "\"fin_wait2\"}") == 4);
  CHECK(got.at(start + "\"syn_recv\"}") == 3);
  CHECK_FALSE(got.has(start + "\"listen\"}"));
}

TEST_CASE("only the groups that use most local ports show it") {
  Snapshot s = with_groups({group("outbound", "1"), group("outbound", "2"), group("outbound", "3"),
                            group("inbound", "443")});
  s.groups[0].stats.last_dump.ephemeral_ports = 10;
  s.groups[1].stats.last_dump.ephemeral_ports = 300;
  s.groups[2].stats.last_dump.ephemeral_ports = 20;
  s.config.ephemeral_destinations = 2;
  s.ephemeral = {32768, 60999};
  const Collected got = emit(s);
  const auto used = [](const char* port) {
    return std::string(R"(tcp_ephemeral_ports_used{direction="outbound",port=")") + port +
           R"(",peer="public"})";
  };
  CHECK(got.at(used("2")) == 300);
  CHECK(got.at(used("3")) == 20);
  CHECK_FALSE(got.has(used("1")));
  CHECK(got.at("tcp_ephemeral_ports_limit") == 28232);

  s.config.ephemeral_destinations = 10;
  CHECK(emit(s).has(used("1")));
  CHECK_FALSE(
      emit(s).has(R"(tcp_ephemeral_ports_used{direction="inbound",port="443",peer="public"})"));
}

TEST_CASE("what this kernel's tcp_info does not have is absent, not zero") {
  Snapshot s = with_groups({group("inbound", "443")});
  s.info_length = 104;
  const Collected old = emit(s);
  CHECK(has_family(old, "tcp_retransmitted_segments_total"));
  CHECK(has_family(old, "tcp_rtt_seconds"));
  for (const char* name :
       {"tcp_sent_bytes_total", "tcp_received_bytes_total", "tcp_retransmitted_syns_total",
        "tcp_busy_seconds_total", "tcp_limited_seconds_total", "tcp_min_rtt_seconds",
        "tcp_delivery_rate_bytes_per_second", "tcp_retransmission_timeouts_total"}) {
    CAPTURE(name);
    CHECK_FALSE(has_family(old, name));
  }
  s.info_length = 232;  // without total_rto
  CHECK(has_family(emit(s), "tcp_sent_bytes_total"));
  CHECK_FALSE(has_family(emit(s), "tcp_retransmission_timeouts_total"));
}

TEST_CASE("what is not attributed is the host's less ours, and below zero if ours is more") {
  Snapshot s = with_groups({});
  CHECK_FALSE(has_family(emit(s), "tcpvitals_unattributed_connections"));
  s.namespaces[0].since_start = HostTotals{10, 20, 3, 50};
  s.namespaces[0].tracker.attempts = 12;
  s.namespaces[0].tracker.accepted = 15;
  s.namespaces[0].tracker.failed = 3;
  s.namespaces[0].tracker.retransmitted_segments = 40;
  Collected got = emit(s);
  CHECK(got.at(R"(tcpvitals_unattributed_connections{counter="active_opens"})") == -2);
  CHECK(got.at(R"(tcpvitals_unattributed_connections{counter="passive_opens"})") == 5);
  CHECK(got.at(R"(tcpvitals_unattributed_connections{counter="attempt_fails"})") == 0);
  CHECK(got.at("tcpvitals_attributed_retransmits_ratio") == doctest::Approx(0.8));
  s.namespaces[0].since_start = HostTotals{};
  CHECK(emit(s).at("tcpvitals_attributed_retransmits_ratio") == 1);  // of nothing, all
}

TEST_CASE("each feature is 1, or 0 if something is missing; excludes make the states incomplete") {
  Snapshot s = with_groups({});
  s.features = {{"event_buffer_forced", "a privilege"}, {"cgroup_names", ""}};
  Collected got = emit(s);
  CHECK(got.at(R"(tcpvitals_feature_available{feature="event_buffer_forced"})") == 0);
  CHECK(got.at(R"(tcpvitals_feature_available{feature="cgroup_names"})") == 1);
  CHECK(got.at("tcpvitals_host_states_complete") == 1);
  s.config.excludes.loopback = true;
  CHECK(emit(s).at("tcpvitals_host_states_complete") == 0);
}

TEST_CASE("listeners beyond a bound are added up under other, and their peak is the highest") {
  Snapshot s = with_groups({});
  for (std::uint16_t i = 0; i < 300; ++i) {
    Listener listener;
    listener.endpoint.port = static_cast<std::uint16_t>(1000 + i);
    listener.queue_length = 1;
    listener.queue_limit = 10;
    listener.queue_peak = i;
    listener.queue_full = 2;
    s.namespaces[0].listeners.push_back({listener, std::to_string(listener.endpoint.port)});
  }
  const Collected got = emit(s);
  const std::string other = R"({port="other",address="other"})";
  CHECK(got.at("tcp_listener_queue_length" + other) == 44);
  CHECK(got.at("tcp_listener_queue_limit" + other) == 440);
  CHECK(got.at("tcp_listener_queue_peak" + other) == 299);
  CHECK(got.at("tcp_listener_queue_full_total" + other) == 88);
}
