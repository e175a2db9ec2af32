// Single connections, found in a dump: sorted, filtered, the first of them in full.
#include "collectors/connections/search.h"

#include <doctest/doctest.h>

#include "collectors/connections/sampler.h"
#include "tests/support/fake_diag.h"

using namespace tcpvitals;
using namespace tcpvitals::testing;

namespace {

using Sort = SearchRequest::Sort;

TimePoint soon() { return Clock::now() + std::chrono::seconds(10); }

struct Found {
  explicit Found(std::vector<FakeSocket> sockets, ConnectionsConfig config = {}) {
    config.cpu_budget = 1e9;
    kernel.sockets = std::move(sockets);
    sampler.emplace(fake_sockets(kernel), SamplerOptions{.config = config});
    REQUIRE(sampler->sample(soon()).ok());
  }
  SearchResult list(const SearchRequest& query) {
    auto found = sampler->search(query, soon());
    REQUIRE(found.ok());
    return std::move(*found);
  }
  std::vector<std::uint64_t> cookies(const SearchRequest& query) {
    std::vector<std::uint64_t> cookies;
    for (const FoundConnection& c : list(query).connections) cookies.push_back(c.socket.cookie);
    return cookies;
  }

  FakeKernel kernel;
  std::optional<Sampler> sampler;
};

using Cookies = std::vector<std::uint64_t>;

// Each is the first by another measure.
std::vector<FakeSocket> three() {
  FakeSocket a{.cookie = 1, .send_queue = 10};
  a.info.total_retrans = 9;
  a.info.rtt_us = 100;
  a.info.bytes_sent = 10;
  FakeSocket b{.cookie = 2, .local_port = 50000, .remote = "10.0.0.1", .remote_port = 5432};
  b.send_queue = 20;
  b.info.total_retrans = 5;
  b.info.rtt_us = 300;
  b.info.bytes_received = 20;
  FakeSocket c{.cookie = 3, .state = TcpState::kCloseWait, .send_queue = 30};
  c.info.total_retrans = 7;
  c.info.rtt_us = 200;
  c.info.bytes_sent = 5;
  c.info.bytes_received = 50;
  return {fake_listener(443), a, b, c};
}

}  // namespace

TEST_CASE("connections are sorted by what was asked for, the highest first") {
  Found found(three());
  CHECK(found.cookies({.sort = Sort::kRetransmits}) == Cookies{1, 3, 2});
  CHECK(found.cookies({.sort = Sort::kRtt}) == Cookies{2, 3, 1});
  CHECK(found.cookies({.sort = Sort::kBytes}) == Cookies{3, 2, 1});
  CHECK(found.cookies({.sort = Sort::kSendQueue}) == Cookies{3, 2, 1});
}

TEST_CASE("the oldest are those that were there before, and their age is not known") {
  Found found({fake_listener(443), FakeSocket{.cookie = 1}});
  std::this_thread::sleep_for(std::chrono::milliseconds(5));
  found.kernel.set({fake_listener(443), FakeSocket{.cookie = 2}, FakeSocket{.cookie = 1}});
  REQUIRE(found.sampler->sample(soon()).ok());
  const SearchResult list = found.list({.sort = Sort::kAge});
  REQUIRE(list.connections.size() == 2);
  CHECK(list.connections[0].socket.cookie == 1);
  CHECK_FALSE(list.connections[0].age_seconds.has_value());
  CHECK(list.connections[1].socket.cookie == 2);
  REQUIRE(list.connections[1].age_seconds.has_value());
  CHECK(*list.connections[1].age_seconds >= 0);
  CHECK(*list.connections[1].age_seconds < 10);
}

TEST_CASE("only as many as were asked for are given, and told how many matched") {
  Found found(three());
  CHECK(found.cookies({.top = 2}) == Cookies{1, 3});
  CHECK(found.list({.top = 2}).matched == 3);
  CHECK(found.cookies({.top = 0}).empty());
  CHECK(found.list({.top = 0}).matched == 3);
}

TEST_CASE("of many connections the first are kept, in their order, whatever order they come in") {
  std::vector<FakeSocket> sockets;
  for (std::uint64_t i = 0; i < 1000; ++i) {
    FakeSocket s{.cookie = 1 + i};
    s.info.total_retrans = static_cast<std::uint32_t>(i * 7919 % 1000);
    sockets.push_back(s);
  }
  Found found(sockets);
  const SearchResult list = found.list({.top = 50});
  REQUIRE(list.connections.size() == 50);
  for (std::uint32_t i = 0; i < 50; ++i) {
    CHECK(list.connections[i].socket.info->info.total_retrans == 999 - i);
  }
  CHECK(list.matched == 1000);
}

TEST_CASE("filters are label values, and all must match") {
  Found found(three());
  CHECK(found.cookies({.direction = "outbound"}) == Cookies{2});
  CHECK(found.cookies({.port = "443"}) == Cookies{1, 3});
  CHECK(found.cookies({.peer = "private"}) == Cookies{2});
  CHECK(found.cookies({.state = TcpState::kCloseWait}) == Cookies{3});
  CHECK(found.cookies({.port = "443", .state = TcpState::kEstablished}) == Cookies{1});
  CHECK(found.cookies({.direction = "inbound", .peer = "private"}).empty());
  CHECK(found.list({.port = "444"}).matched == 0);
}

TEST_CASE("names are the configured ones, and a direction is known though nobody groups by it") {
  Found found(three(), {.peers = {{"db", *parse_ip_prefix("10.0.0.0/24")}},
                        .ports = {{"web", {443, 443}}},
                        .group_by = {.direction = false}});
  CHECK(found.cookies({.port = "web"}) == Cookies{1, 3});
  CHECK(found.cookies({.peer = "db"}) == Cookies{2});
  CHECK(found.cookies({.direction = "outbound"}) == Cookies{2});
  CHECK(found.list({.peer = "db"}).connections[0].direction == "outbound");
}

TEST_CASE("what is left of closed connections is found too, without counters; a listener is not") {
  std::vector<FakeSocket> sockets = three();
  sockets.push_back(
      {.cookie = 4, .state = TcpState::kTimeWait, .has_info = false, .time_wait = true});
  Found found(sockets);
  CHECK(found.list({}).matched == 4);
  const SearchResult list = found.list({.state = TcpState::kTimeWait});
  REQUIRE(list.connections.size() == 1);
  CHECK_FALSE(list.connections[0].socket.info.has_value());
  CHECK_FALSE(list.connections[0].age_seconds.has_value());
  CHECK(found.cookies({.sort = Sort::kAge}).back() == 4);
  CHECK(found.list({.state = TcpState::kListen}).matched == 0);
}

TEST_CASE("a look at the connections is a dump: it waits for the budget, but not for ever") {
  FakeKernel kernel;
  kernel.sockets = three();
  Sampler sampler(fake_sockets(kernel), {.config = {.cpu_budget = 1e-6}});
  REQUIRE(sampler.sample(soon()).ok());
  const auto late = sampler.search({}, Clock::now() + std::chrono::milliseconds(50));
  REQUIRE_FALSE(late.ok());
  CHECK(late.error().message.find("deadline") != std::string::npos);
  const auto snapshot = sampler.sample(soon());
  REQUIRE(snapshot.ok());
  CHECK((*snapshot)->dumps == 1);
}

TEST_CASE("a dump that fails fails the look, and the next look is good") {
  Found found(three());
  {
    const std::lock_guard lock(found.kernel.mutex);
    found.kernel.garbage = true;
  }
  const auto failed = found.sampler->search({}, soon());
  REQUIRE_FALSE(failed.ok());
  CHECK(failed.error().message.find("socket dump") != std::string::npos);
  {
    const std::lock_guard lock(found.kernel.mutex);
    found.kernel.garbage = false;
  }
  CHECK(found.list({}).matched == 3);
}

TEST_CASE("looks and samples at the same time are served by shared dumps") {
  Found found(three());
  std::atomic<int> good{0};
  std::vector<std::thread> askers;
  for (int i = 0; i < 8; ++i) {
    askers.emplace_back([&, i] {
      for (int j = 0; j < 20; ++j) {
        const bool ok = i % 2 == 0 ? found.sampler->sample(soon()).ok()
                                   : found.list({.top = 1}).connections.size() == 1;
        good += ok ? 1 : 0;
      }
    });
  }
  for (std::thread& t : askers) t.join();
  CHECK(good == 160);
}
