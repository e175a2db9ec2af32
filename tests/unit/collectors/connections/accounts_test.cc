// The sampler's parts, each without its thread: accounts of namespaces, rounds of dumps, events and
// reconfigurations.
#include "tests/support/accounts.h"

#include <doctest/doctest.h>

#include <thread>

#include "collectors/connections/reconfiguration.h"
#include "tests/support/tree.h"

using namespace tcpvitals;
using namespace tcpvitals::testing;

namespace {

// An outbound connection.
FakeSocket calling(std::uint64_t cookie) {
  return {.cookie = cookie, .local_port = 50000, .remote_port = 5432};
}

ConnectionsConfig by_cgroup() {
  ConnectionsConfig config;
  config.group_by.cgroup = true;
  return config;
}

std::shared_ptr<const KernelSource> mounted_at(const std::string& path) {
  return text_files({{"self/mountinfo", "35 22 0:30 / " + path + " rw - cgroup2 cgroup2 rw\n"}});
}

}  // namespace

TEST_CASE("a namespace where nothing moved is not dumped again, and what is told of it stays") {
  FakeNamespace blue({fake_listener(443), FakeSocket{.cookie = 1}, calling(2)});
  Accounts accounts;
  accounts.add(blue, 7, "blue");
  accounts.dump();
  CHECK(blue.kernel.full_dumps == 1);
  CHECK(accounts.round.report().namespaces == 2);
  const TimePoint first = accounts.snapshot().namespaces.at(1).as_of;

  for (int i = 0; i < 3; ++i) {
    accounts.dump();
    CHECK(blue.kernel.full_dumps == 1);
    CHECK(accounts.round.report().namespaces == 1);
    const GroupStats* out = accounts.group("blue", "outbound", "5432");
    REQUIRE(out != nullptr);
    CHECK(out->connections[static_cast<std::size_t>(TcpState::kEstablished)] == 1);
    CHECK(out->last_dump.ephemeral_ports == 1);
    CHECK(accounts.shown.namespaces.at(1).states[1] == 2);
  }
  CHECK(accounts.kernel.full_dumps == 4);  // ours is dumped each time
  CHECK(accounts.snapshot().namespaces.at(1).as_of > first);

  blue.set({fake_listener(443), FakeSocket{.cookie = 1}, calling(2)}, 10);
  accounts.dump();
  CHECK(blue.kernel.full_dumps == 2);
}

TEST_CASE("all namespaces are dumped for a search, for a new configuration, and after a loss") {
  FakeNamespace blue({fake_listener(443), FakeSocket{.cookie = 1}});
  Accounts accounts;
  accounts.add(blue, 7, "blue");
  accounts.dump();
  accounts.dump({.events_lost = true});
  CHECK(blue.kernel.full_dumps == 2);
  accounts.dump({.regrouped = true});
  CHECK(blue.kernel.full_dumps == 3);
  DumpRound::Options searching;
  searching.searches.push_back(
      std::make_unique<PendingSearch>(PendingSearch{ConnectionSearch(SearchRequest{}), {}}));
  auto found = searching.searches[0]->done.get_future();
  accounts.dump(std::move(searching));
  accounts.round.answer_searches();
  CHECK(blue.kernel.full_dumps == 4);
  CHECK(found.get()->matched == 1);
  accounts.dump();
  CHECK(blue.kernel.full_dumps == 4);
}

TEST_CASE("of namespaces where nothing moved for long, one a round is dumped anew") {
  FakeNamespace blue({fake_listener(443), FakeSocket{.cookie = 1}});
  FakeNamespace green({fake_listener(443), FakeSocket{.cookie = 2}});
  Accounts accounts;
  accounts.add(blue, 7, "blue");
  accounts.add(green, 8, "green");
  const auto dumps = [&] { return std::pair(blue.kernel.full_dumps, green.kernel.full_dumps); };
  accounts.dump();
  accounts.dump();
  CHECK(dumps() == std::pair(1, 1));
  accounts.later = std::chrono::minutes(6);
  accounts.dump();
  CHECK(dumps() == std::pair(2, 1));
  accounts.dump();
  CHECK(dumps() == std::pair(2, 2));
  accounts.dump();
  CHECK(dumps() == std::pair(2, 2));
}

TEST_CASE("what can change without a segment is dumped each time") {
  FakeSocket queued{.cookie = 1};
  queued.receive_queue = 1;
  FakeSocket unsent{.cookie = 1};
  unsent.send_queue = 1;
  const FakeSocket half_closed{.cookie = 1, .state = TcpState::kCloseWait};
  const FakeSocket time_wait{
      .cookie = 1, .state = TcpState::kTimeWait, .has_info = false, .time_wait = true};
  for (const FakeSocket& socket : {queued, unsent, half_closed, time_wait}) {
    FakeNamespace blue({fake_listener(443), socket});
    Accounts accounts;
    accounts.add(blue, 7, "blue");
    for (int i = 1; i <= 3; ++i) {
      accounts.dump();
      CHECK(blue.kernel.full_dumps == i);
    }
  }
  // A listener's queue and limit are no bytes, and it has a dump of its own.
  FakeSocket busy = fake_listener(443);
  busy.receive_queue = 3;
  busy.send_queue = 128;
  FakeNamespace blue({busy});
  Accounts accounts;
  accounts.add(blue, 7, "blue");
  for (int i = 0; i < 3; ++i) accounts.dump();
  CHECK(blue.kernel.full_dumps == 1);
}

TEST_CASE("an empty namespace is never dumped, has its baseline, and what it had has ended") {
  FakeNamespace blue({});
  Accounts accounts;
  accounts.add(blue, 7, "blue");
  accounts.dump();
  CHECK(blue.kernel.full_dumps == 0);
  REQUIRE(accounts.snapshot().namespaces.size() == 2);
  accounts.kernel.send(message(calling(1)), 7);
  accounts.events.read();
  REQUIRE(accounts.group("blue", "outbound", "5432") != nullptr);
  CHECK(accounts.group("blue", "outbound", "5432")->opened == 1);

  blue.set({fake_listener(443), FakeSocket{.cookie = 2}});
  accounts.dump();
  CHECK(blue.kernel.full_dumps == 1);
  CHECK(accounts.snapshot().tracked == 1);
  CHECK(accounts.snapshot().namespaces[1].states[1] == 1);
  blue.set({});
  accounts.dump();
  accounts.dump();
  CHECK(blue.kernel.full_dumps == 1);
  CHECK(accounts.snapshot().tracked == 0);
  CHECK(accounts.snapshot().namespaces[1].states[1] == 0);
}

TEST_CASE("a namespace that cannot be asked, or could not be dumped, is dumped each time") {
  FakeNamespace blue({fake_listener(443), FakeSocket{.cookie = 1}});
  Accounts accounts;
  accounts.add(blue, 7, "blue");
  blue.files->set("net/sockstat", "");
  accounts.dump();
  accounts.dump();
  CHECK(blue.kernel.full_dumps == 2);

  blue.tell(2, 0, 0);
  accounts.dump();
  CHECK(blue.kernel.full_dumps == 3);
  blue.tell(2, 0, 1);
  blue.kernel.garbage = true;
  accounts.dump();
  CHECK(accounts.failures.size() == 1);
  CHECK(accounts.failures[0].starts_with("blue: "));
  CHECK_FALSE(accounts.round.report().error.has_value());  // of ours
  blue.kernel.garbage = false;
  accounts.dump();
  CHECK(blue.kernel.full_dumps == 5);
  CHECK(accounts.failures.size() == 1);
}

TEST_CASE("whichever read of a namespace's files goes wrong, what is told of it is true") {
  for (const Fault fault : kFaults) {
    for (int call = 1; call <= 13; ++call) {
      CAPTURE(static_cast<int>(fault));
      CAPTURE(call);
      FakeNamespace blue({fake_listener(443), FakeSocket{.cookie = 1}, calling(2)});
      const auto files = std::make_shared<FailingSource>(*blue.files, fault, call);
      Accounts accounts;
      accounts.host.add({.id = 7,
                         .label = "blue",
                         .nsid = 7,
                         .sockets = fake_dump_sockets(blue.kernel),
                         .files = files});
      for (int i = 0; i < 3; ++i) accounts.dump();
      CHECK(blue.kernel.full_dumps >= 1);
      CHECK(blue.kernel.full_dumps <= 3);
      const Snapshot s = accounts.snapshot();
      REQUIRE(s.namespaces.size() == 2);
      CHECK(s.namespaces[1].states[1] == 2);
      CHECK(s.tracked == 2);
      CHECK(accounts.failures.empty());
    }
  }
}

TEST_CASE("our own namespace that cannot be dumped fails the round, searches and all") {
  Accounts accounts;
  accounts.dump();
  accounts.kernel.garbage = true;
  DumpRound::Options searching;
  searching.searches.push_back(
      std::make_unique<PendingSearch>(PendingSearch{ConnectionSearch(SearchRequest{}), {}}));
  auto found = searching.searches[0]->done.get_future();
  accounts.dump(std::move(searching));
  REQUIRE(accounts.round.report().error.has_value());
  CHECK(accounts.round.report().error->message.starts_with("socket dump: "));
  accounts.round.answer_searches();
  CHECK_FALSE(found.get().ok());
  CHECK(accounts.failures.empty());
}

TEST_CASE("the totals of a namespace that is gone stay in ours") {
  FakeNamespace blue({fake_listener(443), FakeSocket{.cookie = 1}, FakeSocket{.cookie = 2}});
  Accounts accounts;
  accounts.add(blue, 7, "blue");
  accounts.dump();
  accounts.kernel.send(message(FakeSocket{.cookie = 3}), 7);
  accounts.kernel.send(message(FakeSocket{.cookie = 1}), 7);
  accounts.events.read();
  const TrackerStats before = accounts.snapshot().tracker;
  CHECK(before.events == 2);
  CHECK(before.accepted == 1);
  accounts.host.remove(7);
  const Snapshot after = accounts.snapshot();
  CHECK(after.namespaces.size() == 1);
  CHECK(after.tracked == 0);
  CHECK(after.tracker.events == 2);
  CHECK(after.tracker.accepted == 1);
  CHECK(after.tracker.vanished == 1);                         // how it ended is not known
  accounts.kernel.send(message(FakeSocket{.cookie = 4}), 7);  // of nobody any more
  accounts.events.read();
  CHECK(accounts.snapshot().tracker.events == 2);
}

TEST_CASE("a namespace without a baseline is not told of") {
  FakeNamespace blue({FakeSocket{.cookie = 1}});
  Accounts accounts;
  accounts.dump();
  accounts.add(blue, 7, "blue");
  CHECK(accounts.snapshot().namespaces.size() == 1);
  accounts.dump();
  CHECK(accounts.snapshot().namespaces.size() == 2);
}

TEST_CASE("events count where they come from; those of a namespace nobody watches nowhere") {
  FakeNamespace blue({fake_listener(443)});
  Accounts accounts;
  accounts.add(blue, 7, "blue");
  accounts.dump();
  accounts.kernel.send(message(calling(1)));
  accounts.kernel.send(message(calling(1)), 7);
  accounts.kernel.send(message(calling(2)), 7);
  accounts.kernel.send(message(calling(1)), 8);
  accounts.events.read();
  CHECK(accounts.group("host", "outbound", "5432")->opened == 1);
  CHECK(accounts.group("blue", "outbound", "5432")->opened == 2);
  CHECK(accounts.shown.tracker.events == 3);
}

TEST_CASE("a turn reads as many events as the buffer holds, and leaves the rest to the next") {
  Accounts accounts;
  accounts.dump();
  const std::size_t turn = events_a_turn(accounts.events.buffer_bytes());
  for (std::size_t i = 0; i < turn + 10; ++i) accounts.kernel.send(message(calling(i + 1)));
  accounts.events.read();
  CHECK(accounts.snapshot().tracker.events == turn);
  accounts.events.read();
  CHECK(accounts.snapshot().tracker.events == turn + 10);
}

TEST_CASE("each loss of events is told once, and its count stays") {
  Accounts accounts;
  accounts.dump();
  CHECK_FALSE(accounts.events.take_loss());
  accounts.kernel.lose_events(5);
  accounts.events.read();
  CHECK(accounts.events.take_loss());
  CHECK_FALSE(accounts.events.take_loss());
  CHECK(accounts.events.lost() == 5);
  CHECK(accounts.events.overruns() == 1);
  CHECK_FALSE(accounts.events.take_error().has_value());

  accounts.kernel.send(Bytes(100, std::byte{0xa5}));
  accounts.events.read();
  CHECK(accounts.events.take_loss());
  CHECK(accounts.events.lost() == 6);
  const auto error = accounts.events.take_error();
  REQUIRE(error.has_value());
  CHECK(error->message.starts_with("DESTROY events: "));
  CHECK_FALSE(accounts.events.take_error().has_value());
}

TEST_CASE("when only our namespace is listened to, what waits is still counted where it belongs") {
  FakeNamespace blue({fake_listener(443)});
  Accounts accounts;
  accounts.add(blue, 7, "blue");
  accounts.dump();
  REQUIRE(accounts.events.listen_to_all(-1).ok());
  CHECK(accounts.kernel.all_namespaces);
  accounts.kernel.send(message(calling(1)), 7);
  REQUIRE(accounts.events.listen_to_ours().ok());
  CHECK_FALSE(accounts.kernel.all_namespaces);
  CHECK(accounts.group("blue", "outbound", "5432")->opened == 1);
  CHECK_FALSE(accounts.events.take_loss());
}

TEST_CASE("connects of unclear direction do not dump thousands of listeners again and again") {
  Accounts accounts;
  for (std::uint16_t i = 0; i < 10'000; ++i) {
    accounts.kernel.sockets.push_back(fake_listener(static_cast<std::uint16_t>(1000 + i)));
  }
  accounts.dump();
  for (std::uint64_t i = 1; i <= 3000; ++i) {
    accounts.kernel.send(
        message(FakeSocket{.cookie = 1'000'000 + i, .local_port = 50000, .remote_port = 50001}));
  }
  for (int i = 0; i < 10; ++i) accounts.events.read();
  CHECK(accounts.snapshot().tracker.events == 3000);
  CHECK(accounts.kernel.listener_dumps >= 1);
  CHECK(accounts.kernel.listener_dumps < 50);
}

TEST_CASE("the listeners of all namespaces share the cost of their dumps") {
  FakeNamespace blue({fake_listener(443)});
  Accounts accounts;
  accounts.add(blue, 7, "blue");
  CHECK(accounts.host.listener_cost() == Clock::duration{});
  Clock::duration sum{};
  for (const auto& account : accounts.host.namespaces()) {
    CHECK(account->dump_listeners(ListenerTable::Look::kRegular));
    CHECK(account->last_listener_dump().cost > Clock::duration{});
    sum += account->last_listener_dump().cost;
  }
  CHECK(accounts.host.listener_cost() == sum);
}

TEST_CASE("events that came before the kernel's new filter are left out by the old rules") {
  const Excludes http{.ports = {{80, 80}}};
  Accounts accounts{ConnectionsConfig{}};
  accounts.kernel.sockets = {fake_listener(80), FakeSocket{.cookie = 1, .local_port = 80}};
  accounts.dump();
  Reconfiguration change(accounts.events, accounts.host);
  auto request = std::make_unique<ReconfigurationRequest>();
  request->config.excludes = http;
  auto done = request->done.get_future();
  REQUIRE(change.begin(std::move(request)));
  CHECK(change.running());
  CHECK(accounts.kernel.event_excludes.empty());
  accounts.dump({.regrouped = true});
  accounts.kernel.send(message(FakeSocket{.cookie = 2, .local_port = 80}));
  change.end();
  CHECK_FALSE(change.running());
  CHECK(done.get().ok());
  CHECK(accounts.kernel.event_excludes == http);
  CHECK(accounts.kernel.dump_excludes == http);
  accounts.events.read();
  CHECK(accounts.snapshot().tracker.events == 0);
}

TEST_CASE("excludes that the kernel refuses leave those in force that were") {
  ConnectionsConfig config;
  config.excludes.ports = {{80, 80}};
  Accounts accounts{config};
  REQUIRE(exclude(accounts.events, accounts.host, config.excludes).ok());
  Reconfiguration change(accounts.events, accounts.host);
  auto request = std::make_unique<ReconfigurationRequest>();
  request->config.excludes.ports = {{443, 443}};
  accounts.kernel.refused = request->config.excludes;
  auto done = request->done.get_future();
  CHECK_FALSE(change.begin(std::move(request)));
  CHECK_FALSE(change.running());
  CHECK_FALSE(done.get().ok());
  CHECK(accounts.kernel.event_excludes == config.excludes);
  CHECK(accounts.kernel.dump_excludes == config.excludes);
  CHECK(accounts.host.config().excludes == config.excludes);
}

TEST_CASE("a namespace that comes leaves out what is excluded, in the kernel or until it does so") {
  const Excludes http{.ports = {{80, 80}}};
  ConnectionsConfig config = by_netns();
  config.excludes = http;
  const std::vector<FakeSocket> sockets = {fake_listener(80), fake_listener(443),
                                           FakeSocket{.cookie = 1, .local_port = 80},
                                           FakeSocket{.cookie = 2}};
  FakeNamespace blue(sockets);
  FakeNamespace green(sockets);
  Accounts accounts{config};
  accounts.add(green, 8, "green");  // before the kernel excludes anything
  accounts.dump();
  CHECK(green.kernel.dump_excludes.empty());
  CHECK(accounts.snapshot().tracked == 1);
  REQUIRE(exclude(accounts.events, accounts.host, http).ok());
  CHECK(green.kernel.dump_excludes == http);
  accounts.add(blue, 7, "blue");
  CHECK(blue.kernel.dump_excludes == http);
  accounts.dump();
  CHECK(accounts.snapshot().tracked == 2);
}

TEST_CASE("the range of local ports is read before each dump, in each namespace") {
  const auto ours = text_files({{"sys/net/ipv4/ip_local_port_range", "32768\t60999\n"}});
  FakeNamespace blue({fake_listener(443)});
  blue.files->set("sys/net/ipv4/ip_local_port_range", "");
  Accounts accounts{by_netns(), ours};
  accounts.add(blue, 7, "blue");
  accounts.dump();
  const auto& namespaces = accounts.host.namespaces();
  REQUIRE(namespaces[0]->local_ports().has_value());
  CHECK(namespaces[0]->local_ports()->range.first == 32768);
  CHECK(namespaces[0]->local_ports()->range.last == 60999);
  CHECK_FALSE(namespaces[1]->local_ports().has_value());
  ours->set("sys/net/ipv4/ip_local_port_range", "50000\t50009\n");
  blue.files->set("sys/net/ipv4/ip_local_port_range", "1024 65535\n");
  accounts.dump();
  CHECK(namespaces[0]->local_ports()->range.first == 50000);
  CHECK(namespaces[0]->local_ports()->range.last == 50009);
  REQUIRE(namespaces[1]->local_ports().has_value());  // though it needs no dump
  CHECK(namespaces[1]->local_ports()->range.last == 65535);
  ours->set("sys/net/ipv4/ip_local_port_range", "garbage\n");
  accounts.dump();
  CHECK_FALSE(namespaces[0]->local_ports().has_value());
}

TEST_CASE("a cgroup that was unknown gets its name when a walk knows it, and moves no total") {
  const Tree tree;
  tree.make("/cgroup");
  const std::uint64_t id = tree.make("/late.service");
  Accounts accounts{by_cgroup(), mounted_at(tree.path("/cgroup"))};
  using Counts = std::pair<std::int64_t, std::int64_t>;  // opened, and live
  const auto counts = [&](std::string_view cgroup) {
    std::int64_t opened = 0;
    std::int64_t live = 0;
    for (const Snapshot::Group& g : accounts.snapshot().groups) {
      if (g.labels.cgroup != cgroup) continue;
      opened += static_cast<std::int64_t>(g.stats.opened);
      live += static_cast<std::int64_t>(g.stats.opened) + g.stats.at_start -
              static_cast<std::int64_t>(g.stats.closes());
    }
    return Counts{opened, live};
  };
  accounts.dump();
  FakeSocket late = calling(1);
  late.cgroup_id = id;
  FakeSocket never = calling(2);
  never.cgroup_id = ~std::uint64_t{0};
  accounts.kernel.sockets = {late};
  accounts.dump();
  CHECK(counts("unknown") == Counts{1, 1});
  CHECK(accounts.snapshot().cgroup_names.unknown == 1);

  tree.move("/late.service", "/cgroup/late.service");
  for (int i = 0; i < 1000 && counts("late.service").second == 0; ++i) {
    // Each of these asks for a walk: ids that no walk has seen.
    never.cookie = 100 + static_cast<std::uint64_t>(i);
    --never.cgroup_id;
    accounts.kernel.sockets = {late, never};
    accounts.dump();
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  CHECK(counts("late.service") == Counts{0, 1});
  accounts.kernel.sockets = {late};
  FakeSocket brief = calling(5000);
  accounts.kernel.send(message(brief));  // its event carries no cgroup
  const std::uint64_t unknown = accounts.snapshot().cgroup_names.unknown;
  accounts.events.read();
  CHECK(accounts.snapshot().cgroup_names.unknown == unknown + 1);
}

TEST_CASE("a namespace where nothing moved is dumped for the new name of a cgroup in it") {
  const Tree tree;
  tree.make("/cgroup");
  const std::uint64_t id = tree.make("/late.service");
  ConnectionsConfig config = by_cgroup();
  config.group_by.netns = true;
  FakeSocket late = calling(1);
  late.cgroup_id = id;
  FakeNamespace blue({late});
  FakeSocket known = calling(2);
  known.cgroup_id = tree.make("/cgroup/known.service");
  FakeNamespace green({known});
  Accounts accounts{config, mounted_at(tree.path("/cgroup"))};
  accounts.add(blue, 7, "blue");
  accounts.add(green, 8, "green");
  accounts.dump();
  tree.move("/late.service", "/cgroup/late.service");
  const auto is_named = [&] {
    for (const Snapshot::Group& g : accounts.snapshot().groups) {
      if (g.labels.cgroup == "late.service" && g.stats.at_start == 1) return true;
    }
    return false;
  };
  FakeSocket never = calling(2);
  never.cgroup_id = ~std::uint64_t{0};
  for (int i = 0; i < 1000 && !is_named(); ++i) {
    // Each of these, in our namespace, asks for a walk: ids that no walk has seen.
    never.cookie = 100 + static_cast<std::uint64_t>(i);
    --never.cgroup_id;
    accounts.kernel.sockets = {never};
    accounts.dump();
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  CHECK(is_named());
  CHECK(blue.kernel.full_dumps == 2);
  CHECK(green.kernel.full_dumps == 1);
}

TEST_CASE("a kernel that does not tell the cgroup of a socket lacks the feature, and says why") {
  const Tree tree;
  Accounts accounts{by_cgroup(), mounted_at(tree.path(""))};
  const auto missing = [&] {
    for (const auto& feature : accounts.snapshot().features) {
      if (feature.name == "cgroup_names") return feature.missing;
    }
    return std::string("no such feature");
  };
  accounts.kernel.sockets = {fake_listener(443)};
  accounts.dump();
  CHECK(missing().empty());
  accounts.kernel.sockets = {fake_listener(443), FakeSocket{.cookie = 1}};
  accounts.dump();
  CHECK(missing().find("Linux 5.8") != std::string::npos);
  accounts.kernel.sockets = {fake_listener(443), FakeSocket{.cookie = 1, .cgroup_id = 1}};
  accounts.dump();
  CHECK(missing().empty());
}

TEST_CASE("rows in TIME_WAIT are no connections of an unknown cgroup") {
  Accounts accounts{by_cgroup()};
  accounts.kernel.sockets = {
      FakeSocket{.cookie = 1, .state = TcpState::kTimeWait, .has_info = false, .time_wait = true}};
  for (int i = 0; i < 3; ++i) accounts.dump();
  CHECK(accounts.snapshot().cgroup_names.unknown == 0);
}
