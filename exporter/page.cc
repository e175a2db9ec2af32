#include "exporter/page.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <string_view>
#include <utility>
#include <vector>

#include "exporter/page_style.h"

namespace tcpvitals {
namespace {

using Outcome = CollectorReport::Outcome;

constexpr std::size_t kRows = 12;  // of one table: what needs more belongs in a dashboard
constexpr double kWarnRatio = 0.01;
constexpr double kCriticalRatio = 0.05;

template <typename... Args>
void put(std::string& out, fmt::format_string<Args...> format, Args&&... args) {
  fmt::format_to(std::back_inserter(out), format, std::forward<Args>(args)...);
}

std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

std::string humanized_count(double value) {
  if (value >= 1e9) return fmt::format("{:.2f} G", value / 1e9);
  if (value >= 1e6) return fmt::format("{:.2f} M", value / 1e6);
  std::string digits = fmt::format("{:.0f}", value);
  for (std::size_t i = digits.size(); i > 3; i -= 3) digits.insert(i - 3, 1, ',');
  return digits;
}

std::string humanized_seconds(double s) {
  if (std::isnan(s)) return "–";
  if (s < 0.001) return fmt::format("{:.0f} µs", s * 1e6);
  if (s < 0.01) return fmt::format("{:.1f} ms", s * 1e3);
  if (s < 1) return fmt::format("{:.0f} ms", s * 1e3);
  if (s < 100) return fmt::format("{:.1f} s", s);
  return fmt::format("{:.0f} min", s / 60);
}

std::string percent(double ratio) {
  return std::isnan(ratio) ? "–" : fmt::format("{:.2f} %", ratio * 100);
}

const char* severity(double ratio) {
  if (ratio >= kCriticalRatio) return "bad";
  return ratio >= kWarnRatio ? "warn" : "";
}

void put_card(std::string& out, std::string_view name, std::string_view value,
              std::string_view severity_class, std::string_view note) {
  put(out,
      "<div class=\"card\"><div class=\"name\">{}</div><div class=\"value {}\">{}</div>"
      "<div class=\"note\">{}</div></div>\n",
      name, severity_class, value, note);
}

void put_bar(std::string& out, double share) {
  put(out, "<span class=\"bar\"><i style=\"width:{:.1f}%\"></i></span>",
      100 * std::clamp(share, 0.0, 1.0));
}

void put_connections_card(std::string& out, const ScrapeResult& scrape) {
  const auto all = sum(scrape, "tcp_host_connections");
  if (!all) return;
  auto sockets = sockets_by_state(scrape);
  put_card(out, "Established connections", humanized_count(sockets["established"]), "",
           fmt::format("{} sockets in all, {} of them listening", humanized_count(*all),
                       humanized_count(sockets["listen"])));
}

void put_retransmits_card(std::string& out, const ScrapeResult& scrape,
                          const std::optional<RetransmitRatio>& recent) {
  const auto sent = sum(scrape, "tcp_host_segments_sent_total");
  const auto retransmitted = sum(scrape, "tcp_host_segments_retransmitted_total");
  if (!sent || !retransmitted) return;
  const double since_boot = ratio_of(*retransmitted, *sent);
  const double shown = recent ? recent->ratio : since_boot;
  put_card(out, "Retransmitted segments", percent(shown), severity(shown),
           recent ? fmt::format("of those sent in the last {}; {} since boot",
                                humanized_seconds(recent->over_seconds), percent(since_boot))
                  : "of those sent since boot");
}

void put_rtt_card(std::string& out, const ScrapeResult& scrape) {
  const auto all = round_trips(scrape);
  if (!all) return;
  put_card(out, "Round trip, median", humanized_seconds(all->quantile(0.5)), "",
           fmt::format("99 % below {}, since the agent's start",
                       humanized_seconds(all->quantile(0.99))));
}

void put_queue_card(std::string& out, const std::vector<Queue>& queues) {
  if (queues.empty()) return;
  const Queue& fullest = queues.front();
  const char* color = fullest.fill() >= 1 ? "bad" : fullest.fill() >= 0.8 ? "warn" : "";
  put_card(out, "Fullest accept queue", percent(fullest.fill()), color,
           fmt::format("port {}: {} of {} at its peak of the last minute", escaped(fullest.port),
                       humanized_count(fullest.peak), humanized_count(fullest.limit)));
}

void put_states(std::string& out, const ScrapeResult& scrape) {
  const auto all = sum(scrape, "tcp_host_connections");
  if (!all) return;
  put(out, "<section><h2>Sockets by state</h2><table>\n");
  for (const auto& [state, v] : sockets_by_state(scrape)) {
    put(out, "<tr{}><td>{}</td><td class=\"fill\">", v == 0 ? " class=\"mute\"" : "",
        escaped(state));
    put_bar(out, *all > 0 ? v / *all : 0);
    put(out, "</td><td>{}</td></tr>\n", humanized_count(v));
  }
  put(out, "</table></section>\n");
}

void put_services(std::string& out, const ScrapeResult& scrape) {
  const Services services = services_of(scrape);
  if (services.empty()) return;
  std::vector<Services::const_iterator> order;
  for (auto it = services.begin(); it != services.end(); ++it) order.push_back(it);
  std::stable_sort(order.begin(), order.end(), [](const auto& a, const auto& b) {
    const Service& x = a->second;
    const Service& y = b->second;
    return std::pair(x.sockets, x.opened) > std::pair(y.sockets, y.opened);
  });
  const std::size_t shown = std::min(order.size(), kRows);
  put(out,
      "<section><h2>Busiest services<small>counters since the agent's start{}</small></h2><table>"
      "<tr><th>Port</th><th class=\"left\">Direction</th><th>Established</th><th>Opened</th>"
      "<th>Data segments</th><th>Retransmitted</th><th>RTT median</th><th>RTT 99 %</th></tr>\n",
      shown < order.size() ? fmt::format("; {} of {}", shown, order.size()) : "");
  for (std::size_t i = 0; i < shown; ++i) {
    const auto& [key, s] = *order[i];
    const double ratio = share_of(s.retransmitted, s.data_segments);
    put(out,
        "<tr><td>{}</td><td class=\"left\">{}</td><td>{}</td><td>{}</td><td>{}</td>"
        "<td class=\"{}\">{}</td><td>{}</td><td>{}</td></tr>\n",
        escaped(key.second), escaped(key.first), humanized_count(s.established),
        humanized_count(s.opened), humanized_count(s.data_segments), severity(ratio),
        percent(ratio), humanized_seconds(s.rtt.quantile(0.5)),
        humanized_seconds(s.rtt.quantile(0.99)));
  }
  put(out, "</table></section>\n");
}

void put_queues(std::string& out, const std::vector<Queue>& queues) {
  if (queues.empty()) return;
  put(out,
      "<section><h2>Accept queues<small>peak of the last minute</small></h2><table>"
      "<tr><th>Listener</th><th></th><th>Now</th><th>Peak</th><th>Limit</th></tr>\n");
  for (std::size_t i = 0; i < std::min(queues.size(), kRows); ++i) {
    const Queue& q = queues[i];
    const bool v6 = q.address.find(':') != std::string::npos;
    put(out, "<tr><td>{}{}{}:{} {}</td><td class=\"fill\">", v6 ? "[" : "", escaped(q.address),
        v6 ? "]" : "", escaped(q.port), escaped(q.netns));
    put_bar(out, q.fill());
    put(out, "</td><td>{}</td><td>{}</td><td>{}</td></tr>\n", humanized_count(q.length),
        humanized_count(q.peak), humanized_count(q.limit));
  }
  put(out, "</table></section>\n");
}

void put_server(std::string& out, const ScrapeResult& scrape) {
  const auto listeners = listeners_of(scrape);
  if (listeners.empty()) return;
  put(out,
      "<section><h2>Embedded server<small>by listener, since its start</small></h2><table>"
      "<tr><th>Listener</th><th>Live</th><th>Accepted</th><th>Refused</th><th>Retransmitted</th>"
      "<th>RTT median</th></tr>\n");
  std::size_t rows = 0;
  for (const auto& [name, c] : listeners) {
    if (rows++ == kRows) break;
    const double ratio = share_of(c.retransmitted, c.data_segments);
    put(out,
        "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td class=\"{}\">{}</td><td>{}</td></tr>"
        "\n",
        escaped(name), humanized_count(c.live), humanized_count(c.accepted),
        humanized_count(c.refused), severity(ratio), percent(ratio),
        humanized_seconds(c.rtt.quantile(0.5)));
  }
  put(out, "</table></section>\n");
}

void put_collectors(std::string& out, const ScrapeResult& scrape) {
  put(out,
      "<section><h2>Collectors</h2><table><tr><th>Name</th><th class=\"left\">Outcome</th>"
      "<th class=\"left\"></th><th>Series</th><th>Took</th></tr>\n");
  for (const CollectorReport& r : scrape.reports) {
    const auto [color, word] = r.outcome == Outcome::kOk       ? std::pair("good", "ok")
                               : r.outcome == Outcome::kAbsent ? std::pair("mute", "absent")
                                                               : std::pair("bad", "failed");
    put(out,
        "<tr><td>{}</td><td class=\"left\"><span class=\"{}\"><span class=\"dot\"></span>{}</span>"
        "</td><td class=\"left wrap mute\">{}</td><td>{}</td><td>{}</td></tr>\n",
        escaped(r.collector), color, word, escaped(r.rejected.empty() ? r.message : r.rejected[0]),
        humanized_count(static_cast<double>(r.series)), humanized_seconds(r.duration_seconds));
  }
  put(out, "</table></section>\n");
}

}  // namespace

std::string render_page(const PageFacts& facts, std::string_view metrics_path,
                        const ScrapeResult& scrape, const std::optional<RetransmitRatio>& recent) {
  const std::vector<Queue> queues = queues_of(scrape);
  std::string out(kPageStyle);
  put(out, "<title>{0} · tcpvitals</title></head><body><main>\n<header><h1>{0}</h1>",
      escaped(facts.host));
  put(out,
      "<span class=\"mute\">TCP vital signs</span><nav><a href=\"{}\">metrics</a>"
      "<a href=\"/api/v1/connections\">connections</a><a href=\"/-/healthy\">healthy</a>"
      "<a href=\"/-/ready\">ready</a></nav></header>\n",
      escaped(metrics_path));
  put(out, "<div class=\"cards\">\n");
  put_connections_card(out, scrape);
  put_retransmits_card(out, scrape, recent);
  put_rtt_card(out, scrape);
  put_queue_card(out, queues);
  put(out, "</div>\n");
  put_services(out, scrape);
  put(out, "<div class=\"columns\">\n");
  put_states(out, scrape);
  put(out, "<div>\n");
  put_queues(out, queues);
  put_server(out, scrape);
  put(out, "</div></div>\n");
  put_collectors(out, scrape);
  put(out, "<footer>tcpvitals {} · this page refreshes every 10 seconds</footer>\n",
      escaped(facts.version));
  put(out, "</main></body></html>\n");
  return out;
}

}  // namespace tcpvitals
