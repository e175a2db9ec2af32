// golden DIRECTORY METRICS.MD: writes what /metrics says over the fixtures, collector by collector
// and joined, and the reference of all metrics. The tests compare; ./dev golden keeps.
#include <fmt/format.h>

#include <array>
#include <cstdio>
#include <fstream>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "agent/config/reload.h"
#include "collectors/all.h"
#include "collectors/host/proc_tcp.h"
#include "collectors/kernel_source.h"
#include "collectors/sock_diag/inet_diag.h"
#include "exporter/render.h"
#include "exporter/scrape.h"
#include "server/audit/audit_collector.h"
#include "server/server_collector.h"
#include "tests/fixtures/directory.h"
#include "tests/fixtures/replay.h"

using namespace tcpvitals;
using namespace tcpvitals::testing;
using namespace std::chrono_literals;

namespace {

const std::string kProc = fixture_path("6.18-host/proc");
const std::string kStates = fixture_path("6.18-states");

// What depends on the machine that runs this: shown as 0.
const std::set<std::string> kTimings{
    "tcpvitals_collector_duration_seconds",
    "tcpvitals_config_last_reload_success_timestamp_seconds",
    "tcpvitals_sample_age_seconds",
    "tcpvitals_sample_duration_seconds",
    "tcpvitals_sampler_cpu_seconds_total",
    "tcpvitals_event_pause_seconds",
    "tcpvitals_response_bytes",
    "tcpvitals_samples_total",
    "tcpvitals_tracker_bytes",
};

// The embedded server has no kernel file to be captured: what it would say of an orderly
// connection, of one that was reset, and of a live one on a bad path.
ServerSnapshot server_snapshot() {
  ListenerReport echo{.name = "echo", .gauges = {.limit = 19'000}};
  ListenerStatistics& s = echo.statistics;
  s.accepted = 3;
  s.closed[static_cast<std::size_t>(CloseCause::kPeerFin)] = 1;
  s.closed[static_cast<std::size_t>(CloseCause::kPeerRst)] = 1;
  s.lifetime.observe(2'500);
  s.lifetime.observe(90'000'000);
  s.tcp.sent_bytes = s.tcp.received_bytes = 1'200'000;
  s.tcp.retransmitted_bytes = 21'720;
  s.tcp.data_segments_sent = 850;
  s.tcp.retransmitted_segments = 15;
  s.tcp.spurious_retransmissions = 2;
  s.tcp.retransmission_timeouts = 1;
  for (const std::uint64_t us : {80U, 240U, 31'000U}) s.tcp.rtt.observe(us);
  for (const std::uint64_t us : {60U, 190U}) s.tcp.min_rtt.observe(us);
  ConnectionReport bad{3, 0, 90s, {}};
  bad.vitals.sent_bytes = bad.vitals.received_bytes = 1'158'400;
  bad.vitals.data_segments_sent = 800;
  bad.vitals.retransmitted_segments = 15;
  bad.vitals.rtt_us = 31'000;
  bad.vitals.min_rtt_us = 28'500;

  // And one that has all that a listener may have: TLS, a backend, limits for each peer.
  ListenerReport door{"web", {.limit = 42, .connects = true, .limited_peers = 2}, {}, {1, 0}};
  door.gauges.tls = TlsStoreStatistics{.usable = true,
                                       .not_after = std::chrono::sys_seconds(1'900'000'000s),
                                       .loaded = std::chrono::sys_seconds(1'795'000'000s)};
  door.statistics.accepted = 5;
  door.statistics.closed[static_cast<std::size_t>(CloseCause::kPeerFin)] = 4;
  door.statistics.handshakes[static_cast<std::size_t>(TlsOutcome::kOk)] = 5;
  door.statistics.handshake_time.observe(1'900);
  door.statistics.backend_connections = 5;
  return {{echo, door}, {bad}, {bad}, sizeof(TcpInfo)};
}

class ServerFixture final : public Collector {
 public:
  std::string_view name() const override { return "server"; }
  std::span<const MetricDesc> metrics() const override { return server_metrics(); }
  Result<void> collect(Sink& sink, TimePoint /*deadline*/) override {
    emit(server_snapshot(), sink);
    return {};
  }
};

// Nor has the audit log: one that met a full disk.
class AuditFixture final : public Collector {
 public:
  std::string_view name() const override { return "audit"; }
  std::span<const MetricDesc> metrics() const override { return audit_metrics(); }
  Result<void> collect(Sink& sink, TimePoint /*deadline*/) override {
    emit(AuditStatistics{.lines = 90'000,
                         .lost = 1'250,
                         .bytes = 20'700'000,
                         .write_errors = 12,
                         .queued_bytes = 460,
                         .queue_limit_bytes = 8 << 20},
         sink);
    return {};
  }
};

[[noreturn]] void die(const std::string& message) {
  fmt::print(stderr, "golden: {}\n", message);
  std::exit(1);
}

void write(const std::string& path, const std::string& text) {
  std::ofstream file(path, std::ios::binary);
  file << text;
  if (!file.flush()) die("cannot write " + path);
}

Families scraped(Scrape& scrape) {
  ScrapeResult result = scrape.run(Clock::now() + 30s);
  for (const CollectorReport& r : result.reports) {
    if (r.outcome == CollectorReport::Outcome::kFailed)
      die(std::string(r.collector) + ": " + r.message);
  }
  for (auto& family : result.families) {
    if (kTimings.count(family->name) == 0) continue;
    prometheus::MetricFamily timeless = family;
    for (auto& metric : timeless.metric) metric.counter.value = metric.gauge.value = 0;
    family = std::move(timeless);
  }
  return std::move(result.families);
}

// The captured events arrive after the captured dump: until all of them are counted.
void await_events(Scrape& scrape) {
  std::size_t expected = 0;
  for (const auto& datagram : read_datagrams(kStates + "/events.bin")) {
    InetDiagReader reader(datagram);
    SocketRow row;
    while (reader.next(row) == InetDiagReader::Next::kRow) {
      const bool listener = row.remote_port == 0 && row.remote_address().is_any();
      if (!listener) ++expected;
    }
  }
  for (std::size_t counted = 0; counted != expected;) {
    for (const Family& family : scraped(scrape)) {
      if (family->name != "tcpvitals_connection_events_total") continue;
      counted = static_cast<std::size_t>(family->metric.front().counter.value);
    }
    if (counted > expected) die("more events than were captured");
  }
}

std::string unit_of(std::string_view name) {
  if (name.ends_with("_total")) name.remove_suffix(6);
  for (const std::string_view unit : {"seconds", "bytes", "ratio"}) {
    if (name.ends_with("_" + std::string(unit))) return std::string(unit);
  }
  return "";
}

// A cell of a Markdown table.
std::string cell(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '|') out += '\\';
    out += c;
  }
  return out;
}

std::string section(std::string_view title, std::span<const MetricDesc> metrics) {
  constexpr std::array kTypes{"counter", "gauge", "histogram", "untyped"};
  std::map<std::string_view, const MetricDesc*> sorted;
  for (const MetricDesc& desc : metrics) {
    if (!sorted.emplace(desc.name, &desc).second)
      die(fmt::format("{} twice in {}", desc.name, title));
  }
  std::string out = fmt::format(
      "\n## {}\n\n| metric | type | unit | labels | meaning | source "
      "|\n|---|---|---|---|---|---|\n",
      title);
  for (const auto& [name, desc] : sorted) {
    std::string labels;
    for (std::size_t i = 0; i < desc->label_count(); ++i) {
      labels += fmt::format("{}`{}`", i == 0 ? "" : ", ", desc->labels[i]);
    }
    out += fmt::format("| `{}` | {} | {} | {} | {} | {} |\n", name,
                       kTypes.at(static_cast<std::size_t>(desc->type)), unit_of(name), labels,
                       cell(desc->help), cell(desc->source));
  }
  return out;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) die("usage: golden DIRECTORY METRICS.MD");
  const std::string directory = argv[1];
  const ProcSource proc(kProc);

  CollectorOptions options;
  options.names.assign(collector_names().begin(), collector_names().end());
  options.connections.config.cpu_budget = 1e-9;  // one dump
  options.connections.open_sockets = [](std::size_t) { return replay_sockets(kStates); };
  auto collectors = make_collectors(proc, options);
  if (!collectors) die(collectors.error().message);
  collectors->all.push_back(std::make_unique<ServerFixture>());
  collectors->all.push_back(std::make_unique<AuditFixture>());
  // proc_tcp is absent where connections work: what it says where they do not.
  const ProcSource every_state(fixture_path("6.18-every-state/proc"));
  const auto stand_in = make_proc_tcp_collector(every_state, [] { return std::optional(0.05); });
  const Reloader reloader("tcpvitals.yml", {}, {});
  collectors->all.push_back(std::make_unique<ConfigCollector>(reloader));

  std::vector<Collector*> pointers;
  for (const auto& c : collectors->all) pointers.push_back(c.get());
  Scrape scrape(pointers, {.version = "0.0.0"});
  await_events(scrape);

  for (Collector* collector : pointers) {
    if (collector->name() == stand_in->name()) collector = stand_in.get();
    Collector* const alone[] = {collector};
    Scrape one(alone, {.version = "0.0.0"});
    auto families = scraped(one);
    std::erase_if(families, [](const Family& f) {
      for (const MetricDesc& own : Scrape::metrics()) {
        if (own.name == f->name) return true;
      }
      return false;
    });
    write(fmt::format("{}/{}.prom", directory, collector->name()), render_text(families));
  }
  write(directory + "/joined.prom", render_text(scraped(scrape)));

  std::string reference =
      "# Metrics\n\n"
      "Generated by `./dev golden` from the rows that the program itself reads; edit those, not "
      "this.\n\n"
      "A group has only the labels that it is grouped by; `cgroup` and `netns` appear where the "
      "configuration asks for them. `direction` says who opened the connection, and `port` is the "
      "service's port, the local one inbound and the remote one outbound: "
      "[Directions and ports](docs/configuration.md#directions-and-ports).\n";
  for (Collector* collector : pointers) {
    reference += section(fmt::format("Collector `{}`", collector->name()), collector->metrics());
  }
  reference += section("Every scrape", Scrape::metrics());
  write(argv[2], reference);
  return 0;
}
