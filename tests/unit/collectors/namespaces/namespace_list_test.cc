#include "collectors/namespaces/namespace_list.h"

#include <doctest/doctest.h>

#include "collectors/kernel_source.h"
#include "tests/support/testing.h"

using namespace tcpvitals;
using namespace tcpvitals::testing;

namespace {

constexpr std::uint64_t kOwn = 1;

std::vector<WatchedNamespace> watching(std::initializer_list<std::uint64_t> ids) {
  std::vector<WatchedNamespace> watched;
  for (const std::uint64_t id : ids) watched.push_back({id, std::to_string(id), nullptr});
  return watched;
}

std::vector<FoundNamespace> found(std::initializer_list<std::uint64_t> ids) {
  std::vector<FoundNamespace> all;
  for (const std::uint64_t id : ids) all.push_back({id, "", ""});
  return all;
}

using Ids = std::vector<std::uint64_t>;

}  // namespace

TEST_CASE("a namespace is listed once, names first and by alphabet, ours never") {
  const std::vector<FoundNamespace> all{
      {7, "", "/proc/70/ns/net"}, {3, "zeta", "z"},  {5, "", "/proc/50/ns/net"},
      {3, "alpha", "a"},          {kOwn, "own", ""}, {3, "", "/proc/30/ns/net"},
      {9, "beta", "b"},           {5, "", "p"},
  };
  const auto list = sorted_unique(all, kOwn);
  REQUIRE(list.size() == 4);
  CHECK(list[0] == FoundNamespace{3, "alpha", "a"});
  CHECK(list[1] == FoundNamespace{9, "beta", "b"});
  CHECK(list[2].id == 5);
  CHECK(list[3] == FoundNamespace{7, "", "/proc/70/ns/net"});
}

TEST_CASE("what is no longer found departs, what is new arrives, what stays is not touched") {
  const auto plan = plan_namespaces(watching({2, 3, 4}), found({4, 5, 2}), 10);
  CHECK(plan.departures == Ids{3});
  CHECK(plan.arrivals == found({5}));
  CHECK(plan.left_out.empty());
}

TEST_CASE("over the limit those that are watched stay, and the rest is left out by name") {
  const auto full = plan_namespaces(watching({8, 9}), found({2, 8, 9, 10}), 2);
  CHECK(full.departures.empty());
  CHECK(full.arrivals.empty());
  CHECK(full.left_out == Ids{2, 10});

  const auto room = plan_namespaces(watching({8, 9}), found({2, 8, 10}), 2);
  CHECK(room.departures == Ids{9});
  CHECK(room.arrivals == found({2}));
  CHECK(room.left_out == Ids{10});
}

TEST_CASE("a lower limit sends the last ones away, and says that they are left out") {
  const auto plan = plan_namespaces(watching({8, 9, 7}), found({7, 8, 9}), 1);
  CHECK(plan.departures == Ids{9, 7});
  CHECK(plan.arrivals.empty());
  CHECK(plan.left_out == Ids{9, 7});
  CHECK(plan_namespaces({}, found({7}), 0).left_out == Ids{7});
}

TEST_CASE("a label is the name, or the number where the name is missing or somebody else's") {
  CHECK(namespace_label({7, "blue", ""}, {}) == "blue");
  CHECK(namespace_label({7, "", ""}, {}) == "7");
  CHECK(namespace_label({7, "host", ""}, {}) == "7");
  CHECK(namespace_label({7, "other", ""}, {}) == "7");
  CHECK(namespace_label({7, "blue", ""}, {{3, "blue", nullptr}}) == "7");
}

TEST_CASE("a directory that is not there has no namespaces, and a name without one is none") {
  const auto none = list_namespaces("/nonexistent", "/nonexistent", kOwn);
  CHECK(none.namespaces.empty());
  CHECK(none.unreadable == 0);
  // Names of a file system that holds no namespaces.
  const auto files = list_namespaces(fixture_path("6.18-host/proc/net"), "/nonexistent", kOwn);
  CHECK(files.namespaces.empty());
}

TEST_CASE("namespaces are not told apart until somebody publishes them, and no more afterwards") {
  const TextSource host{{"net/snmp", "ours"}};
  NamespaceSources sources(host);
  REQUIRE(sources.namespaces().size() == 1);
  CHECK(sources.namespaces()[0].label.empty());

  const auto blue = std::make_shared<const TextSource>(
      std::initializer_list<std::pair<const std::string, std::string>>{{"net/snmp", "blue's"}});
  sources.publish("host", {{"blue", blue}});
  const auto both = sources.namespaces();
  REQUIRE(both.size() == 2);
  CHECK(both[0].label == "host");
  CHECK(*both[0].source->read("net/snmp") == "ours");
  CHECK(both[1].label == "blue");
  CHECK(*both[1].source->read("net/snmp") == "blue's");

  sources.publish("", {});
  CHECK(sources.namespaces().size() == 1);
  // Whoever is in the middle of a scrape may go on.
  CHECK(*both[1].source->read("net/snmp") == "blue's");
}
