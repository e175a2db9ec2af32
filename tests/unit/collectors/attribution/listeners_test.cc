#include "collectors/attribution/listeners.h"

#include <doctest/doctest.h>

#include "tests/support/tracking.h"

using namespace tcpvitals;
using namespace tcpvitals::testing;

namespace {

FakeSocket listener(std::uint32_t waiting, std::uint32_t limit) {
  return {.state = TcpState::kListen,
          .local = "0.0.0.0",
          .remote = "0.0.0.0",
          .remote_port = 0,
          .receive_queue = waiting,
          .send_queue = limit,
          .has_info = false};
}

FakeSocket numbered(std::uint64_t cookie, std::uint32_t waiting, std::uint32_t limit) {
  FakeSocket s = listener(waiting, limit);
  s.cookie = cookie;
  return s;
}

}  // namespace

TEST_CASE("a queue is full when the kernel would drop what comes: over its limit") {
  Tracking t;
  TimePoint now = Clock::now();
  const auto full = [&](std::uint32_t waiting, std::uint32_t limit) {
    t.listen({listener(waiting, limit)}, now += std::chrono::milliseconds(100));
    return t.listeners.open().at(0).queue_full;
  };
  CHECK(full(127, 128) == 0);
  CHECK(full(128, 128) == 0);  // the kernel takes one more than it says
  CHECK(full(129, 128) == 1);
  CHECK(full(130, 128) == 2);
  CHECK(full(3, 128) == 2);
  CHECK(full(0, 0) == 2);
  CHECK(full(1, 0) == 3);
}

TEST_CASE("of sockets that share an address the fullest is told, and each that is full counts") {
  Tracking t;
  const TimePoint now = Clock::now();
  t.listen({numbered(1, 0, 4), numbered(2, 5, 4), numbered(3, 1, 4), numbered(4, 0, 4)}, now);
  const Listener l = t.listeners.open().at(0);
  CHECK(l.queue == AcceptQueue{5, 4});
  CHECK(l.peak == AcceptQueue{5, 4});
  CHECK(l.sockets == 4);
  CHECK(l.queue_full == 1);
  t.listen({numbered(1, 5, 4), numbered(2, 5, 4), numbered(3, 4, 4)}, now);
  CHECK(t.listeners.open().at(0).queue_full == 3);
  CHECK(t.listeners.open().at(0).sockets == 3);
  t.listen({numbered(3, 0, 4)}, now);  // the full ones closed
  CHECK(t.listeners.open().at(0).queue_full == 3);
  CHECK(t.listeners.open().at(0).queue == AcceptQueue{0, 4});
  CHECK(t.listeners.open().at(0).peak == AcceptQueue{5, 4});
}

TEST_CASE("the fullest is the one with the least room in proportion: 4 of 3, not 20 of 500") {
  Tracking t;
  t.listen({numbered(1, 20, 500), numbered(2, 4, 3)}, Clock::now());
  CHECK(t.listeners.open().at(0).queue == AcceptQueue{4, 3});
  t.listen({numbered(1, 0, 500), numbered(2, 0, 3)}, Clock::now());
  CHECK(t.listeners.open().at(0).queue == AcceptQueue{0, 3});  // the first to be full
  CHECK(t.listeners.open().at(0).peak == AcceptQueue{4, 3});
  CHECK(AcceptQueue{1, 0}.fuller_than({128, 128}));
  CHECK_FALSE(AcceptQueue{5, 4}.fuller_than({5, 4}));
  CHECK(AcceptQueue{4'000'000'000, 4'000'000'000}.fuller_than({3'999'999'999, 4'000'000'000}));
}

TEST_CASE("full queues are counted at the regular looks only") {
  Tracking t;
  const auto full = [&](ListenerTable::Look look) {
    const Bytes bytes = message(listener(9, 4));
    t.listeners.begin();
    t.listeners.add(first_row(bytes));
    t.listeners.commit(Clock::now(), look);
    return t.listeners.open().at(0).queue_full;
  };
  CHECK(full(ListenerTable::Look::kRegular) == 1);
  CHECK(full(ListenerTable::Look::kRefresh) == 1);
  CHECK(full(ListenerTable::Look::kRefresh) == 1);
  CHECK(full(ListenerTable::Look::kRegular) == 2);
}

TEST_CASE("a socket is found in the place it had, and anew when the places have moved") {
  Tracking t;
  const auto at_port = [](std::uint64_t cookie, std::uint16_t port, std::uint32_t waiting) {
    FakeSocket s = numbered(cookie, waiting, 128);
    s.local_port = port;
    return s;
  };
  const TimePoint now = Clock::now();
  t.listen({at_port(1, 80, 1), at_port(2, 81, 2), at_port(3, 82, 3)}, now);
  t.listen({at_port(1, 80, 4), at_port(3, 82, 6), at_port(4, 83, 7), at_port(2, 81, 5)}, now);
  const auto open = t.listeners.open();
  REQUIRE(open.size() == 4);
  for (std::size_t i = 0; i < 4; ++i) {
    CHECK(open[i].endpoint.port == 80 + i);
    CHECK(open[i].queue.length == 4 + i);
  }
  t.listen({at_port(9, 443, 8), at_port(3, 82, 6)}, now + std::chrono::minutes(2));
  t.listen({at_port(9, 443, 9), at_port(3, 82, 6)}, now + std::chrono::minutes(3));
  REQUIRE(t.listeners.open().size() == 2);
  CHECK(t.listeners.open()[1].queue.length == 9);
  CHECK(t.listeners.remembered() == 0);
}

TEST_CASE("a peak is forgotten after a minute, however seldom anybody looks") {
  Tracking t;
  TimePoint now = Clock::now();
  t.listen({listener(40, 128)}, now);
  t.listen({listener(1, 128)}, now += std::chrono::seconds(54));
  CHECK(t.listeners.open().at(0).peak.length == 40);
  t.listen({listener(1, 128)}, now += std::chrono::seconds(11));
  CHECK(t.listeners.open().at(0).peak.length == 1);
  t.listen({listener(30, 128)}, now);
  t.listen({listener(2, 128)}, now += std::chrono::hours(1));
  CHECK(t.listeners.open().at(0).peak.length == 2);
}

TEST_CASE("whether a listener takes IPv4 is what its sockets say now") {
  Tracking t;
  FakeSocket s = listener(0, 128);
  s.local = s.remote = "::";
  const IpAddress v4 = *parse_ip_address("192.0.2.1");
  t.listen({s}, Clock::now());
  CHECK(t.listeners.listens(v4, 443));
  s.v6only = true;
  t.listen({s}, Clock::now());
  CHECK_FALSE(t.listeners.listens(v4, 443));
  CHECK(t.listeners.listens(*parse_ip_address("2001:db8::1"), 443));
  FakeSocket both = s;
  both.v6only = false;
  t.listen({s, both}, Clock::now());
  CHECK(t.listeners.listens(v4, 443));
}

TEST_CASE("listeners that closed are bounded, those of a dump and those between two") {
  Tracking t;
  const TimePoint now = Clock::now();
  std::vector<FakeSocket> many;
  for (std::uint16_t port = 1000; port < 6000; ++port) {
    FakeSocket s = numbered(port, 0, 128);
    s.local_port = port;
    many.push_back(s);
  }
  t.listen(many, now);
  CHECK(t.listeners.remembered() == 0);
  CHECK(t.listeners.open().size() == 5000);
  t.listen({listener(0, 128)}, now);
  CHECK(t.listeners.remembered() == ListenerTable::kMaxRemembered);
  CHECK(t.listeners.open().size() == 1);
  const IpAddress any = *parse_ip_address("192.0.2.1");
  CHECK_FALSE(t.listeners.listens(any, 1000));  // the first to go
  CHECK(t.listeners.listens(any, 5999));
  t.listen({listener(0, 128)}, now + std::chrono::seconds(61));
  CHECK(t.listeners.remembered() == 0);
  CHECK_FALSE(t.listeners.listens(any, 5999));

  for (const FakeSocket& s : many) {
    const Bytes bytes = message(s);
    t.listeners.closed(first_row(bytes), now + std::chrono::seconds(61));
  }
  CHECK(t.listeners.remembered() == ListenerTable::kMaxRemembered);
  CHECK_FALSE(t.listeners.may_have_listened(any, 1000));
  CHECK(t.listeners.may_have_listened(any, 5999));
  CHECK_FALSE(t.listeners.listens(any, 5999));
  t.listen({}, now + std::chrono::seconds(121));
  CHECK(t.listeners.may_have_listened(any, 5999));
  t.listen({}, now + std::chrono::seconds(122));
  CHECK_FALSE(t.listeners.may_have_listened(any, 5999));
}

TEST_CASE("a listener between two dumps may have taken what its address and family say") {
  struct Row {
    const char* bound;
    const char* local;
    bool may;
  };
  for (const Row& row : {Row{"0.0.0.0", "192.0.2.1", true}, Row{"192.0.2.1", "192.0.2.1", true},
                         Row{"192.0.2.2", "192.0.2.1", false}, Row{"::", "192.0.2.1", true},
                         Row{"::", "2001:db8::1", true}, Row{"0.0.0.0", "2001:db8::1", false},
                         Row{"2001:db8::1", "2001:db8::1", true}}) {
    CAPTURE(row.bound);
    CAPTURE(row.local);
    Tracking t;
    const Bytes bytes = message(
        {.state = TcpState::kClose, .local = row.bound, .remote = "0.0.0.0", .remote_port = 0});
    t.listeners.closed(first_row(bytes), Clock::now());
    CHECK(t.listeners.may_have_listened(*parse_ip_address(row.local), 443) == row.may);
  }
}

TEST_CASE("what came in through a listener is of its cgroup if it does not say its own") {
  Tracking t({.group_by = {.cgroup = true}});
  FakeSocket l = listener(0, 128);
  l.cgroup_id = 77;
  t.listen({l}, Clock::now());
  Classifier classifier(t.listeners, *t.grouping, {}, kNetnsHost, [](std::uint64_t id) {
    return id == 0 ? kCgroupUnknown : static_cast<CgroupLabel>(id + 100);
  });
  const auto cgroup = [&](const FakeSocket& s) {
    const Bytes bytes = message(s);
    return classify(classifier, first_row(bytes)).cgroup;
  };
  CHECK(cgroup({}) == 177);
  CHECK(cgroup({.cgroup_id = 5}) == 105);
  CHECK(cgroup(client(1)) == kCgroupUnknown);
  FakeSocket ours = client(1);
  ours.cgroup_id = 5;
  CHECK(cgroup(ours) == 105);
}
