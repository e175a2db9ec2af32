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

namespace tcpvitals::bench {
namespace {

constexpr std::size_t kConnections = 50'000;  // two sockets each
constexpr int kRounds = 9;
constexpr std::uint16_t kNodeExporterPort = 19100;

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

std::unique_ptr<Sampler> new_sampler() {
  auto sockets = open_diag_sockets(8 << 20);
  if (!sockets) die(sockets.error().message);
  // A budget so large that every sample is a fresh dump.
  return std::make_unique<Sampler>(std::move(*sockets), SamplerOptions{.cpu_budget = 1e9});
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

Cost scrape(const Child& server, std::uint16_t port) {
  const double cpu = server.cpu_seconds();
  const TimePoint start = Clock::now();
  if (http_get(port, "/metrics").status != 200) die("a scrape failed");
  return {seconds_since(start), server.cpu_seconds() - cpu};
}

Child start_node_exporter() {
  const auto program = std::filesystem::path(program_directory()) /
                       "../tools/prometheus-node-exporter/usr/bin/prometheus-node-exporter";
  if (!std::filesystem::exists(program))
    die(program.string() + " is not there: ./dev bench gets it");
  Child exporter({program, "--collector.disable-defaults", "--collector.tcpstat",
                  "--web.disable-exporter-metrics", "--log.level=error",
                  fmt::format("--web.listen-address=127.0.0.1:{}", kNodeExporterPort)},
                 Child::Output::kDiscard);
  wait_until_served(kNodeExporterPort, "/");
  return exporter;
}

double mib(std::size_t bytes) { return static_cast<double>(bytes) / (1 << 20); }

}  // namespace

void bench_sockets() {
  enter_new_network();
  const HeldConnections held(kConnections);
  BareDump bare;
  const auto steady = new_sampler();
  const Child node_exporter = start_node_exporter();
  Sampled last = sample(*steady);
  const auto sockets =
      std::accumulate(last.snapshot->host_states.begin(), last.snapshot->host_states.end(), 0UL);

  std::vector<Contender> contenders{
      {"bare dump, IPv4 then IPv6", [&] { return timed([&] { bare.two_families(); }); }},
      {"bare dump, both in one walk", [&] { return timed([&] { bare.one_walk(); }); }},
      {"sampler", [&] { return (last = sample(*steady)).cost; }},
      {"sampler, its first dump", first_dump},
      {"ss -tinOaH", run_ss},
      {"node_exporter, tcpstat alone", [&] { return scrape(node_exporter, kNodeExporterPort); }}};
  run_rounds(contenders, kRounds);

  utsname kernel{};
  ::uname(&kernel);
  fmt::print("{} TCP sockets on loopback, {} rounds, Linux {}, {} CPUs\n", sockets, kRounds,
             kernel.release, std::thread::hardware_concurrency());
  print_table(contenders);
  const Contender& baseline = contenders[0];
  const Contender& sampler = contenders[2];
  print_target("sampler CPU / bare dump", ratio(sampler, baseline, &Cost::cpu), Wish::kAtMost,
               1.12);
  print_target("sampler wall / bare dump", ratio(sampler, baseline, &Cost::wall), Wish::kAtMost,
               1.2);
  print_target("ss / sampler", ratio(contenders[4], sampler, &Cost::wall), Wish::kAtLeast, 4.5);
  print_target("node_exporter / sampler", ratio(contenders[5], sampler, &Cost::wall),
               Wish::kAtLeast, 1.7);
  print_target("bytes per tracked connection",
               static_cast<double>(last.snapshot->tracker_bytes) /
                   static_cast<double>(last.snapshot->tracked),
               Wish::kAtMost, 128);
  fmt::print("     {:<55}{:>9.1f} MiB\n", "node_exporter's RSS",
             mib(node_exporter.memory("VmRSS")));
}

}  // namespace tcpvitals::bench
