// Which namespaces need a dump: what they say of themselves, and what the last dump found.
#include "collectors/connections/namespace_activity.h"

#include <doctest/doctest.h>

#include "tests/support/testing.h"

using namespace tcpvitals;
using namespace tcpvitals::testing;
using namespace std::chrono_literals;

namespace {

const TimePoint kT0 = TimePoint{} + 1000h;

TextSource files() {
  return {{"net/snmp", "Ip: A\nIp: 1\nTcp: A B\nTcp: 1 -1\nUdp: A\nUdp: 1\n"},
          {"net/sockstat", "sockets: used 30\nTCP: inuse 3 orphan 7 tw 2 alloc 8 mem 9\n"},
          {"net/sockstat6", "TCP6: inuse 4\nUDP6: inuse 5\n"}};
}

}  // namespace

TEST_CASE("a namespace's activity is its counters of TCP, and its sockets of both families") {
  TextSource source = files();
  const auto activity = read_activity(source);
  REQUIRE(activity.has_value());
  CHECK(activity->counters == "Tcp: 1 -1");
  CHECK(activity->in_use == 7);
  CHECK(activity->time_wait == 2);

  // What other namespaces do moves numbers of the whole machine, and says nothing of this one.
  source.set("net/sockstat", "sockets: used 31\nTCP: inuse 3 orphan 1 tw 2 alloc 1 mem 1\n");
  source.set("net/snmp", "Ip: A\nIp: 2\nTcp: A B\nTcp: 1 -1\nUdp: A\nUdp: 2\n");
  CHECK(read_activity(source) == activity);
  source.set("net/snmp", "Tcp: A B\nTcp: 1 2\n");
  CHECK(read_activity(source) != activity);
}

TEST_CASE("where a namespace cannot be asked nothing is known of its activity") {
  CHECK_FALSE(read_activity(TextSource({{"net/snmp", ""}})).has_value());
  for (const auto& row : std::initializer_list<std::pair<const char*, const char*>>{
           {"net/snmp", "Ip: A\nIp: 1\n"},
           {"net/sockstat", "UDP: inuse 1\n"},
           {"net/sockstat", "TCP: inuse 1 orphan 0\n"},
           {"net/sockstat", "TCP: inuse x tw 1\n"},
           {"net/sockstat6", "UDP6: inuse 1\n"}}) {
    CAPTURE(row.first);
    CAPTURE(row.second);
    TextSource source = files();
    source.set(row.first, row.second);
    CHECK_FALSE(read_activity(source).has_value());
  }
  const TextSource without_ipv6{{"net/snmp", "Tcp: A\nTcp: 1\n"},
                                {"net/sockstat", "TCP: inuse 3 orphan 0 tw 2\n"}};
  REQUIRE(read_activity(without_ipv6).has_value());
  CHECK(read_activity(without_ipv6)->in_use == 3);
  const TextSource real = files();
  const FailingSource failing(real, Fault::kError, "net/sockstat6");
  CHECK_FALSE(read_activity(failing).has_value());
}

TEST_CASE("a dump is settled if only a segment, or a socket that comes or goes, can change it") {
  const auto states = [](std::initializer_list<std::pair<TcpState, std::uint32_t>> counts) {
    std::array<std::uint32_t, kTcpStates> all{};
    for (const auto& [state, n] : counts) all[static_cast<std::size_t>(state)] = n;
    return all;
  };
  const auto calm = states({{TcpState::kListen, 9}, {TcpState::kEstablished, 3}});
  CHECK(is_settled(calm, 0, 3));
  CHECK(is_settled(states({}), 0, 0));
  CHECK_FALSE(is_settled(calm, 1, 3));  // an application may read it
  CHECK_FALSE(is_settled(calm, 0, 4));  // one was missed
  CHECK_FALSE(is_settled(calm, 0, 2));  // one is over the limit
  for (const TcpState state : {TcpState::kCloseWait, TcpState::kSynReceived, TcpState::kTimeWait}) {
    CAPTURE(to_string(state));
    CHECK_FALSE(is_settled(states({{state, 1}}), 0, 1));
  }
}

TEST_CASE("a namespace is dumped if something moved, or somebody wants to see every connection") {
  const NamespaceActivity calm{"Tcp: 1", 3, 0};
  const NamespaceActivity moved{"Tcp: 2", 3, 0};
  const NamespaceActivity fewer{"Tcp: 1", 2, 0};
  const NamespaceActivity waiting{"Tcp: 1", 3, 1};
  const NamespaceActivity empty{"Tcp: 9", 0, 0};
  const NamespaceActivity only_waiting{"Tcp: 9", 0, 1};
  const LastDump settled{kT0, calm, true};
  const LastDump unsettled{kT0, calm, false};
  const LastDump none{};
  const struct {
    LastDump last;
    std::optional<NamespaceActivity> now;
    Clock::duration age;
    bool everything;
    DumpNeed need;
  } kTable[] = {
      {settled, calm, 1s, false, DumpNeed::kNone},
      {settled, calm, 5min, false, DumpNeed::kNone},
      {settled, calm, 5min + 1s, false, DumpNeed::kRenewal},
      {settled, calm, 1s, true, DumpNeed::kFull},
      {settled, moved, 1s, false, DumpNeed::kFull},
      {settled, fewer, 1s, false, DumpNeed::kFull},
      {settled, waiting, 1s, false, DumpNeed::kFull},
      {settled, std::nullopt, 1s, false, DumpNeed::kFull},
      {unsettled, calm, 1s, false, DumpNeed::kFull},
      {none, calm, 1s, false, DumpNeed::kFull},
      {none, std::nullopt, 1s, false, DumpNeed::kFull},
      {none, empty, 1s, false, DumpNeed::kEmpty},
      {settled, empty, 1h, true, DumpNeed::kEmpty},
      {unsettled, empty, 1s, false, DumpNeed::kEmpty},
      {settled, only_waiting, 1s, false, DumpNeed::kFull},
  };
  for (const auto& row : kTable) {
    CAPTURE(&row - kTable);
    CHECK(dump_need(row.last, row.now, kT0 + row.age, row.everything) == row.need);
  }
}
