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
  s.namespaces[0].local_ports = LocalPorts{{32768, 60999}, {}};
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

TEST_CASE("local ports in use are held against the range of their own network namespace") {
  Snapshot s =
      with_groups({group("outbound", "1"), group("outbound", "2"), group("outbound", "3")});
  const char* const names[] = {"host", "pod", "dark"};
  s.namespaces.resize(3);
  for (std::size_t i = 0; i < 3; ++i) {
    s.namespaces[i].netns = s.groups[i].labels.netns = names[i];
    s.groups[i].stats.last_dump.ephemeral_ports = 300;
  }
  s.groups[1].stats.last_dump.ephemeral_ports = 10;
  s.namespaces[0].local_ports = LocalPorts{{32768, 60999}, {{40000, 40009}}};
  s.namespaces[1].local_ports = LocalPorts{{20000, 20009}, {}};
  s.config.ephemeral_destinations = 1;
  const Collected got = emit(s);
  CHECK(got.at(R"(tcp_ephemeral_ports_limit{netns="host"})") == 28222);
  CHECK(got.at(R"(tcp_ephemeral_ports_limit{netns="pod"})") == 10);
  CHECK_FALSE(got.has(R"(tcp_ephemeral_ports_limit{netns="dark"})"));
  const auto used = [](const char* port, const char* netns) {
    return std::string(R"(tcp_ephemeral_ports_used{direction="outbound",port=")") + port +
           R"(",peer="public",netns=")" + netns + R"("})";
  };
  CHECK(got.at(used("2", "pod")) == 10);  // all of them
  CHECK_FALSE(got.has(used("1", "host")));
  s.config.ephemeral_destinations = 10;
  CHECK(emit(s).at(used("1", "host")) == 300);
  CHECK_FALSE(emit(s).has(used("3", "dark")));
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

TEST_CASE("listeners over the limit are left out and counted, those with the fullest queues stay") {
  Snapshot s = with_groups({});
  s.config.limits.listeners = 3;
  s.namespaces.resize(2);
  s.namespaces[0].netns = "host";
  s.namespaces[1].netns = "pod";
  const auto listen = [&](std::size_t space, std::uint16_t port, std::uint32_t peak) {
    Listener l;
    l.endpoint.port = port;
    l.peak = {peak, 128};
    s.namespaces[space].listeners.push_back({l, std::to_string(port)});
  };
  for (std::uint16_t port = 1000; port < 1010; ++port) listen(0, port, port % 10);
  listen(0, 5299, 70);
  listen(1, 80, 129);
  const Collected got = emit(s);
  const auto has = [](const Collected& c, const std::string& port, const char* netns) {
    return c.has("tcp_listener_queue_peak{port=\"" + port + R"(",address="::",netns=")" + netns +
                 R"("})");
  };
  CHECK(has(got, "80", "pod"));
  CHECK(has(got, "5299", "host"));
  CHECK(has(got, "1000", "host"));  // short queues that come and go change nothing
  CHECK_FALSE(has(got, "1001", "host"));
  CHECK_FALSE(has(got, "1009", "host"));
  CHECK(got.at("tcpvitals_listeners") == 12);
  CHECK(got.at("tcpvitals_listeners_limit") == 3);
  CHECK(got.at("tcpvitals_listeners_left_out") == 9);

  s.config.limits.listeners = 12;
  CHECK(has(emit(s), "1009", "host"));
  CHECK(emit(s).at("tcpvitals_listeners_left_out") == 0);
}

TEST_CASE("two ports of one name on one address are one listener") {
  Snapshot s = with_groups({});
  const auto listen = [&](const char* address, std::uint16_t port, const char* name,
                          AcceptQueue queue, AcceptQueue peak, std::uint64_t full) {
    Listener l;
    l.endpoint = {*parse_ip_address(address), port};
    l.sockets = 2;
    l.queue = queue;
    l.peak = peak;
    l.queue_full = full;
    s.namespaces[0].listeners.push_back({l, name});
  };
  listen("0.0.0.0", 5432, "postgres", {3, 128}, {100, 128}, 5);
  listen("127.0.0.1", 5432, "postgres", {1, 128}, {1, 128}, 1);
  listen("0.0.0.0", 6432, "postgres", {2, 1}, {2, 1}, 7);
  listen("0.0.0.0", 443, "web", {9, 128}, {9, 128}, 0);
  const Collected got = emit(s);
  const std::string both = R"({port="postgres",address="0.0.0.0"})";
  CHECK(got.at("tcp_listener_queue_length" + both) == 2);
  CHECK(got.at("tcp_listener_queue_limit" + both) == 1);
  CHECK(got.at("tcp_listener_queue_peak" + both) == 2);
  CHECK(got.at("tcp_listener_queue_full_total" + both) == 12);
  CHECK(got.at("tcp_listener_sockets" + both) == 4);
  CHECK(got.at(R"(tcp_listener_queue_length{port="postgres",address="127.0.0.1"})") == 1);
  CHECK(got.at(R"(tcp_listener_queue_length{port="web",address="0.0.0.0"})") == 9);
  CHECK(got.at("tcpvitals_listeners") == 3);
}
