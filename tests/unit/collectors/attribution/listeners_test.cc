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

}  // namespace

TEST_CASE("a queue is counted as full each time it is found at its limit, or above") {
  Tracking t;
  TimePoint now = Clock::now();
  const auto full = [&](std::uint32_t waiting, std::uint32_t limit) {
    t.listen({listener(waiting, limit)}, now += std::chrono::milliseconds(100));
    return t.listeners.open().at(0).queue_full;
  };
  CHECK(full(127, 128) == 0);
  CHECK(full(128, 128) == 1);
  CHECK(full(129, 128) == 2);  // the kernel takes one more than it says
  CHECK(full(3, 128) == 2);
  CHECK(full(0, 0) == 2);  // listen(0), and nobody waits
  CHECK(full(1, 0) == 3);
}

TEST_CASE("of sockets that share an address the queue is full when all of it is") {
  Tracking t;
  t.listen({listener(10, 10), listener(0, 10)}, Clock::now());
  CHECK(t.listeners.open().at(0).queue_full == 0);
  t.listen({listener(10, 10), listener(10, 10)}, Clock::now());
  CHECK(t.listeners.open().at(0).queue_full == 1);
}

TEST_CASE("what came in through a listener is of its cgroup if it does not say its own") {
  Tracking t({.group_by = {.cgroup = true}});
  FakeSocket l = listener(0, 128);
  l.cgroup_id = 77;
  t.listen({l}, Clock::now());
  Classifier classifier(t.listeners, *t.grouping, {}, kNetnsHost,
                        [](std::uint64_t id) { return static_cast<CgroupLabel>(id + 100); });
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
