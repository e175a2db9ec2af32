#include <fmt/format.h>
#include <sys/utsname.h>

#include <filesystem>
#include <numeric>
#include <thread>

#include "base/clock.h"
#include "bench/agent.h"
#include "bench/bare_dump.h"
#include "bench/benches.h"
#include "bench/child.h"
#include "bench/net.h"
#include "bench/table.h"

namespace tcpvitals::bench {
namespace {

constexpr std::size_t kConnections = 50'000;  // two sockets each
constexpr int kRounds = 15;
constexpr std::size_t kFew = 50;
constexpr int kScrapers = 40;
constexpr std::uint16_t kNodeExporterPort = 19100;

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
void scrape_in_parallel(std::uint16_t port) {
  std::vector<std::jthread> scrapers;
  for (int i = 0; i < kScrapers; ++i) {
    scrapers.emplace_back([port] { http_get(port, "/metrics"); });
  }
}

}  // namespace

void bench_sockets() {
  enter_new_network();
  const Child node_exporter = start_node_exporter();
  Agent agent;
  std::size_t few_bytes = 0;
  {
    const HeldConnections few(kFew);
    // The scrapes' own connections are groups too, once they have been seen.
    for (int i = 0; i < 3; ++i) {
      scrape(node_exporter, kNodeExporterPort);
      agent.scrape();
    }
    few_bytes = agent.scrape().body.size();
  }
  const std::size_t idle_rss = agent.process().memory("VmRSS");

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
      {"tcpvitals, all of /metrics", [&] { return (last_scrape = agent.scrape()).cost; }},
      {"sampler, nine in ten excluded", [&] { return sample(*excluding).cost; }}};
  run_rounds(contenders, kRounds);
  scrape_in_parallel(agent.port());
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
               0.92);
  print_target("sampler CPU, nine in ten sockets excluded / none",
               ratio(contenders[7], sampler, &Cost::cpu), Wish::kAtMost, 0.5);
  print_target("/metrics / bare dump", ratio(metrics, baseline, &Cost::wall), Wish::kAtMost, 1.0);
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
               mib(agent.process().memory("VmHWM")), Wish::kAtMost, 30);
  print_target(fmt::format("bytes of /metrics, {} / {} with {} sockets", last_scrape.body.size(),
                           few_bytes, 2 * kFew),
               static_cast<double>(last_scrape.body.size()) / static_cast<double>(few_bytes),
               Wish::kAtMost, 1.02);
  fmt::print("     the agent's RSS with {} sockets {:.1f} MiB; node_exporter's peak {:.1f} MiB\n",
             2 * kFew, mib(idle_rss), mib(node_exporter.memory("VmHWM")));
}

}  // namespace tcpvitals::bench
