#include <fmt/format.h>
#include <sys/utsname.h>
#include <time.h>

#include <filesystem>
#include <numeric>
#include <thread>

#include "base/clock.h"
#include "bench/bare_dump.h"
#include "bench/benches.h"
#include "bench/child.h"
#include "bench/net.h"
#include "bench/table.h"
#include "collectors/connections/sampler.h"
#include "collectors/kernel_source.h"

namespace tcpvitals::bench {
namespace {

constexpr std::size_t kConnections = 50'000;  // two sockets each
constexpr int kRounds = 15;
constexpr std::size_t kFew = 50;
constexpr int kScrapers = 40;
constexpr std::uint16_t kNodeExporterPort = 19100;
constexpr std::uint16_t kAgentPort = 19077;

double thread_cpu_seconds() {
  timespec t{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}

template <typename Work>
Cost timed(const Work& work) {
  const TimePoint start = Clock::now();
  const double cpu = thread_cpu_seconds();
  work();
  return {seconds_since(start), thread_cpu_seconds() - cpu};
}

std::unique_ptr<Sampler> new_sampler(const Excludes& excludes = {}) {
  auto sockets = open_diag_sockets(8 << 20);
  if (!sockets) die(sockets.error().message);
  // Everything that costs something is on, and the budget so large that every sample is a fresh
  // dump.
  ConnectionsConfig config{.group_by = {.cgroup = true}, .excludes = excludes, .cpu_budget = 1e9};
  for (std::uint16_t i = 0; i < 100; ++i) {
    config.peers.push_back(
        {fmt::format("net{}", i % 50), *parse_ip_prefix(fmt::format("10.{}.0.0/16", i))});
    const auto port = static_cast<std::uint16_t>(1000 + i);
    config.ports.push_back({fmt::format("service{}", i), {port, port}});
  }
  static const ProcSource files("/proc");
  return std::make_unique<Sampler>(std::move(*sockets),
                                   SamplerOptions{.config = std::move(config), .files = &files});
}

struct Sampled {
  Cost cost;
  std::shared_ptr<const Snapshot> snapshot;
};

Sampled sample(Sampler& sampler) {
  const TimePoint start = Clock::now();
  const auto result = sampler.sample(start + std::chrono::seconds(10));
  const double wall = seconds_since(start);
  if (!result) die("sample: " + result.error().message);
  return {{wall, (*result)->dump_cpu_seconds}, *result};
}

// How long one waits who asks in the middle of a dump, in dumps: it is answered by that one.
double wait_of_late_asker(Sampler& sampler, double dump_seconds) {
  double early = 0;
  std::jthread first([&] { early = sample(sampler).cost.wall; });
  std::this_thread::sleep_for(std::chrono::duration<double>(dump_seconds / 2));
  const double late = sample(sampler).cost.wall;
  first.join();
  return late / early;
}

Cost first_dump() {
  const TimePoint start = Clock::now();
  const auto sampler = new_sampler();
  const double cpu = sample(*sampler).cost.cpu;
  return {seconds_since(start), cpu};
}

Cost run_ss() {
  const TimePoint start = Clock::now();
  Child ss({"ss", "-tinOaH"}, Child::Output::kDiscard);
  const double cpu = ss.wait();
  return {seconds_since(start), cpu};
}

struct Scraped {
  Cost cost;
  std::string body;
};

Scraped scrape(const Child& server, std::uint16_t port) {
  const double cpu = server.cpu_seconds();
  const TimePoint start = Clock::now();
  HttpResponse response = http_get(port, "/metrics");
  const Cost cost{seconds_since(start), server.cpu_seconds() - cpu};
  if (response.status != 200) die(fmt::format("port {} answers {}", port, response.status));
  return {cost, std::move(response.body)};
}

double value_of(const std::string& body, const std::string& metric) {
  const std::size_t line = body.find("\n" + metric + " ");
  if (line == std::string::npos) die("no " + metric);
  return std::stod(body.substr(line + metric.size() + 2));
}

// A scrape of the agent that took a dump of its own.
Scraped fresh_scrape(const Child& agent, double& samples) {
  Scraped scraped = scrape(agent, kAgentPort);
  const double now = value_of(scraped.body, "tcpvitals_samples_total");
  if (now == samples) die("a scrape was answered from an earlier sample");
  samples = now;
  return scraped;
}

Child start_agent() {
  Child agent({program_directory() + "/tcpvitals",
               fmt::format("--web.listen-address=127.0.0.1:{}", kAgentPort),
               "--server.listen-address=127.0.0.1:19078", "--connections.cpu-budget=1",
               "--log.level=error"},
              Child::Output::kDiscard);
  wait_until_served(kAgentPort, "/-/ready");
  return agent;
}

Child start_node_exporter() {
  const auto program = std::filesystem::path(program_directory()) /
                       "../tools/prometheus-node-exporter/usr/bin/prometheus-node-exporter";
  if (!std::filesystem::exists(program)) {
    die(program.string() + " is not there: ./dev bench gets it");
  }
  Child exporter({program, "--collector.disable-defaults", "--collector.tcpstat",
                  "--web.disable-exporter-metrics", "--log.level=error",
                  fmt::format("--web.listen-address=127.0.0.1:{}", kNodeExporterPort)},
                 Child::Output::kDiscard);
  wait_until_served(kNodeExporterPort, "/");
  return exporter;
}

// As many at once as the agent serves: its memory is at its highest.
void scrape_in_parallel() {
  std::vector<std::jthread> scrapers;
  for (int i = 0; i < kScrapers; ++i) {
    scrapers.emplace_back([] { http_get(kAgentPort, "/metrics"); });
  }
}

double mib(std::size_t bytes) { return static_cast<double>(bytes) / (1 << 20); }

}  // namespace

void bench_sockets() {
  enter_new_network();
  const Child node_exporter = start_node_exporter();
  const Child agent = start_agent();
  double samples = 0;
  std::size_t few_bytes = 0;
  {
    const HeldConnections few(kFew);
    // The scrapes' own connections are groups too, once they have been seen.
    for (int i = 0; i < 3; ++i) {
      scrape(node_exporter, kNodeExporterPort);
      fresh_scrape(agent, samples);
    }
    few_bytes = fresh_scrape(agent, samples).body.size();
  }
  const std::size_t idle_rss = agent.memory("VmRSS");

  const HeldConnections held(kConnections);
  BareDump bare;
  const auto steady = new_sampler();
  const auto excluding =
      new_sampler({.ports = {{kFirstHeldPort, kFirstHeldPort + kHeldPorts - 2}}});
  Sampled last = sample(*steady);
  const auto& states = last.snapshot->namespaces.front().states;
  const auto sockets = std::accumulate(states.begin(), states.end(), 0UL);
  Scraped last_scrape;

  std::vector<Contender> contenders{
      {"bare dump, IPv4 then IPv6", [&] { return timed([&] { bare.two_families(); }); }},
      {"bare dump, both in one walk", [&] { return timed([&] { bare.one_walk(); }); }},
      {"sampler", [&] { return (last = sample(*steady)).cost; }},
      {"sampler, its first dump", first_dump},
      {"ss -tinOaH", run_ss},
      {"node_exporter, tcpstat alone",
       [&] { return scrape(node_exporter, kNodeExporterPort).cost; }},
      {"tcpvitals, all of /metrics",
       [&] { return (last_scrape = fresh_scrape(agent, samples)).cost; }},
      {"sampler, nine in ten excluded", [&] { return sample(*excluding).cost; }}};
  run_rounds(contenders, kRounds);
  scrape_in_parallel();
  std::vector<double> pauses;
  std::vector<double> waits;
  for (int i = 0; i < kRounds; ++i) {
    last = sample(*steady);
    pauses.push_back(last.snapshot->longest_event_pause_seconds * 1e3);
    waits.push_back(wait_of_late_asker(*steady, last.snapshot->dump_seconds));
  }

  utsname kernel{};
  ::uname(&kernel);
  fmt::print("{} TCP sockets on loopback, {} rounds, Linux {}, {} CPUs\n", sockets, kRounds,
             kernel.release, std::thread::hardware_concurrency());
  print_table(contenders);
  const Contender& baseline = contenders[0];
  const Contender& sampler = contenders[2];
  const Contender& metrics = contenders[6];
  print_target("sampler CPU / bare dump", ratio(sampler, baseline, &Cost::cpu), Wish::kAtMost,
               1.00);
  print_target("sampler CPU, nine in ten sockets excluded / none",
               ratio(contenders[7], sampler, &Cost::cpu), Wish::kAtMost, 0.5);
  print_target("/metrics / bare dump", ratio(metrics, baseline, &Cost::wall), Wish::kAtMost, 1.2);
  print_target("ss / /metrics", ratio(contenders[4], metrics, &Cost::wall), Wish::kAtLeast, 4.5);
  print_target("node_exporter / /metrics", ratio(contenders[5], metrics, &Cost::wall),
               Wish::kAtLeast, 1.7);
  print_target("ms for which events wait during a dump, median", median(pauses), Wish::kAtMost, 10);
  print_target("dumps that one waits who asks during one, median", median(waits), Wish::kAtMost, 1);
  print_target("bytes per tracked connection",
               static_cast<double>(last.snapshot->tracker_bytes) /
                   static_cast<double>(last.snapshot->tracked),
               Wish::kAtMost, 128);
  print_target(fmt::format("MiB of the agent's RSS, at its peak, {} scrapes at once", kScrapers),
               mib(agent.memory("VmHWM")), Wish::kAtMost, 32);
  print_target(fmt::format("bytes of /metrics, {} / {} with {} sockets", last_scrape.body.size(),
                           few_bytes, 2 * kFew),
               static_cast<double>(last_scrape.body.size()) / static_cast<double>(few_bytes),
               Wish::kAtMost, 1.02);
  fmt::print("     the agent's RSS with {} sockets {:.1f} MiB; node_exporter's peak {:.1f} MiB\n",
             2 * kFew, mib(idle_rss), mib(node_exporter.memory("VmHWM")));
}

}  // namespace tcpvitals::bench
