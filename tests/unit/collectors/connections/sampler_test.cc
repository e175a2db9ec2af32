#include "collectors/connections/sampler.h"

#include <doctest/doctest.h>

#include "tests/support/fake_diag.h"

using namespace tcpvitals;
using namespace tcpvitals::testing;

namespace {

TimePoint soon() { return Clock::now() + std::chrono::seconds(10); }

// No budget to wait for: every sample() takes a dump of its own.
SamplerOptions eager() { return {.config = {.cpu_budget = 1e9}}; }

const GroupStats* find(const Snapshot& s, Direction direction, std::string_view port) {
  for (const Snapshot::Group& g : s.groups) {
    if (g.labels.direction == to_string(direction) && g.labels.port == port) return &g.stats;
  }
  return nullptr;
}

}  // namespace

TEST_CASE("a sample holds what the kernel has and what its events told") {
  FakeKernel kernel;
  kernel.sockets = {fake_listener(443), FakeSocket{.cookie = 1}};
  Sampler sampler(fake_sockets(kernel), eager());
  auto first = sampler.sample(soon());
  REQUIRE(first.ok());
  CHECK((*first)->namespaces[0].states[1] == 1);
  CHECK((*first)->namespaces[0].listeners.size() == 1);
  CHECK(find(**first, Direction::kInbound, "443")->at_start == 1);

  FakeSocket brief{.cookie = 2};
  brief.info.bytes_sent = 10;
  kernel.send(message(brief));
  auto second = sampler.sample(soon());
  REQUIRE(second.ok());
  CHECK(find(**second, Direction::kInbound, "443")->opened == 1);
  CHECK(find(**second, Direction::kInbound, "443")->sent_bytes == 10);
  CHECK((*second)->tracker.events == 1);
}

TEST_CASE("a listener's event tells the direction of connections whose events came before it") {
  FakeKernel kernel;
  Sampler sampler(fake_sockets(kernel), eager());
  REQUIRE(sampler.sample(soon()).ok());
  const FakeSocket brief{.cookie = 2, .state = TcpState::kClose, .local_port = 8080};
  const FakeSocket ended{.cookie = 3,
                         .state = TcpState::kClose,
                         .local = "0.0.0.0",
                         .local_port = 8080,
                         .remote = "0.0.0.0",
                         .remote_port = 0};
  kernel.send(join({message(brief), message(ended)}));
  auto sample = sampler.sample(soon());
  REQUIRE(sample.ok());
  REQUIRE(find(**sample, Direction::kInbound, "8080") != nullptr);
  CHECK(find(**sample, Direction::kInbound, "8080")->closes() == 1);
}

TEST_CASE("within the budget's pause events move the counters and the dump only ages") {
  FakeKernel kernel;
  kernel.sockets = {fake_listener(443)};
  Sampler sampler(fake_sockets(kernel), {.config = {.cpu_budget = 1e-6}});
  auto first = sampler.sample(soon());
  REQUIRE(first.ok());
  kernel.send(message(FakeSocket{.cookie = 2}));
  auto second = sampler.sample(soon());
  REQUIRE(second.ok());
  CHECK((*second)->dumps == 1);
  CHECK((*second)->dump_end == (*first)->dump_end);
  CHECK(find(**second, Direction::kInbound, "443")->closes() == 1);
}

TEST_CASE("askers at the same time share one dump") {
  FakeKernel kernel;
  Sampler sampler(fake_sockets(kernel), {.config = {.cpu_budget = 1e-6}});
  std::vector<std::thread> askers;
  std::atomic<int> answers{0};
  for (int i = 0; i < 8; ++i) {
    askers.emplace_back([&] { answers += sampler.sample(soon()).ok() ? 1 : 0; });
  }
  for (std::thread& t : askers) t.join();
  CHECK(answers == 8);
  CHECK((*sampler.sample(soon()))->dumps == 1);
}

TEST_CASE("after an overrun the kernel's count is told and a dump resyncs unasked") {
  FakeKernel kernel;
  Sampler sampler(fake_sockets(kernel), eager());
  REQUIRE(sampler.sample(soon()).ok());
  kernel.lose_events(37);
  std::uint64_t dumps = 1;
  for (int i = 0; i < 100 && dumps < 3; ++i) {
    auto sample = sampler.sample(soon());
    REQUIRE(sample.ok());
    dumps = (*sample)->dumps;
    CHECK((*sample)->events_lost == 37);
    if (dumps >= 3) CHECK((*sample)->event_overruns == 1);
  }
  CHECK(dumps >= 3);
}

TEST_CASE("a dump that the kernel answers badly fails the sample, and the next one is good") {
  FakeKernel kernel;
  kernel.sockets = {fake_listener(443), FakeSocket{.cookie = 1}};
  Sampler sampler(fake_sockets(kernel), eager());
  REQUIRE(sampler.sample(soon()).ok());
  for (bool FakeKernel::*fault : {&FakeKernel::garbage, &FakeKernel::truncate}) {
    {
      const std::lock_guard lock(kernel.mutex);
      kernel.*fault = true;
    }
    auto failed = sampler.sample(soon());
    REQUIRE_FALSE(failed.ok());
    CHECK(failed.error().message.find("dump: ") != std::string::npos);
    {
      const std::lock_guard lock(kernel.mutex);
      kernel.*fault = false;
    }
    // The refused answer is served until the next try, a tenth of a second later.
    Result<std::shared_ptr<const Snapshot>> good = Error{};
    for (int i = 0; i < 100 && !good; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
      good = sampler.sample(soon());
    }
    REQUIRE(good.ok());
    CHECK((*good)->tracked == 1);
    CHECK((*good)->tracker.vanished == 0);
  }
}

TEST_CASE("a kernel that stops answering fails the sample by its deadline") {
  FakeKernel kernel;
  kernel.silent = true;
  Sampler sampler(fake_sockets(kernel), eager());
  const TimePoint start = Clock::now();
  auto sample = sampler.sample(start + std::chrono::milliseconds(50));
  CHECK_FALSE(sample.ok());
  CHECK(Clock::now() - start < std::chrono::seconds(5));
}

TEST_CASE("at the deadline of an asker the last complete snapshot is given, and its age tells") {
  FakeKernel kernel;
  kernel.sockets = {fake_listener(443), FakeSocket{.cookie = 1}};
  Sampler sampler(fake_sockets(kernel), eager());
  const auto first = sampler.sample(soon());
  REQUIRE(first.ok());
  {
    const std::lock_guard lock(kernel.mutex);
    kernel.silent = true;
  }
  const auto second = sampler.sample(Clock::now() + std::chrono::milliseconds(50));
  REQUIRE(second.ok());
  CHECK((*second)->dumps == 1);
  CHECK((*second)->dump_end == (*first)->dump_end);
  CHECK((*second)->tracked == 1);
}

TEST_CASE("listeners that cannot be dumped fail the sample, and the next ones are good again") {
  FakeKernel kernel;
  kernel.sockets = {fake_listener(443), FakeSocket{.cookie = 1}};
  Sampler sampler(fake_sockets(kernel), eager());
  REQUIRE(sampler.sample(soon()).ok());
  const auto fail_listeners = [&](bool fail) {
    const std::lock_guard lock(kernel.mutex);
    kernel.fail_listeners = fail;
  };
  const auto sample_until = [&](bool good) {
    auto result = sampler.sample(soon());
    for (int i = 0; i < 500 && result.ok() != good; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
      result = sampler.sample(soon());
    }
    return result;
  };
  fail_listeners(true);
  const auto failed = sample_until(false);
  REQUIRE_FALSE(failed.ok());
  CHECK(failed.error().message.find("listener dump: ") != std::string::npos);
  fail_listeners(false);
  CHECK(sample_until(true).ok());
}

TEST_CASE("whichever call to the kernel fails, the sampler says so or recovers, and goes on") {
  for (int k = 0; k < 40; ++k) {
    CAPTURE(k);
    FakeKernel kernel;
    kernel.sockets = {fake_listener(443), FakeSocket{.cookie = 1}};
    kernel.fail_call = k;
    Sampler sampler(fake_sockets(kernel), eager());
    int good = 0;
    for (int i = 0; i < 200 && good < 3; ++i) {
      auto sample = sampler.sample(soon());
      if (sample) {
        ++good;
        CHECK((*sample)->tracked == 1);
      } else {
        CHECK_FALSE(sample.error().message.empty());
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
      }
    }
    CHECK(good == 3);
  }
}
