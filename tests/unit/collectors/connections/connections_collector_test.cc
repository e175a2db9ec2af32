// The collector on a host whose kernel has no sock_diag, or gets it later.
#include "collectors/connections/connections_collector.h"

#include <doctest/doctest.h>

#include <thread>

#include "collectors/host/proc_tcp.h"
#include "tests/support/fake_diag.h"
#include "tests/support/testing.h"

using namespace tcpvitals;
using namespace tcpvitals::testing;

namespace {

// Sockets that cannot be opened until `there`.
struct Host {
  FakeKernel kernel;
  TextSource source{{"net/tcp", "header\n"}};
  bool there = false;
  int tries = 0;
  Error error = Error::absent("no sock_diag");

  ConnectionsOptions options(Clock::duration first_retry = {}) {
    ConnectionsOptions made;
    made.config.cpu_budget = 1e9;
    made.first_retry = first_retry;
    made.open_sockets = [this](std::size_t) -> Result<DiagSockets> {
      ++tries;
      if (!there) return Error(error);
      return fake_sockets(kernel);
    };
    return made;
  }
};

TimePoint soon() { return Clock::now() + std::chrono::seconds(10); }

}  // namespace

TEST_CASE("without sock_diag the collector is absent, with the reason, and so are searches") {
  Host host;
  ConnectionsCollector collector(host.source, host.options());
  const Collected got = collect(collector);
  REQUIRE_FALSE(got.outcome.ok());
  CHECK(got.outcome.error().is_absent());
  CHECK(got.outcome.error().message == "no sock_diag");
  CHECK(got.samples.empty());
  const auto found = collector.search({}, soon());
  REQUIRE_FALSE(found.ok());
  CHECK(found.error().message == "no sock_diag");
  CHECK(collector.stand_in_budget() == 1e9);

  host.error = Error{"not permitted"};
  ConnectionsCollector failing(host.source, host.options());
  CHECK_FALSE(collect(failing).outcome.error().is_absent());
  CHECK(failing.stand_in_budget().has_value());
}

TEST_CASE("when sock_diag comes, counting begins, and no scrape has the states twice or never") {
  Host host;
  host.kernel.sockets = {fake_listener(443)};
  ConnectionsCollector collector(host.source, host.options());
  const auto stand_in =
      make_proc_tcp_collector(host.source, [&] { return collector.stand_in_budget(); });
  const auto scrape = [&](bool stand_in_first) {
    const bool first = stand_in_first && collect(*stand_in).outcome.ok();
    const Collected own = collect(collector);
    const bool second = !stand_in_first && collect(*stand_in).outcome.ok();
    CHECK((first || second) == !own.outcome.ok());
    return own;
  };
  CHECK_FALSE(scrape(true).outcome.ok());
  host.there = true;
  CHECK(scrape(true).outcome.error().is_absent());
  CHECK(scrape(true).at(R"(tcp_host_connections{state="listen"})") == 1);
  CHECK(scrape(false).at(R"(tcpvitals_feature_available{feature="sock_diag"})") == 1);
  CHECK(collector.search({}, soon()).ok());
  CHECK_FALSE(collector.stand_in_budget().has_value());
}

TEST_CASE("sockets that could not be opened are tried again ever more rarely") {
  Host host;
  ConnectionsCollector patient(host.source, host.options(std::chrono::hours(1)));
  for (int i = 0; i < 5; ++i) CHECK_FALSE(collect(patient).outcome.ok());
  CHECK(host.tries == 1);

  host.tries = 0;
  constexpr auto kFirst = std::chrono::milliseconds(50);
  const TimePoint start = Clock::now();
  ConnectionsCollector collector(host.source, host.options(kFirst));
  while (host.tries < 4) CHECK_FALSE(collect(collector).outcome.ok());
  CHECK(Clock::now() - start >= 7 * kFirst);  // 1 + 2 + 4
}

TEST_CASE("a configuration that comes before sock_diag is in force when counting begins") {
  Host host;
  host.kernel.sockets = {fake_listener(443)};
  ConnectionsCollector collector(host.source, host.options());
  ConnectionsConfig config{.cpu_budget = 1e9};
  config.excludes.ports.assign(5000, {80, 80});
  CHECK_FALSE(collector.reconfigure(config, soon()).ok());
  config.excludes.ports = {{443, 443}};
  config.limits.connections = 77;
  CHECK(collector.reconfigure(config, soon()).ok());
  host.there = true;
  CHECK_FALSE(collect(collector).outcome.ok());
  const Collected got = collect(collector);
  CHECK(got.at("tcpvitals_tracked_connections_limit") == 77);
  CHECK(got.at("tcpvitals_host_states_complete") == 0);
}
