#include <fmt/format.h>

#include <cmath>
#include <fstream>
#include <vector>

#include "bench/agent.h"
#include "bench/bare_dump.h"
#include "bench/benches.h"
#include "bench/net.h"

namespace tcpvitals::bench {
namespace {

constexpr std::size_t kConnections = 500'000;  // two sockets each
constexpr std::size_t kShort = 20'000;
constexpr std::uint16_t kShortPort = 30'100;
constexpr int kRounds = 5;
constexpr std::size_t kMemory = std::size_t{10} << 30;  // what the kernel wants for all of them

// A field of /proc/meminfo, in bytes.
std::size_t memory_of_host(const std::string& field) {
  std::ifstream file("/proc/meminfo");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with(field + ":")) return std::stoul(line.substr(field.size() + 1)) * 1024;
  }
  die("no " + field + " in /proc/meminfo");
}

void require_room() {
  if (const std::size_t free = memory_of_host("MemAvailable"); free < kMemory) {
    die(fmt::format("a million sockets take {:.0f} GiB of memory, of which {:.1f} are available",
                    mib(kMemory) / 1024, mib(free) / 1024));
  }
  std::size_t files = 0;
  std::ifstream("/proc/sys/fs/file-max") >> files;
  if (files < 2 * kConnections + 100'000) die("a million sockets take fs.file-max of 1,100,000");
}

// How many events of short connections, of four each, were missed, while dumps of the million went
// on: both ends are opened, and closed.
double miscounted(Agent& agent) {
  const auto count = [](const std::string& body, const char* what, const char* direction) {
    return value_of(
        body,
        fmt::format("tcp_connections_{}_total{{direction=\"{}\",port=\"{}\",peer=\"{}\"}}", what,
                    direction, kShortPort, "loopback"),
        0);
  };
  Child load({program_directory() + "/tcp_load", "churn", "--port", std::to_string(kShortPort),
              "--count", std::to_string(kShort), "--sources", "8", "--seconds", "60"},
             Child::Output::kRead);
  // Some dumps while they come and go, and some after the last: the kernel sends events late.
  std::string body;
  for (int i = 0; i < 5; ++i) body = agent.scrape().body;
  load.read_line();
  load.wait();
  for (int i = 0; i < 2; ++i) body = agent.scrape().body;
  double missed = value_of(body, "tcpvitals_connection_events_lost_total");
  for (const char* what : {"opened", "closed"}) {
    for (const char* direction : {"inbound", "outbound"}) {
      missed += std::abs(count(body, what, direction) - static_cast<double>(kShort));
    }
  }
  return missed;
}

}  // namespace

void bench_million() {
  require_room();
  enter_new_network();
  const HeldConnections held(kConnections);
  Agent agent({"--connections.max-tracked=2000000"});
  BareDump bare;
  const auto sampler = new_sampler({}, 4 * kConnections);
  Sampled last = sample(*sampler);
  std::vector<double> pauses;
  std::vector<Contender> contenders{
      {"bare dump, IPv4 then IPv6", [&] { return timed([&] { bare.two_families(); }); }},
      {"sampler",
       [&] {
         last = sample(*sampler);
         pauses.push_back(last.snapshot->longest_event_pause_seconds * 1e3);
         return last.cost;
       }},
      {"tcpvitals, all of /metrics", [&] { return agent.scrape().cost; }}};
  run_rounds(contenders, kRounds);
  contenders.push_back({"ss -tinOaH", run_ss});
  contenders.back().costs.push_back(run_ss());

  fmt::print("\n{} TCP sockets on loopback, {} rounds\n", 2 * kConnections, kRounds);
  print_table(contenders);
  const auto bytes = static_cast<double>(last.snapshot->tracker_bytes);
  print_target("sampler CPU / bare dump", ratio(contenders[1], contenders[0], &Cost::cpu),
               Wish::kAtMost, 0.92);
  print_target("/metrics / bare dump", ratio(contenders[2], contenders[0], &Cost::wall),
               Wish::kAtMost, 1.0);
  print_target("seconds from the start to the first answer", agent.seconds_to_first_answer(),
               Wish::kAtMost, 5);
  print_target("ms for which events wait during a dump, median", median(pauses), Wish::kAtMost, 10);
  print_target("bytes per tracked connection", bytes / static_cast<double>(last.snapshot->tracked),
               Wish::kAtMost, 128);
  print_target(fmt::format("openings and closes missed, of {} each, during dumps", kShort),
               miscounted(agent), Wish::kAtMost, 0);
  print_target("MiB of the agent's RSS, at its peak", mib(agent.process().memory("VmHWM")),
               Wish::kAtMost, 145);
}

}  // namespace tcpvitals::bench
