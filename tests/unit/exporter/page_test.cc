#include "exporter/page.h"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <tuple>

using namespace tcpvitals;
using namespace std::chrono_literals;
using prometheus::ClientMetric;
using Type = prometheus::MetricType;

namespace {

using Labels = std::vector<ClientMetric::Label>;

// A scrape that holds what is added, in the order that a Scrape promises.
class Made {
 public:
  Made& add(const std::string& name, double value, Labels labels = {}, Type type = Type::Gauge) {
    ClientMetric metric;
    metric.label = std::move(labels);
    metric.gauge.value = metric.counter.value = value;
    return add(name, std::move(metric), type);
  }
  Made& count(const std::string& name, double value, Labels labels = {}) {
    return add(name, value, std::move(labels), Type::Counter);
  }
  Made& add(const std::string& name, ClientMetric metric, Type type) {
    auto& all = families_;
    auto family = std::lower_bound(all.begin(), all.end(), name,
                                   [](const auto& f, const auto& n) { return f.name < n; });
    if (family == all.end() || family->name != name) {
      family = all.insert(family, {name, "", type, {}});
    }
    family->metric.push_back(std::move(metric));
    return *this;
  }
  Made& report(CollectorReport report) {
    reports_.push_back(std::move(report));
    return *this;
  }
  operator ScrapeResult() const {
    return {.families = {families_.begin(), families_.end()}, .reports = reports_};
  }

 private:
  std::vector<prometheus::MetricFamily> families_;
  std::vector<CollectorReport> reports_;
};

std::string page(const ScrapeResult& scrape, std::optional<RetransmitRatio> recent = {}) {
  return render_page({.host = "db-1", .version = "9"}, "/metrics", scrape, recent);
}

bool contains(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

Made host(double sent, double retransmitted) {
  Made made;
  made.count("tcp_host_segments_sent_total", sent)
      .count("tcp_host_segments_retransmitted_total", retransmitted);
  return made;
}

}  // namespace

TEST_CASE("page: without any metric it is still a page, without empty sections") {
  const std::string html = page(Made());
  CHECK(contains(html, "<h1>db-1</h1>"));
  CHECK_FALSE(contains(html, "Sockets by state"));
  CHECK_FALSE(contains(html, "Busiest services"));
  CHECK_FALSE(contains(html, "Accept queues"));
  CHECK_FALSE(contains(html, "Embedded server"));
}

TEST_CASE("page: the embedded server's listeners, each by itself") {
  Made made;
  for (const auto& [name, accepted, retransmitted] :
       {std::tuple("echo", 40.0, 0.0), {"<web>", 5.0, 20.0}}) {
    const Labels listener{{"listener", name}};
    made.add("tcp_server_connections", 2, listener)
        .count("tcp_server_connections_accepted_total", accepted, listener)
        .count("tcp_server_data_segments_sent_total", 1000, listener)
        .count("tcp_server_retransmitted_segments_total", retransmitted, listener);
    for (const char* reason : {"access", "peer_rate"}) {
      made.count("tcp_server_connections_rejected_total", 3,
                 {{"listener", name}, {"reason", reason}});
    }
  }
  const std::string html = page(made);
  CHECK(contains(html, "<td>echo</td><td>2</td><td>40</td><td>6</td><td class=\"\">0.00 %</td>"));
  CHECK(contains(
      html, "<td>&lt;web&gt;</td><td>2</td><td>5</td><td>6</td><td class=\"warn\">2.00 %</td>"));
}

TEST_CASE("page: it fetches nothing and runs nothing") {
  const std::string html = page(host(1, 1));
  for (const char* part : {"<script", "<link", "<img", "url(", "@import", "http://", "https://"}) {
    CAPTURE(part);
    CHECK_FALSE(contains(html, part));
  }
}

TEST_CASE(
    "page: the retransmit ratio is since boot at first, then of the last moments, and coloured") {
  CHECK(contains(page(host(10'000, 5)), "<div class=\"value \">0.05 %</div>"));
  const std::string html = page(host(10'000, 5), RetransmitRatio{0.02, 42});
  CHECK(contains(html, "<div class=\"value warn\">2.00 %</div>"));
  CHECK(contains(html, "of those sent in the last 42.0 s; 0.05 % since boot"));
  CHECK(contains(page(host(10'000, 5), RetransmitRatio{0.05, 42}), "value bad\">5.00 %"));
}

TEST_CASE("page: services add up their peers, the busiest first") {
  Made made;
  const auto labels = [](const char* port, const char* peer) {
    return Labels{{"direction", "inbound"}, {"port", port}, {"peer", peer}};
  };
  const auto connections = [&](const char* port, const char* peer, double value) {
    Labels l = labels(port, peer);
    l.push_back({"state", "established"});
    made.add("tcp_connections", value, l);
  };
  connections("22", "private", 3);
  connections("443", "private", 1'000);
  connections("443", "public", 234);
  for (const char* peer : {"private", "public"}) {
    made.count("tcp_data_segments_sent_total", 500, labels("443", peer));
    made.count("tcp_retransmitted_segments_total", 30, labels("443", peer));
    ClientMetric rtt;
    rtt.label = labels("443", peer);
    rtt.histogram = {
        100, 1, {{50, 0.001}, {100, 0.003}, {100, std::numeric_limits<double>::infinity()}}};
    made.add("tcp_rtt_seconds", rtt, Type::Histogram);
  }
  const std::string html = page(made);
  const auto first = html.find("<tr><td>443</td><td class=\"left\">inbound</td><td>1,234</td>");
  const auto second = html.find("<tr><td>22</td><td class=\"left\">inbound</td><td>3</td>");
  REQUIRE(first != std::string::npos);
  REQUIRE(second != std::string::npos);
  CHECK(first < second);
  const std::string row = html.substr(first, html.find("</tr>", first) - first);
  CHECK(contains(row, "<td class=\"bad\">6.00 %</td><td>1.0 ms</td><td>3.0 ms</td>"));
  CHECK(contains(html.substr(second), "<td class=\"\">–</td><td>–</td><td>–</td>"));
}

TEST_CASE("page: the accept queue that was fullest in the last minute comes first") {
  Made made;
  for (const auto& [port, peak] : {std::pair("80", 1.0), {"443", 64.0}}) {
    const Labels labels{{"port", port}, {"address", "::"}};
    made.add("tcp_listener_queue_length", 0, labels);
    made.add("tcp_listener_queue_peak", peak, labels);
    made.add("tcp_listener_queue_limit", 64, labels);
  }
  const std::string html = page(made);
  CHECK(contains(html, "value bad\">100.00 %</div>"));
  CHECK(contains(html, "port 443: 64 of 64"));
  CHECK(html.find("<td>[::]:443 </td>") < html.find("<td>[::]:80 </td>"));
}

TEST_CASE("page: an accept queue warns from 80 % on and is bad when it is full") {
  struct Row {
    double peak;
    const char* color;
    const char* percent;
  };
  for (const Row& row : {Row{51, "", "79.69 %"},
                         {51.2, "warn", "80.00 %"},
                         {63, "warn", "98.44 %"},
                         {64, "bad", "100.00 %"}}) {
    CAPTURE(row.peak);
    const Labels labels{{"port", "443"}, {"address", "0.0.0.0"}};
    Made made;
    made.add("tcp_listener_queue_peak", row.peak, labels)
        .add("tcp_listener_queue_limit", 64, labels);
    CHECK(contains(page(made),
                   fmt::format("<div class=\"value {}\">{}</div>", row.color, row.percent)));
  }
}

TEST_CASE("page: network namespaces are apart in queues and together in states") {
  Made made;
  for (const auto& [netns, peak, sockets] : {std::tuple("host", 64.0, 5.0), {"web", 1.0, 7.0}}) {
    const Labels labels{{"port", "443"}, {"address", "0.0.0.0"}, {"netns", netns}};
    made.add("tcp_listener_queue_peak", peak, labels).add("tcp_listener_queue_limit", 64, labels);
    for (const char* state : {"established", "listen"}) {
      made.add("tcp_host_connections", sockets, {{"state", state}, {"netns", netns}});
    }
  }
  const std::string html = page(made);
  CHECK(contains(html, "value bad\">100.00 %</div>"));
  CHECK(html.find("<td>0.0.0.0:443 host</td>") < html.find("<td>0.0.0.0:443 web</td>"));
  CHECK(contains(html, "<div class=\"value \">12</div>"));
  CHECK(contains(html, "24 sockets in all, 12 of them listening"));
  CHECK(contains(html,
                 "<td>listen</td><td class=\"fill\"><span class=\"bar\">"
                 "<i style=\"width:50.0%\"></i></span></td><td>12</td></tr>"));
}

TEST_CASE("page: twelve services at most, and how many there are") {
  Made made;
  for (int port = 1; port <= 13; ++port) {
    const Labels labels{{"direction", "inbound"}, {"port", std::to_string(port)}};
    made.count("tcp_connections_opened_total", port, labels);
  }
  const std::string html = page(made);
  CHECK(contains(html, "; 12 of 13</small>"));
  CHECK(contains(html, "<tr><td>2</td>"));
  CHECK_FALSE(contains(html, "<tr><td>1</td>"));  // the one with the fewest
}

TEST_CASE("page: a service's ratio is that of its data segments, and never above all of them") {
  struct Row {
    double data;
    double retransmitted;
    double syns;
    const char* cell;
  };
  const Row kRows[] = {
      {100, 753, 750, "<td class=\"warn\">3.00 %</td>"},  // connects that nobody answers
      {10, 80, 0, "<td class=\"bad\">100.00 %</td>"},     // FINs without data
      {1000, 10, 0, "<td class=\"warn\">1.00 %</td>"},    //
      {1000, 9, 0, "<td class=\"\">0.90 %</td>"},         //
      {0, 750, 750, "<td class=\"\">–</td>"},
  };
  for (const Row& row : kRows) {
    CAPTURE(row.cell);
    const Labels labels{{"direction", "outbound"}, {"port", "443"}, {"peer", "public"}};
    Made made;
    made.count("tcp_data_segments_sent_total", row.data, labels)
        .count("tcp_retransmitted_segments_total", row.retransmitted, labels)
        .count("tcp_retransmitted_syns_total", row.syns, labels);
    CHECK(contains(page(made), row.cell));
  }
  const Labels listener{{"listener", "echo"}};
  Made made;
  made.count("tcp_server_data_segments_sent_total", 1, listener)
      .count("tcp_server_retransmitted_segments_total", 3, listener);
  CHECK(contains(page(made), "<td class=\"bad\">100.00 %</td>"));
}

TEST_CASE("page: collectors show their outcome, and what a label holds is never markup") {
  using Outcome = CollectorReport::Outcome;
  Made made;
  made.add("tcp_host_connections", 1, {{"state", "<b>&\"x\""}});
  made.report(
      {.collector = "a", .outcome = Outcome::kOk, .duration_seconds = 0.00012, .series = 5});
  made.report({.collector = "b", .outcome = Outcome::kAbsent, .message = "no <file>"});
  made.report({.collector = "c", .outcome = Outcome::kFailed, .message = "line 3"});
  made.report({.collector = "d", .outcome = Outcome::kOk, .rejected = {"x: a series twice"}});
  const std::string html = page(made);
  CHECK(contains(html, "&lt;b&gt;&amp;&quot;x&quot;"));
  CHECK_FALSE(contains(html, "<b>"));
  CHECK(contains(html, "</span>ok</span>"));
  CHECK(contains(html, "</span>absent</span></td><td class=\"left wrap mute\">no &lt;file&gt;"));
  CHECK(contains(html, "<span class=\"bad\"><span class=\"dot\"></span>failed</span>"));
  CHECK(contains(html, "<td>5</td><td>120 µs</td>"));
  CHECK(contains(html, "</span>ok</span></td><td class=\"left wrap mute\">x: a series twice</td>"));
}

TEST_CASE("the ratio window covers about the last minute and starts anew when a counter falls") {
  RatioWindow window;
  const TimePoint start = Clock::now();
  CHECK_FALSE(window.advance(start, host(1'000, 10)));
  CHECK_FALSE(window.advance(start + 100ms, host(1'100, 10)));  // too soon to say
  const auto early = window.advance(start + 10s, host(2'000, 30));
  REQUIRE(early);
  CHECK(early->ratio == doctest::Approx(0.02));
  CHECK(early->over_seconds == doctest::Approx(10));
  const auto idle = window.advance(start + 75s, host(2'000, 30));
  REQUIRE(idle);
  CHECK(idle->ratio == 0);
  CHECK(idle->over_seconds == doctest::Approx(65));  // from the view at 10 s on
  CHECK_FALSE(window.advance(start + 80s, host(5, 0)));
  CHECK_FALSE(window.advance(start + 81s, Made()));
  CHECK(window.advance(start + 90s, host(105, 1)));
}
