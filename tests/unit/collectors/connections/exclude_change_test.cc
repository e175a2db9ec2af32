// What a change of the excludes does to the account: what leaves it takes its live connections
// along and keeps its totals; what comes into it is a baseline.
#include <doctest/doctest.h>

#include "collectors/connections/sampler.h"
#include "tests/support/fake_diag.h"
#include "tests/support/tracking.h"

using namespace tcpvitals;
using namespace tcpvitals::testing;

namespace {

const Excludes kPort443{.ports = {{443, 443}}};

struct Account : Tracking {
  Account() {
    listen({fake_listener(443), fake_listener(80)}, now);
    dump({});
  }
  void dump(const std::vector<FakeSocket>& sockets) {
    begin_dump(now);
    for (const FakeSocket& s : sockets) row(s);
    end_dump(now);
  }
  const GroupStats& port(PortLabel number) { return group(Direction::kInbound, number); }

  TimePoint now = Clock::now();
};

void check_books(const GroupStats& g, std::uint64_t live) {
  CHECK(static_cast<std::int64_t>(g.opened - g.closes()) + g.at_start ==
        static_cast<std::int64_t>(live));
  CHECK(g.connections[static_cast<std::size_t>(TcpState::kEstablished)] == live);
}

FakeSocket connection(std::uint64_t cookie, std::uint16_t port, std::uint64_t bytes) {
  FakeSocket s{.cookie = cookie, .local_port = port};
  s.info.bytes_sent = bytes;
  return s;
}

}  // namespace

TEST_CASE("what is excluded now leaves the account with its totals, and its end is not counted") {
  Account account;
  const FakeSocket https = connection(1, 443, 1000);
  const FakeSocket http = connection(2, 80, 1000);
  account.dump({https, http});
  account.tracker.regroup({}, kPort443);
  account.dump({https, http});
  CHECK(account.tracker.tracked() == 1);
  for (const bool late : {false, true}) {
    CAPTURE(late);
    // The event that came before the kernel's filter was set.
    if (late) account.event(connection(1, 443, 5000));
    if (late) account.event(connection(3, 443, 5000));
    check_books(account.port(443), 0);
    CHECK(account.port(443).opened == 1);
    CHECK(account.port(443).closes() == 0);
    CHECK(account.port(443).sent_bytes == 1000);
    CHECK(account.tracker.stats().events == 0);
  }
  account.dump({http});
  account.dump({http});
  CHECK(account.tracker.stats().vanished == 0);
  check_books(account.port(80), 1);
  account.event(connection(4, 80, 1));
  CHECK(account.port(80).closes() == 1);
}

TEST_CASE("what is no longer excluded is a baseline: its past is not counted, its future is") {
  Account account;
  account.tracker.regroup({}, kPort443);
  account.dump({});
  account.tracker.regroup(kPort443, {});
  account.event(connection(1, 443, 1000));  // before the dump: of the time when it was excluded
  account.dump({connection(2, 443, 1000)});
  check_books(account.port(443), 1);
  CHECK(account.port(443).at_start == 1);
  CHECK(account.port(443).opened == 0);
  CHECK(account.port(443).sent_bytes == 0);
  account.dump({connection(2, 443, 1200), connection(3, 443, 10)});
  check_books(account.port(443), 2);
  account.event(connection(2, 443, 1300));
  account.event(connection(4, 443, 5));
  check_books(account.port(443), 1);
  CHECK(account.port(443).opened == 2);
  CHECK(account.port(443).closes() == 2);
  CHECK(account.port(443).sent_bytes == 300 + 10 + 5);
}

TEST_CASE("a connection that ends while the excludes change has its end counted once") {
  Account account;
  account.dump({connection(1, 443, 1000)});
  account.tracker.regroup({}, kPort443);
  account.event(connection(1, 443, 1500));
  account.dump({});
  check_books(account.port(443), 0);
  CHECK(account.port(443).closes() == 1);
  CHECK(account.port(443).sent_bytes == 1500);
}

TEST_CASE("the sampler keeps what is excluded out of dumps and events, before and after a reload") {
  const auto soon = [] { return Clock::now() + std::chrono::seconds(10); };
  ConnectionsConfig config{.cpu_budget = 1e9};
  FakeKernel kernel;
  kernel.sockets = {fake_listener(443), fake_listener(80), connection(1, 443, 1000),
                    connection(2, 80, 1000)};
  config.excludes = kPort443;
  Sampler sampler(fake_sockets(kernel), {.config = config});
  const auto sample = [&] {
    auto result = sampler.sample(soon());
    REQUIRE(result.ok());
    return *result;
  };
  const auto find = [](const Snapshot& s, std::string_view port) -> const GroupStats* {
    for (const Snapshot::Group& g : s.groups) {
      if (g.labels.port == port) return &g.stats;
    }
    return nullptr;
  };
  const auto start = sample();
  CHECK(find(*start, "443") == nullptr);
  CHECK(start->tracked == 1);
  CHECK(start->namespaces[0].listeners.size() == 2);
  CHECK(start->namespaces[0].states[static_cast<std::size_t>(TcpState::kListen)] == 2);
  kernel.send(message(connection(3, 443, 10)));
  CHECK(find(*sample(), "443") == nullptr);

  config.excludes = {.ports = {{80, 80}}};
  REQUIRE(sampler.reconfigure(config, soon()).ok());
  auto s = sample();
  check_books(*find(*s, "443"), 1);
  CHECK(find(*s, "443")->at_start == 1);
  check_books(*find(*s, "80"), 0);
  kernel.set({});
  kernel.send(message(connection(2, 80, 2000)));
  kernel.send(message(connection(1, 443, 1500)));
  s = sample();
  check_books(*find(*s, "443"), 0);
  CHECK(find(*s, "443")->sent_bytes == 500);
  CHECK(find(*s, "80")->closes() == 0);
  CHECK(s->tracked == 0);

  // What one socket refuses changes nothing in the others: the excludes of before are in force.
  const Excludes before = config.excludes;
  config.excludes = kPort443;
  {
    const std::lock_guard lock(kernel.mutex);
    kernel.refused = kPort443;
  }
  CHECK_FALSE(sampler.reconfigure(config, soon()).ok());
  {
    const std::lock_guard lock(kernel.mutex);
    CHECK(kernel.event_excludes == before);
    CHECK(kernel.dump_excludes == before);
    kernel.refused.reset();
  }
  kernel.set({connection(5, 443, 10), connection(6, 80, 10)});
  s = sample();
  check_books(*find(*s, "443"), 1);
  check_books(*find(*s, "80"), 0);
}
