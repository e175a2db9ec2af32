#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <thread>

#include "bench/benches.h"
#include "bench/child.h"
#include "bench/net.h"
#include "collectors/connections/sampler.h"

namespace tcpvitals::bench {
namespace {

constexpr std::size_t kConnections = 20'000;
constexpr int kRounds = 5;

// Connections a second of a load that only connects and closes.
double churn() {
  Child load({program_directory() + "/tcp_load", "churn", "--port", "20100", "--count",
              std::to_string(kConnections), "--sources", "8", "--seconds", "60"},
             Child::Output::kRead);
  const auto report = nlohmann::json::parse(load.read_line());
  load.wait();
  return static_cast<double>(kConnections) / report.at("seconds").get<double>();
}

std::shared_ptr<const Snapshot> sample(Sampler& sampler) {
  const auto result = sampler.sample(Clock::now() + std::chrono::seconds(10));
  if (!result) die("sample: " + result.error().message);
  return *result;
}

std::uint64_t events(const Snapshot& s) { return s.tracker.events + s.events_lost; }

// The kernel sends events from a work queue: the last ones come after the load has ended.
std::shared_ptr<const Snapshot> sample_after(Sampler& sampler, std::uint64_t wanted_events) {
  const TimePoint start = Clock::now();
  for (;;) {
    auto snapshot = sample(sampler);
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
    const auto before = sample(sampler);
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

}  // namespace tcpvitals::bench
