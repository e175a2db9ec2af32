#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>
#include <utility>

#include "bench/agent.h"
#include "bench/benches.h"
#include "bench/child.h"
#include "bench/net.h"
#include "bench/table.h"

namespace tcpvitals::bench {
namespace {

constexpr std::size_t kConnections = 20'000;
constexpr int kRounds = 5;
constexpr int kPairs = 15;  // of churn with the agent and without
constexpr std::size_t kBurst = 200'000;

// Connections a second of a load that only connects and closes.
double churn(std::size_t connections = kConnections) {
  Child load({program_directory() + "/tcp_load", "churn", "--port", "20100", "--count",
              std::to_string(connections), "--sources", "8", "--seconds", "60"},
             Child::Output::kRead);
  const auto report = nlohmann::json::parse(load.read_line());
  load.wait();
  return static_cast<double>(connections) / report.at("seconds").get<double>();
}

std::uint64_t events(const Snapshot& s) { return s.tracker.events + s.events_lost; }

// The kernel sends events from a work queue: the last ones come after the load has ended.
std::shared_ptr<const Snapshot> sample_after(Sampler& sampler, std::uint64_t wanted_events) {
  const TimePoint start = Clock::now();
  for (;;) {
    auto snapshot = sample(sampler).snapshot;
    if (events(*snapshot) >= wanted_events) return snapshot;
    if (seconds_since(start) > 2) die(fmt::format("{} events", events(*snapshot)));
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
}

double highest(const std::vector<double>& values) {
  return *std::max_element(values.begin(), values.end());
}

double lowest(const std::vector<double>& values) {
  return *std::min_element(values.begin(), values.end());
}

// Below which that share of them lies.
double quantile(std::vector<double> values, double share) {
  std::sort(values.begin(), values.end());
  return values[static_cast<std::size_t>(share * static_cast<double>(values.size() - 1))];
}

// Only joins the groups and throws away what comes, as seldom as the agent reads: what the kernel's
// own part of the events costs.
double churn_heard_by_bare_listener() {
  enter_new_network();
  auto sockets = open_diag_sockets(8 << 20);
  if (!sockets) die(sockets.error().message);
  const std::jthread listener([&](const std::stop_token& stop) {
    while (!stop.stop_requested()) {
      for (;;) {
        const auto received = sockets->events->receive();
        if (!received || (received->datagrams.empty() && !received->overrun)) break;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
  });
  return churn();
}

double churn_heard_by_nobody() {
  enter_new_network();
  const Agent agent({}, Agent::As::kNobody);
  return churn();
}

// The connections a second, and the events that the agent lost, while something else wants all
// CPUs.
std::pair<double, double> burst_on_busy_cpus() {
  enter_new_network();
  Agent agent({}, Agent::As::kNobody);
  double rate = 0;
  {
    std::vector<std::jthread> others;
    for (unsigned i = 0; i < std::thread::hardware_concurrency(); ++i) {
      others.emplace_back([](const std::stop_token& stop) {
        while (!stop.stop_requested()) {
        }
      });
    }
    rate = churn(kBurst);
  }
  std::this_thread::sleep_for(std::chrono::seconds(1));  // the kernel sends events late
  return {rate, value_of(agent.scrape().body, "tcpvitals_connection_events_lost_total")};
}

}  // namespace

void bench_events() {
  std::vector<double> alone;
  std::vector<double> heard;
  std::vector<double> event_us;
  for (int i = 0; i < kRounds; ++i) {
    // A new namespace each time: none of them starts among the time-wait sockets of the last.
    enter_new_network();
    alone.push_back(churn());
    enter_new_network();
    auto sockets = open_diag_sockets(8 << 20);
    if (!sockets) die(sockets.error().message);
    Sampler sampler(std::move(*sockets), {});
    const auto before = sample(sampler).snapshot;
    heard.push_back(churn());
    const auto after = sample_after(sampler, events(*before) + 2 * kConnections);
    event_us.push_back((after->cpu_seconds - before->cpu_seconds) / (2.0 * kConnections) * 1e6);
  }
  fmt::print("\n{} connections opened and closed in order, best of {} rounds\n", kConnections,
             kRounds);
  fmt::print("     {:<55}{:>9.0f} connections/s\n", "nobody listening", highest(alone));
  fmt::print("     {:<55}{:>9.0f} connections/s\n", "the sampler listening", highest(heard));
  fmt::print("     {:<55}{:>9.2f} us of the sampler's CPU\n", "a DESTROY event", lowest(event_us));
}

void bench_churn() {
  if (::geteuid() != 0) die("only root can start the agent as nobody");
  std::vector<double> alone;
  std::vector<double> discarded;
  std::vector<double> heard;
  std::vector<double> ratios;
  std::vector<double> ratios_to_discarded;
  for (int i = 0; i < kPairs; ++i) {
    // The other one first in every other round.
    if (i % 2 == 0) heard.push_back(churn_heard_by_nobody());
    enter_new_network();
    alone.push_back(churn());
    discarded.push_back(churn_heard_by_bare_listener());
    if (i % 2 != 0) heard.push_back(churn_heard_by_nobody());
    ratios.push_back(heard.back() / alone.back());
    ratios_to_discarded.push_back(heard.back() / discarded.back());
  }
  fmt::print("\n{} connections opened and closed in order, {} rounds, in turns\n", kConnections,
             kPairs);
  fmt::print("     {:<55}{:>9.0f} connections/s, median\n", "without the agent", median(alone));
  fmt::print("     {:<55}{:>9.0f} connections/s, median\n",
             "with a bare listener, which discards the events", median(discarded));
  fmt::print("     {:<55}{:>9.0f} connections/s, median\n", "with the agent, as nobody",
             median(heard));
  fmt::print(
      "     the machine's noise: half of the rounds without it lie within {:.2f} to {:.2f} of "
      "their median\n",
      quantile(alone, 0.25) / median(alone), quantile(alone, 0.75) / median(alone));
  print_target("with the agent / without, median of the rounds", median(ratios), Wish::kAtLeast,
               0.95);
  print_target("with the agent / with a bare listener, the same", median(ratios_to_discarded),
               Wish::kAtLeast, 0.95);

  std::size_t buffer = 0;
  std::ifstream("/proc/sys/net/core/rmem_max") >> buffer;
  for (int i = 0; i < kRounds; ++i) {
    const auto [rate, lost] = burst_on_busy_cpus();
    print_target(
        fmt::format("events lost, busy CPUs, {:.0f} closes/s, rmem_max {}", 2 * rate, buffer), lost,
        Wish::kAtMost, 0);
  }
}

}  // namespace tcpvitals::bench
