// Groups that come, go, change their names and are shared by the trackers of several namespaces.
#include "collectors/attribution/groups.h"

#include <doctest/doctest.h>

#include <functional>
#include <numeric>

#include "tests/support/tracking.h"

using namespace tcpvitals;
using namespace tcpvitals::testing;

namespace {

constexpr auto kIdle = std::chrono::minutes(10);

NamedPrefix named(const char* name, const char* prefix) { return {name, *parse_ip_prefix(prefix)}; }

FakeSocket sending(FakeSocket s, std::uint64_t bytes) {
  s.info.bytes_sent = bytes;
  return s;
}

FakeSocket refused(std::uint16_t port) {
  FakeSocket s = client(port);
  s.remote_port = port;
  s.info = {.segs_out = 1, .segs_in = 1, .min_rtt_us = kNoRtt};
  return s;
}

// opened - closed + at_start = what lives, for every group of the table.
void check_books(const Tracking& t) {
  for (const GroupTable::Group& g : t.groups.groups()) {
    const std::int64_t counted =
        static_cast<std::int64_t>(g.stats.opened - g.stats.closes()) + g.stats.at_start;
    CHECK(counted == static_cast<std::int64_t>(live(g.stats)));
  }
}

std::size_t slots_in_use(const GroupTable& groups) {
  return static_cast<std::size_t>(
      std::count_if(groups.groups().begin(), groups.groups().end(),
                    [](const auto& g) { return g.named || g.references > 0; }));
}

}  // namespace

TEST_CASE("a group without sockets leaves after a while, and comes back at zero") {
  Host h;
  h.dump({});
  h.event(sending({}, 100));
  h.groups.forget_idle(h.now, kIdle);
  h.now += kIdle - std::chrono::seconds(1);
  h.groups.forget_idle(h.now, kIdle);
  REQUIRE(h.shown("inbound", "443") != nullptr);
  CHECK(h.shown("inbound", "443")->sent_bytes == 100);
  h.now += std::chrono::seconds(1);
  h.groups.forget_idle(h.now, kIdle);
  CHECK(h.shown("inbound", "443") == nullptr);
  CHECK(h.groups.forgotten() == 1);
  CHECK(h.groups.size() == 0);
  h.event(sending({.cookie = 2}, 7));
  CHECK(h.shown("inbound", "443")->sent_bytes == 7);
  CHECK(h.shown("inbound", "443")->opened == 1);
  CHECK(h.groups.groups().size() == 1);  // its place was free again
}

TEST_CASE("a group is idle from when its last socket went, not from the look before") {
  Host h;
  h.dump({});
  h.dump({FakeSocket{}});
  h.groups.forget_idle(h.now, kIdle);
  h.now += kIdle;
  h.event({});
  h.groups.forget_idle(h.now, kIdle);
  REQUIRE(h.shown("inbound", "443") != nullptr);
  CHECK(h.shown("inbound", "443")->closes() == 1);
  h.now += kIdle;
  h.groups.forget_idle(h.now, kIdle);
  CHECK(h.shown("inbound", "443") == nullptr);
}

// Nothing but the last dump speaks for the group: nobody asks for it afterwards.
TEST_CASE("a connection, TIME_WAIT and a half-open one of the last dump keep a group") {
  const FakeSocket kinds[] = {
      {},
      {.state = TcpState::kTimeWait, .has_info = false, .time_wait = true},
      {.state = TcpState::kSynReceived, .has_info = false},
  };
  for (const FakeSocket& kind : kinds) {
    CAPTURE(static_cast<int>(kind.state));
    Host h;
    h.dump({});
    h.dump({kind});
    for (int minute = 0; minute < 30; ++minute) {
      h.groups.forget_idle(h.now, kIdle);
      h.now += std::chrono::minutes(1);
    }
    CHECK(h.shown("inbound", "443") != nullptr);
    CHECK(h.groups.forgotten() == 0);

    // Gone, and not even its late event is awaited any more.
    h.dump({});
    h.dump({});
    h.now += std::chrono::hours(2);
    h.dump({});
    for (int minute = 0; minute < 30; ++minute) {
      h.groups.forget_idle(h.now, kIdle);
      h.now += std::chrono::minutes(1);
    }
    CHECK(h.shown("inbound", "443") == nullptr);
  }
}

TEST_CASE("a connection, TIME_WAIT, a half-open one and a sign of life keep a group") {
  struct Row {
    const char* what;
    std::function<void(Host&)> happens;  // each minute
  };
  FakeSocket time_wait{.state = TcpState::kTimeWait, .has_info = false, .time_wait = true};
  FakeSocket half_open{.state = TcpState::kSynReceived, .has_info = false};
  const Row rows[] = {
      {"a connection", [](Host& h) { h.dump({FakeSocket{}}); }},
      {"TIME_WAIT", [&](Host& h) { h.dump({time_wait}); }},
      {"a half-open one", [&](Host& h) { h.dump({half_open}); }},
      {"short lives", [](Host& h) { h.event({.cookie = 5}); }},
  };
  for (const Row& row : rows) {
    CAPTURE(row.what);
    Host h;
    h.dump({});
    for (int minute = 0; minute < 30; ++minute) {
      row.happens(h);
      h.groups.forget_idle(h.now, kIdle);
      h.now += std::chrono::minutes(1);
    }
    CHECK(h.shown("inbound", "443") != nullptr);
    CHECK(h.groups.forgotten() == 0);
  }
}

TEST_CASE("a group leaves only when what vanished from it is forgotten too") {
  Host h;
  h.dump({});
  h.dump({FakeSocket{}});
  h.dump({});
  h.dump({});
  CHECK(h.tracker.tracked() == 0);
  h.now += std::chrono::seconds(30);
  h.groups.forget_idle(h.now, std::chrono::seconds(1));
  REQUIRE(h.shown("inbound", "443") != nullptr);
  h.event({});
  CHECK(h.inbound().opened == 1);
  CHECK(h.inbound().closes() == 1);
  CHECK(h.tracker.stats().late_events == 1);
}

TEST_CASE("a port that has a name never falls into other") {
  ConnectionsConfig config{.ports = {{"web", {443, 443}}, {"db", {5432, 5432}}},
                           .limits = {.groups = 1}};
  Host h(config);
  h.dump({});
  for (std::uint16_t port = 1000; port < 1050; ++port) {
    FakeSocket s = client(port);
    s.remote_port = port;
    h.event(s);
  }
  h.event({.cookie = 1});
  h.event(client(2));
  CHECK(h.shown("inbound", "web")->opened == 1);
  CHECK(h.shown("outbound", "db")->opened == 1);
  CHECK(h.shown("outbound", "1000")->opened == 1);
  CHECK(h.shown("outbound", "other")->opened == 49);
  CHECK(h.groups.overflowed() == 49);
}

TEST_CASE("failed attempts push no service into other, and make room for one") {
  Host h({.limits = {.groups = 8}});
  h.dump({});
  for (std::uint16_t port = 2000; port < 2250; ++port) h.event(refused(port));
  CHECK(h.groups.size() == 2 + 1);  // a quarter of the places, and other
  const auto& failures = h.shown("outbound", "other")->failures;
  CHECK(std::accumulate(failures.begin(), failures.end(), std::uint64_t{0}) == 248);
  for (std::uint16_t port = 100; port < 108; ++port) {
    FakeSocket s = client(port);
    s.remote_port = port;
    h.event(s);
    CHECK(h.shown("outbound", std::to_string(port)) != nullptr);
  }
  CHECK(h.shown("outbound", "2000") == nullptr);
  CHECK(h.shown("outbound", "2001") == nullptr);
  CHECK(h.groups.size() == 8 + 1);
  FakeSocket s = client(1);
  s.remote_port = 109;
  h.event(s);  // the limit holds for services
  CHECK(h.shown("outbound", "109") == nullptr);
  CHECK(h.shown("outbound", "other")->opened == 1);
}

TEST_CASE("the attempts that were asked for last stay longest") {
  GroupTable groups(4);
  groups.find_or_add({.port = 1}, GroupTable::For::kAttempt);
  groups.set_limit(8);
  groups.find_or_add({.port = 2}, GroupTable::For::kAttempt);
  groups.find_or_add({.port = 1}, GroupTable::For::kAttempt);
  for (PortLabel port = 11; port <= 17; ++port)
    groups[groups.find_or_add({.port = port})].opened = 1;
  const auto has = [&](PortLabel port) {
    return std::any_of(groups.groups().begin(), groups.groups().end(),
                       [&](const auto& g) { return g.named && g.key.port == port; });
  };
  CHECK(has(1));
  CHECK_FALSE(has(2));
  CHECK(groups.size() == 8);
}

TEST_CASE("attempts under way keep their group: connections may be as many as the limit besides") {
  Host h({.limits = {.groups = 8}});
  h.dump({});
  std::vector<FakeSocket> pending;
  for (std::uint16_t port = 2000; port < 2010; ++port) {
    FakeSocket s = client(port);
    s.state = TcpState::kSynSent;
    s.remote_port = port;
    s.info = {.min_rtt_us = kNoRtt};
    pending.push_back(s);
  }
  h.dump(pending);
  CHECK(h.groups.size() == 2 + 1);
  for (std::uint16_t port = 100; port < 108; ++port) {
    FakeSocket s = client(port);
    s.remote_port = port;
    h.event(s);
    CHECK(h.shown("outbound", std::to_string(port)) != nullptr);
  }
  CHECK(h.groups.size() == 10 + 1);
  CHECK(h.shown("outbound", "2000")->connections[static_cast<std::size_t>(TcpState::kSynSent)] ==
        1);
}

TEST_CASE("an attempt that is answered leaves other for a group of its own") {
  Host h({.limits = {.groups = 8}});
  h.dump({});
  std::vector<FakeSocket> pending;
  for (std::uint16_t port = 2000; port < 2004; ++port) {
    FakeSocket s = client(port);
    s.state = TcpState::kSynSent;
    s.remote_port = port;
    s.info = {.min_rtt_us = kNoRtt};
    pending.push_back(s);
  }
  h.dump(pending);
  REQUIRE(h.shown("outbound", "2003") == nullptr);
  for (FakeSocket& s : pending) {
    s.state = TcpState::kEstablished;
    s.info = {.bytes_acked = 1, .min_rtt_us = 100};
  }
  FakeSocket last = pending.back();
  pending.pop_back();
  h.dump(pending);
  h.event(last);  // it was established and ended since
  CHECK(h.shown("outbound", "2002")->opened == 1);
  CHECK(h.shown("outbound", "2003")->opened == 1);
  CHECK(h.shown("outbound", "2003")->closes() == 1);
  CHECK(h.shown("outbound", "other")->opened == 0);
  CHECK(live(*h.shown("outbound", "2002")) == 1);
  check_books(h);
}

TEST_CASE("a group of attempts leaves after five minutes, one with a connection after its time") {
  Host h;
  h.dump({});
  h.event(refused(2000));
  h.event({.cookie = 9});
  h.groups.forget_idle(h.now, kIdle);
  h.now += std::chrono::minutes(5) - std::chrono::seconds(1);
  h.groups.forget_idle(h.now, kIdle);
  CHECK(h.shown("outbound", "2000") != nullptr);
  h.now += std::chrono::seconds(1);
  h.groups.forget_idle(h.now, kIdle);
  CHECK(h.shown("outbound", "2000") == nullptr);
  CHECK(h.shown("inbound", "443") != nullptr);
  CHECK(h.groups.forgotten() == 1);
  h.event(refused(2000));
  h.groups.forget_idle(h.now, std::chrono::seconds(60));
  h.now += std::chrono::seconds(60);
  h.groups.forget_idle(h.now, std::chrono::seconds(60));
  CHECK(h.shown("outbound", "2000") == nullptr);  // no longer than others
}

TEST_CASE("new groups of attempts are bounded over an hour, not only at once") {
  GroupTable groups(8);
  TimePoint now = Clock::now();
  groups.forget_idle(now, kIdle);
  const auto scan = [&](PortLabel first) {
    std::size_t own = 0;
    for (PortLabel port = first; port < first + 2; ++port) {
      const GroupId id = groups.find_or_add({.port = port}, GroupTable::For::kAttempt);
      own += groups.groups()[id].key.port == port ? 1 : 0;
    }
    groups.forget_idle(now, kIdle);
    groups.forget_idle(now += GroupTable::kAttemptsIdle, kIdle);
    return own;
  };
  std::size_t own = 0;
  for (PortLabel first = 2000; first < 2022; first += 2) own += scan(first);  // 55 minutes
  CHECK(own == 8);
  now += std::chrono::minutes(5);
  groups.forget_idle(now, kIdle);
  CHECK(scan(3000) == 2);
}

TEST_CASE("grouped by namespace there is no end of names, so that they too fall into other") {
  GroupTable groups(1);
  groups.find_or_add({.port = kPortNamed, .netns = 3});
  const GroupId over = groups.find_or_add({.port = kPortNamed, .netns = 4});
  CHECK(groups.groups()[over].key.port == kPortOther);
  CHECK(groups.groups()[over].key.netns == kNetnsOther);
  const GroupId cgroup = groups.find_or_add({.cgroup = 7, .port = kPortNamed});
  CHECK(groups.groups()[cgroup].key.cgroup == kCgroupOther);
  CHECK(groups.groups()[cgroup].key.port == kPortOther);
}

TEST_CASE("what the last dump told of a namespace is not told of one that is gone") {
  GroupTable groups(10);
  const GroupId gone = groups.find_or_add({.port = 1, .netns = 3});
  const GroupId stays = groups.find_or_add({.port = 1, .netns = 4});
  groups.begin_dump();
  groups.dump(gone).time_wait = groups.dump(stays).time_wait = 7;
  groups.end_dump();
  groups.clear_dump(3);
  CHECK(groups[gone].last_dump.time_wait == 0);
  CHECK(groups[stays].last_dump.time_wait == 7);
  groups.end_dump();  // it went while another dump was running
  CHECK(groups[gone].last_dump.time_wait == 0);
}

TEST_CASE("a bound that falls takes nobody's group, one that rises has room at once") {
  GroupTable groups(3);
  for (PortLabel port = 1; port <= 3; ++port) groups.find_or_add({.port = port});
  groups.set_limit(1);
  CHECK(groups.groups()[groups.find_or_add({.port = 2})].key.port == 2);
  CHECK(groups.groups()[groups.find_or_add({.port = 4})].key.port == kPortOther);
  groups.set_limit(4);
  CHECK(groups.groups()[groups.find_or_add({.port = 4})].key.port == 4);
  CHECK(groups.groups()[groups.find_or_add({.port = 5})].key.port == kPortOther);
}

TEST_CASE("groups that are still alike go on under a new configuration, wherever its names stand") {
  ConnectionsConfig before{.peers = {named("rack", "10.0.0.0/8"), named("cdn", "203.0.113.0/24")},
                           .ports = {{"web", {443, 443}}, {"db", {5432, 5432}}}};
  ConnectionsConfig after{.peers = {named("new", "192.0.2.0/24"), named("cdn", "203.0.113.0/24"),
                                    named("rack", "10.0.0.0/8")},
                          .ports = {{"db", {5432, 5432}}, {"web", {443, 443}}}};
  Host h(before);
  h.dump({});
  FakeSocket s = sending({.remote = "203.0.113.9"}, 100);
  h.dump({s, sending(client(2), 50)});
  h.regroup(after);
  REQUIRE(h.shown("inbound", "web", "cdn") != nullptr);
  CHECK(h.shown("inbound", "web", "cdn")->sent_bytes == 100);
  s.info.bytes_sent = 130;
  h.dump({s, sending(client(2), 50)});
  CHECK(h.shown("inbound", "web", "cdn")->sent_bytes == 130);
  CHECK(h.shown("inbound", "web", "cdn")->at_start == 0);
  CHECK(h.shown("inbound", "web", "cdn")->opened == 1);
  CHECK(h.shown("outbound", "db")->sent_bytes == 50);
  CHECK(h.groups.size() == 2);
  check_books(h);
}

TEST_CASE("a connection whose group gets another name brings itself along, not its past") {
  Host h;
  h.dump({});
  FakeSocket s = sending({}, 100);
  FakeSocket attempt = client(2);
  attempt.state = TcpState::kSynSent;
  h.dump({s, attempt});
  h.regroup({.ports = {{"web", {443, 443}}, {"db", {5432, 5432}}}});
  CHECK(h.shown("inbound", "443") == nullptr);
  check_books(h);
  s.info.bytes_sent = 140;
  h.dump({s, attempt});
  const GroupStats& web = *h.shown("inbound", "web");
  CHECK(web.at_start == 1);
  CHECK(web.opened == 0);
  CHECK(web.sent_bytes == 40);
  CHECK(h.shown("outbound", "db")->at_start == 0);
  CHECK(h.shown("outbound", "db")->connections[static_cast<std::size_t>(TcpState::kSynSent)] == 1);
  check_books(h);
  h.event(s);
  CHECK(web.closes() == 1);
  CHECK(live(web) == 0);
  CHECK(slots_in_use(h.groups) == h.groups.size());
}

TEST_CASE("a connection that moves between groups that are both shown leaves one for the other") {
  Host h({.peers = {named("rack", "198.51.100.0/24")}});
  h.dump({});
  h.dump({sending({}, 100), FakeSocket{.cookie = 2, .remote = "203.0.113.9"}});
  h.regroup({.peers = {named("rack", "203.0.113.0/24")}});
  h.dump({sending({}, 100), FakeSocket{.cookie = 2, .remote = "203.0.113.9"}});
  CHECK(h.shown("inbound", "443", "rack")->at_start == 0);  // one came, one went
  CHECK(h.shown("inbound", "443", "rack")->opened == 1);
  CHECK(h.shown("inbound", "443", "rack")->sent_bytes == 100);
  CHECK(h.shown("inbound", "443", "public")->at_start == 0);
  CHECK(h.shown("inbound", "443", "public")->opened == 1);
  check_books(h);
  h.regroup({.peers = {named("rack", "192.0.2.0/24")}});
  h.dump({sending({}, 100), FakeSocket{.cookie = 2, .remote = "203.0.113.9"}});
  CHECK(h.shown("inbound", "443", "rack")->at_start == -1);
  CHECK(h.shown("inbound", "443", "public")->at_start == 1);
  CHECK(live(*h.shown("inbound", "443", "public")) == 2);
  check_books(h);
}

TEST_CASE("grouped by other labels, all connections are of new groups") {
  Host h;
  h.dump({});
  h.dump({sending({}, 100), sending(client(2), 50)});
  h.regroup({.group_by = {.direction = false, .port = false, .peer = false}});
  CHECK(h.groups.size() == 0);
  h.dump({sending({}, 110), sending(client(2), 60)});
  REQUIRE(h.groups.size() == 1);
  const GroupStats& all = *h.shown("", "", "");
  CHECK(all.sent_bytes == 20);
  CHECK(all.at_start == 2);
  check_books(h);
  CHECK(slots_in_use(h.groups) == 1);
}

TEST_CASE("a connection that the dump after a change skipped moves when it is seen next") {
  Host h;
  h.dump({});
  h.dump({sending({}, 100), client(2)});
  h.regroup({.ports = {{"web", {443, 443}}}});
  h.dump({client(2)});
  CHECK(h.shown("inbound", "web") == nullptr);
  h.dump({sending({}, 150), client(2)});
  REQUIRE(h.shown("inbound", "web") != nullptr);
  CHECK(h.shown("inbound", "web")->sent_bytes == 50);
  CHECK(h.shown("inbound", "web")->at_start == 1);
  check_books(h);
}

TEST_CASE("one that vanished before a change returns to the group that it has now") {
  Host h;
  h.dump({});
  h.dump({sending({}, 100), client(2)});
  h.dump({client(2)});
  h.dump({client(2)});
  h.regroup({.ports = {{"web", {443, 443}}}});
  h.dump({sending({}, 150), client(2)});
  CHECK(h.shown("inbound", "web")->opened == 1);
  CHECK(h.shown("inbound", "web")->at_start == 0);
  CHECK(h.shown("inbound", "web")->sent_bytes == 50);
  check_books(h);
}

TEST_CASE("dumps that fail after changes change nothing: the next one moves what is left") {
  for (const int changes : {1, 255, 256, 257}) {
    CAPTURE(changes);
    Host h;
    h.dump({});
    h.dump({sending({}, 100), client(2)});
    for (int i = 0; i < changes; ++i) {
      h.regroup({.ports = {{"web", {443, 443}}, {"db", {5432, 5432}}}});
      h.begin();
      h.row(sending({}, 110));
      h.tracker.abandon_dump();
    }
    check_books(h);
    h.dump({sending({}, 120), client(2)});
    CHECK(h.shown("inbound", "web")->sent_bytes == 20);
    CHECK(h.shown("inbound", "web")->at_start == 1);
    CHECK(h.shown("outbound", "db")->at_start == 1);
    check_books(h);
  }
}

TEST_CASE("namespaces share the bound on connections, and the same cookie lives in each") {
  Host h({.limits = {.connections = 2}});
  Tracker second(h.shared, h.classifier);
  const auto dump_second = [&](const std::vector<FakeSocket>& sockets) {
    second.begin_dump(h.now);
    for (const FakeSocket& s : sockets) {
      const Bytes bytes = message(s);
      second.add_row(first_row(bytes));
    }
    second.end_dump(h.now);
  };
  h.dump({});
  dump_second({});
  h.dump({sending({.cookie = 1}, 10)});
  dump_second({sending({.cookie = 1}, 1000), sending({.cookie = 2}, 5)});
  CHECK(h.tracker.tracked() == 1);
  CHECK(second.tracked() == 1);
  CHECK(second.last_dump().untracked == 1);
  CHECK(h.inbound().sent_bytes == 1010);
  h.event(sending({.cookie = 1}, 20));
  CHECK(h.inbound().sent_bytes == 1020);
  CHECK(second.tracked() == 1);
  dump_second({sending({.cookie = 1}, 1000), sending({.cookie = 2}, 5)});
  CHECK(second.tracked() == 2);
  CHECK(h.inbound().opened == 3);
  check_books(h);
}

TEST_CASE("a namespace that goes ends what it had, nobody knows how, and nothing of the others") {
  Host h;
  h.dump({});
  h.dump({FakeSocket{.cookie = 1}});
  {
    Tracker second(h.shared, h.classifier);
    for (int i = 0; i < 2; ++i) {
      second.begin_dump(h.now);
      for (const FakeSocket& s : {FakeSocket{.cookie = 1}, client(2)}) {
        const Bytes bytes = message(s);
        second.add_row(first_row(bytes));
      }
      second.end_dump(h.now);
    }
    CHECK(h.shared.connections == 3);
    CHECK(live(h.inbound()) == 2);
  }
  CHECK(h.shared.connections == 1);
  CHECK(h.inbound().at_start == 1);  // its first dump was a baseline
  CHECK(h.inbound().opened == 1);
  CHECK(h.inbound().closed[static_cast<std::size_t>(ConnectionEnd::kUnknown)] == 1);
  CHECK(live(h.inbound()) == 1);
  check_books(h);
  for (const GroupTable::Group& g : h.groups.groups()) {
    CHECK(g.references == (g.key.direction == Direction::kInbound ? 1 : 0));
  }
}
