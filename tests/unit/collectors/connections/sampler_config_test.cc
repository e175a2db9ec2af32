// The sampler over time: configurations that change, resyncs nobody asked for, and what a snapshot
// says besides its groups.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <chrono>
#include <future>
#include <thread>

#include "collectors/connections/sampler.h"
#include "tests/support/fake_diag.h"
#include "tests/support/tracking.h"

using namespace tcpvitals;
using namespace tcpvitals::testing;

namespace {

using SnapshotPtr = std::shared_ptr<const Snapshot>;

// No budget to wait for; and one that is never there again once it was used.
constexpr double kEager = 1e9;
constexpr double kOneDump = 1e-6;

TimePoint in(std::chrono::milliseconds wait) { return Clock::now() + wait; }
TimePoint soon() { return in(std::chrono::seconds(10)); }

SnapshotPtr sample(Sampler& sampler) {
  auto result = sampler.sample(soon());
  REQUIRE(result.ok());
  return *result;
}

// Asks until `enough` says yes to an answer; a failure is served until the next try.
template <typename Enough>
SnapshotPtr sample_until(Sampler& sampler, Enough enough) {
  auto result = sampler.sample(soon());
  for (int i = 0; i < 500 && !(result.ok() && enough(**result)); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
    result = sampler.sample(soon());
  }
  REQUIRE(result.ok());
  return *result;
}

const GroupStats* find(const Snapshot& s, std::string_view direction, std::string_view port) {
  for (const Snapshot::Group& g : s.groups) {
    if (g.labels.direction == direction && g.labels.port == port) return &g.stats;
  }
  return nullptr;
}

ConnectionsConfig with_port_name(const char* name, double budget = kEager) {
  return {.ports = {{name, {443, 443}}}, .cpu_budget = budget};
}

void set(FakeKernel& kernel, bool FakeKernel::*fault, bool now) {
  const std::lock_guard lock(kernel.mutex);
  kernel.*fault = now;
}

FakeSocket sending(FakeSocket s, std::uint64_t bytes) {
  s.info.bytes_sent = bytes;
  return s;
}

}  // namespace

TEST_CASE("a new configuration counts from the next dump on, which nobody waits for") {
  FakeKernel kernel;
  kernel.sockets = {fake_listener(443), fake_listener(80), sending({.cookie = 1}, 100),
                    sending({.cookie = 2, .local_port = 80}, 100)};
  Sampler sampler(fake_sockets(kernel), {.config = {.cpu_budget = kOneDump}});
  REQUIRE(find(*sample(sampler), "inbound", "443") != nullptr);
  kernel.send(message(sending({.cookie = 3, .local_port = 80}, 7)));
  kernel.send(message(sending({.cookie = 4}, 7)));
  REQUIRE(find(*sample(sampler), "inbound", "80")->sent_bytes == 7);

  kernel.set({fake_listener(443), fake_listener(80), sending({.cookie = 1}, 150),
              sending({.cookie = 2, .local_port = 80}, 150)});
  REQUIRE(sampler.reconfigure(with_port_name("web", kOneDump), soon()).ok());
  const SnapshotPtr s = sample(sampler);
  CHECK(s->dumps == 2);
  CHECK(find(*s, "inbound", "443") == nullptr);
  REQUIRE(find(*s, "inbound", "web") != nullptr);
  CHECK(find(*s, "inbound", "web")->at_start == 1);
  CHECK(find(*s, "inbound", "web")->opened == 0);
  CHECK(find(*s, "inbound", "web")->sent_bytes == 50);
  CHECK(find(*s, "inbound", "80")->sent_bytes == 57);  // of a group that is still the same
  CHECK(find(*s, "inbound", "80")->opened == 1);
  CHECK(s->config == with_port_name("web", kOneDump));
}

TEST_CASE("what the kernel refuses to exclude changes nothing else either") {
  FakeKernel kernel;
  kernel.sockets = {fake_listener(443), FakeSocket{.cookie = 1}};
  Sampler sampler(fake_sockets(kernel), {.config = {.cpu_budget = kEager}});
  const SnapshotPtr before = sample(sampler);
  ConnectionsConfig config = with_port_name("web");
  config.excludes.loopback = true;
  {
    const std::lock_guard lock(kernel.mutex);
    kernel.refused = config.excludes;
  }
  config.limits.connections = 5;
  const auto refused = sampler.reconfigure(config, soon());
  REQUIRE_FALSE(refused.ok());
  CHECK(refused.error().message.find("exclude") != std::string::npos);
  const SnapshotPtr after = sample(sampler);
  CHECK(after->config == before->config);
  CHECK(find(*after, "inbound", "443") != nullptr);
  CHECK(find(*after, "inbound", "web") == nullptr);
}

TEST_CASE(
    "a dump that fails does not undo a configuration: it is in force with the next good one") {
  FakeKernel kernel;
  kernel.sockets = {fake_listener(443), sending({.cookie = 1}, 100)};
  Sampler sampler(fake_sockets(kernel), {.config = {.cpu_budget = kEager}});
  sample(sampler);
  set(kernel, &FakeKernel::garbage, true);
  CHECK(sampler.reconfigure(with_port_name("web"), in(std::chrono::milliseconds(150))).ok());
  set(kernel, &FakeKernel::garbage, false);
  REQUIRE(sampler.reconfigure(with_port_name("www"), soon()).ok());
  const SnapshotPtr s = sample(sampler);
  CHECK(find(*s, "inbound", "443") == nullptr);
  CHECK(find(*s, "inbound", "web") == nullptr);
  REQUIRE(find(*s, "inbound", "www") != nullptr);
  CHECK(find(*s, "inbound", "www")->at_start == 1);
  CHECK(s->tracked == 1);
}

TEST_CASE("one configuration is applied, one may wait for a time, a third is refused") {
  FakeKernel kernel;
  kernel.sockets = {fake_listener(443), FakeSocket{.cookie = 1}};
  Sampler sampler(fake_sockets(kernel), {.config = {.cpu_budget = kEager}});
  sample(sampler);
  set(kernel, &FakeKernel::garbage, true);
  const auto in_message = [](const Result<void>& result, const char* what) {
    return !result.ok() && result.error().message.find(what) != std::string::npos;
  };
  const auto apply = [&](const char* name, int ms) {
    return sampler.reconfigure(with_port_name(name), in(std::chrono::milliseconds(ms)));
  };
  CHECK(apply("first", 200).ok());
  CHECK(in_message(apply("late", 20), "in time"));
  auto second = std::async(std::launch::async, [&] { return apply("second", 10'000); });
  std::this_thread::sleep_for(std::chrono::milliseconds(200));  // until it waits
  CHECK(in_message(apply("third", 1), "another configuration"));
  set(kernel, &FakeKernel::garbage, false);
  CHECK(second.get().ok());
  const SnapshotPtr s = sample(sampler);
  CHECK(find(*s, "inbound", "second") != nullptr);
  for (const char* not_taken : {"late", "third"}) CHECK(find(*s, "inbound", not_taken) == nullptr);
}

TEST_CASE("limits change with the configuration, and the gauges tell both") {
  FakeKernel kernel;
  kernel.sockets = {fake_listener(443), fake_listener(80), FakeSocket{.cookie = 1},
                    FakeSocket{.cookie = 2, .local_port = 80}};
  Sampler sampler(fake_sockets(kernel),
                  {.config = {.limits = {.connections = 1, .groups = 1}, .cpu_budget = kEager}});
  SnapshotPtr s = sample(sampler);
  CHECK(s->tracked == 1);
  CHECK(s->untracked == 1);
  REQUIRE(
      sampler.reconfigure({.limits = {.connections = 2, .groups = 1}, .cpu_budget = kEager}, soon())
          .ok());
  s = sample(sampler);
  CHECK(s->tracked == 2);
  CHECK(s->untracked == 0);
  CHECK(find(*s, "inbound", "other")->at_start == 1);  // it was there before: rule 3
  CHECK(find(*s, "inbound", "other")->opened == 0);
  CHECK(s->groups_overflowed > 0);
  REQUIRE(sampler.reconfigure({.cpu_budget = kEager}, soon()).ok());
  s = sample(sampler);
  CHECK(find(*s, "inbound", "other")->at_start == 0);
  CHECK(find(*s, "inbound", "other")->opened == 0);
  CHECK(live(*find(*s, "inbound", "80")) == 1);
}

TEST_CASE("after events were lost one dump is enough, and it begins though the budget is used up") {
  FakeKernel kernel;
  kernel.sockets = {fake_listener(443), FakeSocket{.cookie = 1}, FakeSocket{.cookie = 2}};
  Sampler sampler(fake_sockets(kernel), {.config = {.cpu_budget = kOneDump}});
  REQUIRE(sample(sampler)->tracked == 2);
  kernel.set({fake_listener(443), FakeSocket{.cookie = 1}});
  kernel.lose_events(1);
  SnapshotPtr s = sample_until(sampler, [](const Snapshot& now) { return now.dumps == 2; });
  REQUIRE(s->dumps == 2);
  CHECK(s->tracked == 1);
  CHECK(find(*s, "inbound", "443")->closed[static_cast<std::size_t>(ConnectionEnd::kUnknown)] == 1);
  CHECK(s->event_overruns == 1);

  // The next one has to wait, for a flood of them must not turn into dumps without end.
  kernel.lose_events(1);
  s = sample_until(sampler, [](const Snapshot& now) { return now.event_overruns == 2; });
  REQUIRE(s->event_overruns == 2);
  for (int i = 0; i < 20; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    s = sample(sampler);
  }
  CHECK(s->dumps == 2);
}

TEST_CASE("a loss of events is remembered over a dump that fails: the next good one resyncs") {
  FakeKernel kernel;
  kernel.sockets = {fake_listener(443), FakeSocket{.cookie = 1}, FakeSocket{.cookie = 2}};
  Sampler sampler(fake_sockets(kernel), {.config = {.cpu_budget = kOneDump}});
  REQUIRE(sample(sampler)->tracked == 2);
  kernel.set({fake_listener(443), FakeSocket{.cookie = 1}});
  set(kernel, &FakeKernel::garbage, true);
  kernel.lose_events(1);
  for (int i = 0; i < 500 && sampler.sample(soon()).ok(); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  CHECK_FALSE(sampler.sample(soon()).ok());
  set(kernel, &FakeKernel::garbage, false);
  const SnapshotPtr s = sample_until(sampler, [](const Snapshot& now) { return now.dumps == 2; });
  REQUIRE(s->dumps == 2);
  CHECK(s->tracked == 1);  // one miss is an end, though it is not of the dump after the loss
  CHECK(s->tracker.vanished == 1);
}

TEST_CASE("without a loss a connection must be missing from two dumps") {
  FakeKernel kernel;
  kernel.sockets = {fake_listener(443), FakeSocket{.cookie = 1}};
  Sampler sampler(fake_sockets(kernel), {.config = {.cpu_budget = kEager}});
  REQUIRE(sample(sampler)->tracked == 1);
  kernel.set({fake_listener(443)});
  CHECK(sample(sampler)->tracked == 1);
  CHECK(sample(sampler)->tracked == 0);
}

TEST_CASE("excludes that are refused at the start fail every sample until they are granted") {
  const Excludes excludes{.ports = {{80, 80}}};
  FakeKernel kernel;
  kernel.sockets = {fake_listener(443), fake_listener(80), FakeSocket{.cookie = 1},
                    FakeSocket{.cookie = 2, .local_port = 80}};
  kernel.refused = excludes;
  Sampler sampler(fake_sockets(kernel), {.config = {.excludes = excludes, .cpu_budget = kEager}});
  for (int i = 0; i < 2; ++i) {
    const auto refused = sampler.sample(soon());
    REQUIRE_FALSE(refused.ok());
    CHECK(refused.error().message.find("exclude") != std::string::npos);
  }
  {
    const std::lock_guard lock(kernel.mutex);
    kernel.refused.reset();
  }
  const SnapshotPtr s = sample_until(sampler, [](const Snapshot&) { return true; });
  CHECK(s->config.excludes == excludes);
  const std::lock_guard lock(kernel.mutex);
  CHECK(kernel.dump_excludes == excludes);
  CHECK(kernel.event_excludes == excludes);
}

TEST_CASE("a group without sockets leaves the snapshot after a while, and is counted") {
  FakeKernel kernel;
  kernel.sockets = {fake_listener(443), FakeSocket{.cookie = 1}};
  Sampler sampler(fake_sockets(kernel),
                  {.config = {.cpu_budget = kEager, .group_idle = std::chrono::seconds(0)}});
  REQUIRE(find(*sample(sampler), "inbound", "443") != nullptr);
  kernel.set({fake_listener(443)});
  kernel.send(message(FakeSocket{.cookie = 1}));
  const SnapshotPtr s =
      sample_until(sampler, [](const Snapshot& now) { return now.groups.empty(); });
  CHECK(s->groups.empty());
  CHECK(s->groups_forgotten == 1);
}

TEST_CASE("the host's totals are told since the first dump, or not at all") {
  struct Totals final : KernelSource {
    Result<std::string> read(std::string_view path) const override {
      if (path != "net/snmp" || !readable) return Error::absent("not there");
      const int n = opens;
      return fmt::format(
          "Ip: A\nIp: 1\nIcmp: A\nIcmp: 1\nTcp: ActiveOpens PassiveOpens AttemptFails "
          "RetransSegs\nTcp: {} {} {} {}\n",
          n, 2 * n, 3 * n, 4 * n);
    }
    Result<std::size_t> count_entries(std::string_view) const override {
      return Error::absent("not there");
    }
    std::atomic<int> opens{1000};
    std::atomic<bool> readable{true};
  } totals;
  FakeKernel kernel;
  Sampler sampler(fake_sockets(kernel), {.config = {.cpu_budget = kEager}, .files = &totals});
  SnapshotPtr s = sample(sampler);
  REQUIRE(s->namespaces[0].since_start.has_value());
  CHECK(s->namespaces[0].since_start->active_opens == 0);
  totals.opens = 1005;
  s = sample(sampler);
  CHECK(s->namespaces[0].since_start->active_opens == 5);
  CHECK(s->namespaces[0].since_start->passive_opens == 10);
  CHECK(s->namespaces[0].since_start->attempt_fails == 15);
  CHECK(s->namespaces[0].since_start->retransmitted_segments == 20);
  totals.readable = false;
  CHECK_FALSE(sample(sampler)->namespaces[0].since_start.has_value());
}

TEST_CASE("what the agent lacks is told of each feature that is in use") {
  const auto features = [](std::size_t wished_bytes, bool by_cgroup) {
    FakeKernel kernel;  // grants 1 MiB
    Sampler sampler(fake_sockets(kernel), {.config = {.group_by = {.cgroup = by_cgroup}},
                                           .event_buffer_bytes = wished_bytes});
    std::map<std::string, std::string> missing;
    for (const auto& feature : sample(sampler)->features) {
      missing.emplace(feature.name, feature.missing);
    }
    return missing;
  };
  const auto granted = features(1 << 20, false);
  CHECK(granted.size() == 1);
  CHECK(granted.at("event_buffer_forced").empty());
  const auto refused = features(8 << 20, true);
  CHECK(refused.at("event_buffer_forced").find("8388608") != std::string::npos);
  CHECK(refused.at("cgroup_names").find("no cgroup v2 mount") != std::string::npos);
}
