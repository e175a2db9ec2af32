#include "exporter/api.h"

#include <doctest/doctest.h>

#include <string>

#include "exporter/api_connections.h"
#include "exporter/api_groups.h"
#include "exporter/api_server.h"
#include "exporter/query_string.h"
#include "tests/support/testing.h"

using namespace tcpvitals;
using namespace tcpvitals::testing;
using Sort = SearchRequest::Sort;

namespace {

Result<SearchRequest> parsed(const std::string& query) {
  return parse_connection_query(parse_query_string(query));
}

SearchResult one(SocketDetail socket) {
  SearchResult list;
  list.matched = 7;
  list.connections.push_back({.socket = std::move(socket)});
  return list;
}

SocketDetail some_socket() {
  SocketDetail socket;
  socket.cookie = 0x1a492f;
  socket.state = TcpState::kEstablished;
  socket.local = *parse_endpoint("192.0.2.1:443");
  socket.remote = *parse_endpoint("[2001:db8::7]:40000");
  return socket;
}

bool contains(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

constexpr MetricDesc kMetrics[] = {
    {"tcp_host_connections", MetricType::kGauge, "", {"netns", "state"}},
    {"tcp_opened_total",
     MetricType::kCounter,
     "",
     {"direction", "port", "peer", "cgroup", "netns"}},
    {"tcp_connections",
     MetricType::kGauge,
     "",
     {"direction", "port", "peer", "cgroup", "netns", "state"}},
    {"tcp_rtt_seconds",
     MetricType::kHistogram,
     "",
     {"direction", "port", "peer", "cgroup", "netns"}},
    {"tcp_listener_queue_limit", MetricType::kGauge, "", {"port", "address", "netns"}},
};

// A collector of that name that emits a few groups, by port and peer, or fails.
class Connections final : public Collector {
 public:
  explicit Connections(bool fails = false) : fails_(fails) {}
  std::string_view name() const override { return "connections"; }
  std::span<const MetricDesc> metrics() const override { return kMetrics; }
  Result<void> collect(Sink& sink, TimePoint) override {
    if (fails_) return Error{"no socket"};
    const auto& [host, opened, states, rtt, listener] = kMetrics;
    sink.add(host, {"", "established"}, 9);
    sink.add(opened, {"", "443", "public", "", ""}, 5);
    sink.add(opened, {"", "22", "\"x\"\n", "", ""}, 0.5);
    sink.add(states, {"", "443", "public", "", "", "established"}, 3);
    sink.add(states, {"", "443", "public", "", "", "time_wait"}, 0);
    sink.add_histogram(rtt, {"", "443", "public", "", ""},
                       {std::array{0.5, 1.0}, std::array<std::uint64_t, 3>{2, 1, 4}, 12.25});
    sink.add(listener, {"443", "0.0.0.0", ""}, 4096);
    return {};
  }

 private:
  bool fails_;
};

TimePoint soon() { return Clock::now() + std::chrono::seconds(5); }

}  // namespace

TEST_CASE("a query string is its parameters in their order, decoded") {
  using Parameters = QueryParameters;
  CHECK(parse_query_string("").empty());
  CHECK(parse_query_string("&&").empty());
  CHECK(parse_query_string("a=1&b=x%20y+z&a=&c") ==
        Parameters{{"a", "1"}, {"b", "x y z"}, {"a", ""}, {"c", ""}});
  CHECK(parse_query_string("%61=%3d%26%00=") == Parameters{{"a", std::string("=&\0=", 4)}});
  CHECK(parse_query_string("a=%&b=%4&c=%zz&d=%4g&e=%-1") ==
        Parameters{{"a", "%"}, {"b", "%4"}, {"c", "%zz"}, {"d", "%4g"}, {"e", "%-1"}});
}

TEST_CASE("every parameter of a query is taken; without one it is the 20 with most retransmits") {
  const auto standard = parsed("");
  REQUIRE(standard.ok());
  CHECK(standard->sort == Sort::kRetransmits);
  CHECK(standard->top == 20);
  CHECK_FALSE((standard->direction || standard->port || standard->peer || standard->state));

  const auto full =
      parsed("sort=age&top=1000&direction=outbound&port=postgres&peer=a%20b&state=close_wait");
  REQUIRE(full.ok());
  CHECK(full->sort == Sort::kAge);
  CHECK(full->top == 1000);
  CHECK(full->direction == "outbound");
  CHECK(full->port == "postgres");
  CHECK(full->peer == "a b");
  CHECK(full->state == TcpState::kCloseWait);

  const std::pair<const char*, Sort> kSorts[] = {{"retransmits", Sort::kRetransmits},
                                                 {"rtt", Sort::kRtt},
                                                 {"bytes", Sort::kBytes},
                                                 {"send_queue", Sort::kSendQueue},
                                                 {"age", Sort::kAge}};
  for (const auto& [word, sort] : kSorts) {
    const auto query = parsed(std::string("sort=") + word);
    REQUIRE(query.ok());
    CHECK(query->sort == sort);
  }
}

TEST_CASE("what is wrong in a query is named with its value and what would be right") {
  const struct {
    const char* query;
    const char* message;
  } kTable[] = {
      {"sort=size", "sort=\"size\": expected retransmits, rtt, bytes, send_queue or age"},
      {"sort", "sort=\"\": expected retransmits, rtt, bytes, send_queue or age"},
      {"top=0", "top=\"0\": expected a number from 1 to 1000"},
      {"top=1001", "top=\"1001\": expected a number from 1 to 1000"},
      {"top=-1", "top=\"-1\": expected a number from 1 to 1000"},
      {"top=5x", "top=\"5x\": expected a number from 1 to 1000"},
      {"top=99999999999999999999",
       "top=\"99999999999999999999\": expected a number from 1 to 1000"},
      {"top=", "top=\"\": expected a number from 1 to 1000"},
      {"direction=in", "direction=\"in\": expected inbound or outbound"},
      {"state=ESTAB",
       "state=\"ESTAB\": expected one of established, syn_sent, syn_recv, fin_wait1, fin_wait2, "
       "time_wait, close, close_wait, last_ack, closing"},
      {"state=listen",
       "state=\"listen\": expected one of established, syn_sent, syn_recv, fin_wait1, fin_wait2, "
       "time_wait, close, close_wait, last_ack, closing"},
      {"port=", "port=\"\": expected a value of the label port"},
      {"peer", "peer=\"\": expected a value of the label peer"},
      {"top=1&top=2", "top=\"2\": expected the parameter once"},
      {"limit=3",
       "unknown parameter \"limit\": expected one of sort, top, direction, port, peer, state"},
      {"Top=3",
       "unknown parameter \"Top\": expected one of sort, top, direction, port, peer, state"},
  };
  for (const auto& row : kTable) {
    const auto query = parsed(row.query);
    REQUIRE_FALSE(query.ok());
    CHECK(query.error().message == row.message);
  }
}

TEST_CASE("a connection of which nothing more is known has no more fields") {
  CHECK(render_connections({}) == R"({"version":1,"matched":0,"returned":0,"connections":[]})"
                                  "\n");
  CHECK(render_connections(one(some_socket())) ==
        R"({"version":1,"matched":7,"returned":1,"connections":[{"state":"established",)"
        R"("local":{"address":"192.0.2.1","port":443},)"
        R"("remote":{"address":"2001:db8::7","port":40000},"cookie":"1a492f",)"
        R"("receive_queue_bytes":0,"send_queue_bytes":0,"uid":0}]})"
        "\n");
}

TEST_CASE("a connection has every field that is known, in base units") {
  SocketDetail socket = some_socket();
  socket.cookie = ~std::uint64_t{0};
  socket.receive_queue_bytes = 1;
  socket.send_queue_bytes = 2;
  socket.uid = 3;
  socket.inode = 4;
  socket.interface = 5;
  socket.cgroup_id = 6;
  socket.mark = 7;
  socket.class_id = 8;
  socket.tos = 9;
  socket.traffic_class = 10;
  socket.v6only = true;
  socket.shutdown = 2;
  socket.timer = SocketDetail::Timer::kRetransmit;
  socket.timer_expires = std::chrono::milliseconds(204);
  socket.timer_retransmits = 11;
  socket.memory = SocketDetail::Memory{1, 2, 3, 4, 5, 6, 7, 8, 9};
  socket.upper_protocol = "tls";
  socket.congestion_control = "bbr";
  socket.bbr = SocketDetail::Bbr{1'000'000, 1500, 2.5, 1.25};
  socket.dctcp = SocketDetail::Dctcp{1, 0.5, 2, 3};
  TcpInfoSample sample{};
  sample.length = sizeof(TcpInfo);
  TcpInfo& t = sample.info;
  t.ca_state = 3;
  t.options = 1 | 4;
  t.wscale = 0x87;
  t.delivery_rate_flags = 1;
  t.rtt_us = 1500;
  t.rttvar_us = 750;
  t.min_rtt_us = 9;
  t.snd_ssthresh = 20;
  t.pacing_rate = 6'000'000'000;
  t.max_pacing_rate = ~std::uint64_t{0};
  t.rto_us = 204'000;
  t.bytes_sent = 9'000'000'000'000'000'001;
  t.total_retrans = 12;
  t.total_rto = 13;
  t.busy_us = 2'500'000;
  t.last_data_sent_ms = 1500;
  socket.info = sample;
  SearchResult list;
  list.matched = 1;
  list.connections.push_back(
      {socket, "inbound", "https", "pub\"\xff\n", "nginx.service", "blue", 0.5});
  CHECK(
      render_connections(list) ==
      R"({"version":1,"matched":1,"returned":1,"connections":[{"direction":"inbound","port":"https",)"
      "\"peer\":\"pub\\\"\xef\xbf\xbd\\n\","
      R"("cgroup":"nginx.service","netns":"blue","age_seconds":0.5,"state":"established",)"
      R"("local":{"address":"192.0.2.1","port":443},)"
      R"("remote":{"address":"2001:db8::7","port":40000},"cookie":"ffffffffffffffff",)"
      R"("receive_queue_bytes":1,"send_queue_bytes":2,"uid":3,"inode":4,"interface_index":5,)"
      R"("cgroup_id":6,"mark":7,"class_id":8,"tos":9,"traffic_class":10,"v6only":true,)"
      R"("receive_shutdown":false,"send_shutdown":true,)"
      R"("timer":{"name":"retransmit","expires_seconds":0.204,"retransmits":11},)"
      R"("memory":{"receive_allocated_bytes":1,"receive_buffer_bytes":2,"send_allocated_bytes":3,)"
      R"("send_buffer_bytes":4,"forward_allocated_bytes":5,"send_queued_bytes":6,)"
      R"("options_bytes":7,"backlog_bytes":8,"dropped_packets":9},)"
      R"("upper_protocol":"tls","congestion_control":"bbr",)"
      R"("bbr":{"bandwidth_bytes_per_second":1000000,"min_rtt_seconds":0.0015,)"
      R"("pacing_gain":2.5,"congestion_window_gain":1.25},)"
      R"("dctcp":{"ce_state":1,"alpha":0.5,"ce_marked_bytes":2,"acknowledged_bytes":3},)"
      R"("congestion_state":"recovery","options":["timestamps","window_scaling"],)"
      R"("send_window_scale":7,"receive_window_scale":8,"rtt_seconds":0.0015,)"
      R"("rtt_deviation_seconds":0.00075,"min_rtt_seconds":9e-06,)"
      R"("slow_start_threshold_segments":20,"pacing_rate_bytes_per_second":6000000000,)"
      R"("delivery_rate_app_limited":true,"rto_seconds":0.204,"delayed_ack_seconds":0.0,)"
      R"("send_mss_bytes":0,"receive_mss_bytes":0,"advertised_mss_bytes":0,"path_mtu_bytes":0,)"
      R"("congestion_window_segments":0,"send_window_bytes":0,"receive_window_bytes":0,)"
      R"("receive_space_bytes":0,"receive_slow_start_threshold_bytes":0,)"
      R"("sent_bytes":9000000000000000001,"retransmitted_bytes":0,"acknowledged_bytes":0,)"
      R"("received_bytes":0,"unsent_bytes":0,"segments_sent":0,"segments_received":0,)"
      R"("data_segments_sent":0,"data_segments_received":0,"retransmitted_segments":12,)"
      R"("spurious_retransmissions":0,"retransmission_timeouts":13,"delivered_segments":0,)"
      R"("ce_marked_segments":0,"reordering_events":0,"out_of_order_segments":0,)"
      R"("path_changes":0,"unacknowledged_segments":0,"sacked_segments":0,"lost_segments":0,)"
      R"("retransmitted_segments_in_flight":0,"reordering_segments":0,"head_retransmits":0,)"
      R"("unanswered_probes":0,"backoff":0,"busy_seconds":2.5,)"
      R"("receive_window_limited_seconds":0.0,"send_buffer_limited_seconds":0.0,)"
      R"("since_data_sent_seconds":1.5,"since_data_received_seconds":0.0,)"
      R"("since_ack_received_seconds":0.0}]})"
      "\n");
}

TEST_CASE("a field that the kernel did not return, or does not know, is left out") {
  SocketDetail socket = some_socket();
  TcpInfo info{.snd_ssthresh = 0x7fffffff, .pacing_rate = ~std::uint64_t{0}, .min_rtt_us = kNoRtt};
  // As of kernel 4.19, and so short that no kernel ever was.
  socket.info = read_tcp_info(&info, 192);
  const std::string older = render_connections(one(socket));
  CHECK(contains(older, "\"send_buffer_limited_seconds\":"));
  for (const std::string name :
       {"sent_bytes", "spurious_retransmissions", "retransmission_timeouts", "send_window_bytes",
        "min_rtt_seconds", "rtt_seconds", "slow_start_threshold_segments",
        "pacing_rate_bytes_per_second", "delivery_rate_bytes_per_second"}) {
    CAPTURE(name);
    CHECK_FALSE(contains(older, '"' + name + '"'));
  }
  CHECK_FALSE(contains(older, "null"));
  socket.info = read_tcp_info(&info, 7);
  const std::string none = render_connections(one(socket));
  CHECK(contains(none, "\"backoff\":0"));
  CHECK_FALSE(contains(none, "options"));
  CHECK_FALSE(contains(none, "_seconds"));
}

TEST_CASE("groups have the samples of the metrics, by their labels; nothing else is among them") {
  Connections connections;
  Collector* collectors[] = {&connections};
  Scrape scrape(collectors, {});
  const Api api(scrape, {});
  const ApiReply reply = api.groups("", soon());
  CHECK(reply.status == 200);
  CHECK(reply.body == R"({"version":1,"groups":[)"
                      R"({"port":"22","peer":"\"x\"\n","metrics":{"tcp_opened_total":0.5}},)"
                      R"({"port":"443","peer":"public","metrics":{)"
                      R"("tcp_connections":{"established":3,"time_wait":0},"tcp_opened_total":5,)"
                      R"("tcp_rtt_seconds":{"count":7,"sum":12.25,)"
                      R"("buckets":[{"le":0.5,"count":2},{"le":1.0,"count":3}]}}}]})"
                      "\n");
  CHECK(api.groups("a=1", soon()).status == 400);
  CHECK(api.groups("a=1", soon()).body ==
        R"({"version":1,"error":"unknown parameter \"a\": expected none"})"
        "\n");
  CHECK(render_groups({}, kMetrics) == "{\"version\":1,\"groups\":[]}\n");
}

TEST_CASE("grouped by nothing there is one group") {
  Sink sink(100);
  sink.add(kMetrics[0], {"", "established"}, 9);
  sink.add(kMetrics[1], {"", "", "", "", ""}, 5);
  const auto families = sink.take();
  CHECK(render_groups({families.begin(), families.end()}, kMetrics) ==
        "{\"version\":1,\"groups\":[{\"metrics\":{\"tcp_opened_total\":5}}]}\n");
}

TEST_CASE("a failure of the collector is 503 with its reason") {
  Connections failing(true);
  Collector* collectors[] = {&failing};
  Scrape scrape(collectors, {});
  const auto find = [](const SearchRequest&, TimePoint) {
    return Result<SearchResult>(Error{"too late"});
  };
  const Api api(scrape, {.find_connections = find});
  CHECK(api.groups("", soon()).status == 503);
  CHECK(api.groups("", soon()).body == "{\"version\":1,\"error\":\"no socket\"}\n");
  CHECK(api.connections("", soon()).status == 503);
  CHECK(api.connections("", soon()).body == "{\"version\":1,\"error\":\"too late\"}\n");

  Scrape nothing({}, {});
  const Api without(nothing, {});
  CHECK(without.groups("", soon()).status == 503);
  CHECK(without.connections("", soon()).body ==
        "{\"version\":1,\"error\":\"the connections collector is not started\"}\n");
}

TEST_CASE("connections are asked for as the query says, within the deadline") {
  Scrape scrape({}, {});
  const TimePoint deadline = soon();
  SearchRequest asked;
  TimePoint asked_until;
  ApiSources sources;
  sources.find_connections = [&](const SearchRequest& query, TimePoint until) {
    asked = query;
    asked_until = until;
    return Result<SearchResult>(one(some_socket()));
  };
  const Api api(scrape, sources);
  const ApiReply reply = api.connections("top=3&sort=rtt", deadline);
  CHECK(reply.status == 200);
  CHECK(reply.body == render_connections(one(some_socket())));
  CHECK(asked.top == 3);
  CHECK(asked.sort == Sort::kRtt);
  CHECK(asked_until == deadline);
  const ApiReply wrong = api.connections("top=%22", deadline);
  CHECK(wrong.status == 400);
  CHECK(wrong.body == R"({"version":1,"error":"top=\"\"\": expected a number from 1 to 1000"})"
                      "\n");
}

TEST_CASE("only loopback may use the API, and only by an address or as localhost") {
  const struct {
    const char* client;
    const char* host;
    bool allowed;
  } kTable[] = {
      {"127.0.0.1", "127.0.0.1:10077", true},
      {"127.8.8.8", "127.0.0.1", true},
      {"::1", "[::1]:10077", true},
      {"::1", "[::1]", true},
      {"::ffff:127.0.0.1", "192.0.2.1:80", true},
      {"127.0.0.1", "localhost", true},
      {"127.0.0.1", "localhost:10077", true},
      {"127.0.0.1", "", false},
      {"127.0.0.1", "evil.example", false},
      {"127.0.0.1", "evil.example:10077", false},
      {"127.0.0.1", "localhost.evil.example", false},
      {"127.0.0.1", "127.0.0.1.evil.example:80", false},
      {"127.0.0.1", "[evil]", false},
      {"192.0.2.1", "192.0.2.2:10077", false},
      {"128.0.0.1", "127.0.0.1", false},
      {"2001:db8::1", "localhost", false},
      {"::", "localhost", false},
  };
  for (const auto& row : kTable) {
    CAPTURE(row.client);
    CAPTURE(row.host);
    const auto refusal = refuse_remote(*parse_ip_address(row.client), row.host, false);
    CHECK(refusal.has_value() != row.allowed);
    if (!refusal) continue;
    CHECK(refusal->status == 403);
    CHECK(contains(refusal->body, "--web.api-remote"));
  }
  CHECK(refuse_remote(*parse_ip_address("192.0.2.1"), "x", false)->body ==
        "{\"version\":1,\"error\":\"not from 192.0.2.1: the API answers on loopback; "
        "--web.api-remote opens the API to all who reach this port\"}\n");
}

TEST_CASE("the API does not answer what a proxy passed on, for the client may be anywhere") {
  const auto refusal = refuse_remote(*parse_ip_address("127.0.0.1"), "127.0.0.1", true);
  REQUIRE(refusal.has_value());
  CHECK(refusal->status == 403);
  CHECK(refusal->body ==
        "{\"version\":1,\"error\":\"not through a proxy: the API answers on loopback; "
        "--web.api-remote opens the API to all who reach this port\"}\n");
  for (const char* name : {"X-Forwarded-For", "x-forwarded-host", "FORWARDED", "Via", "X-Real-IP",
                           "X-Forwarded", "CF-Connecting-IP"}) {
    CAPTURE(name);
    CHECK(is_proxy_header(name));
  }
  for (const char* name :
       {"", "Host", "X-Forward", "Viable", "X-Prometheus-Scrape-Timeout-Seconds", "Forwarded-By"}) {
    CAPTURE(name);
    CHECK_FALSE(is_proxy_header(name));
  }
}

namespace {

ServerSnapshot some_server() {
  ServerSnapshot snapshot;
  snapshot.tcp_info_length = sizeof(TcpInfo);
  snapshot.listeners.resize(2);
  snapshot.listeners[0].name = "echo";
  snapshot.listeners[0].gauges.limit = 100;
  snapshot.listeners[0].statistics.accepted = 5;
  snapshot.listeners[0].statistics.closed[0] = 3;
  snapshot.listeners[1].name = "web";
  ConnectionVitals vitals;
  vitals.sent_bytes = 1000;
  vitals.received_bytes = 10;
  vitals.data_segments_sent = 4;
  vitals.retransmitted_segments = 1;
  vitals.rtt_us = 1500;
  snapshot.connections = {{7, 0, std::chrono::seconds(2), vitals}};
  return snapshot;
}

}  // namespace

TEST_CASE("the embedded server's connections are told with what the kernel tells of them") {
  CHECK(render_server_connections(some_server()) ==
        "{\"version\":1,\"listeners\":["
        "{\"name\":\"echo\",\"connections\":2,\"limit\":100,\"accepted\":5},"
        "{\"name\":\"web\",\"connections\":0,\"limit\":0,\"accepted\":0}],"
        "\"returned\":1,\"connections\":[{\"id\":7,\"listener\":\"echo\",\"age_seconds\":2.0,"
        "\"sent_bytes\":1000,\"received_bytes\":10,\"retransmitted_bytes\":0,"
        "\"data_segments_sent\":4,\"retransmitted_segments\":1,\"spurious_retransmissions\":0,"
        "\"retransmission_timeouts\":0,\"retransmit_ratio\":0.25,\"rtt_seconds\":0.0015}]}\n");
  ServerSnapshot old = some_server();
  old.tcp_info_length = 104;  // as far as the kernel of 2007 told
  const std::string text = render_server_connections(old);
  CHECK_FALSE(contains(text, "sent_bytes"));
  CHECK(contains(text, "\"retransmitted_segments\":1,"));
}

TEST_CASE("without a server, or when it does not answer, the API says so") {
  Scrape scrape({}, {});
  CHECK(Api(scrape, {}).server_connections("", soon()).status == 503);
  ApiSources sources;
  sources.read_server = [](TimePoint) { return Result<ServerSnapshot>(Error{"worker 1 hangs"}); };
  CHECK(Api(scrape, sources).server_connections("", soon()).body ==
        "{\"version\":1,\"error\":\"worker 1 hangs\"}\n");
  sources.read_server = [](TimePoint) { return Result<ServerSnapshot>(some_server()); };
  const Api api(scrape, sources);
  CHECK(api.server_connections("", soon()).body == render_server_connections(some_server()));
  CHECK(api.server_connections("top=3", soon()).status == 400);
}
