#include "collectors/connections/tracker.h"

#include <doctest/doctest.h>

#include <functional>
#include <random>

#include "tests/support/tracking.h"

using namespace tcpvitals;
using namespace tcpvitals::testing;

TEST_CASE("rule 1: totals move by the difference to the value last seen") {
  Host w;
  w.dump({});
  FakeSocket s{};
  s.info.total_retrans = 7;
  s.info.data_segs_out = 100;
  w.dump({s});
  CHECK(w.inbound().retransmitted_segments == 7);
  s.info.total_retrans = 9;
  s.info.data_segs_out = 150;
  w.dump({s});
  CHECK(w.inbound().retransmitted_segments == 9);
  CHECK(w.inbound().data_segments_sent == 150);
}

TEST_CASE("rule 1: a 32-bit counter that wraps goes on, a 16-bit one too") {
  Host w;
  w.dump({});
  FakeSocket s{};
  s.info.data_segs_out = 0xfffffff0;
  s.info.total_rto = 0xfffe;
  w.dump({s});
  s.info.data_segs_out = 0x10;
  s.info.total_rto = 3;
  w.dump({s});
  CHECK(w.inbound().data_segments_sent == 0x100000010);
  CHECK(w.inbound().retransmission_timeouts == 0x10003);
}

TEST_CASE("rule 2: an event gives the final difference and forgets the cookie") {
  Host w;
  w.dump({});
  FakeSocket s{};
  s.info.bytes_sent = 1000;
  w.dump({s});
  s.info.bytes_sent = 1500;
  w.event(s);
  CHECK(w.inbound().sent_bytes == 1500);
  CHECK(w.inbound().opened == 1);
  CHECK(w.inbound().closes() == 1);
  CHECK(w.tracker.tracked() == 0);
  CHECK(live(w.inbound()) == 0);
}

TEST_CASE("rule 2: a connection that lived between two dumps counts whole") {
  Host w;
  w.dump({});
  FakeSocket s{};
  s.info.bytes_sent = 1000;
  s.info.total_retrans = 2;
  s.info.rtt_us = 300;
  w.event(s);
  CHECK(w.inbound().opened == 1);
  CHECK(w.inbound().closes() == 1);
  CHECK(w.inbound().sent_bytes == 1000);
  CHECK(w.inbound().retransmitted_segments == 2);
  CHECK(w.inbound().min_rtt.sample().counts[1] == 1);  // 50 us < 100 us <= 100 us
}

TEST_CASE("rule 2: of two sockets made of one handshake only the one the kernel kept counts") {
  Host w;
  w.dump({});
  FakeSocket spare{.cookie = 7, .info = {.segs_in = 1, .min_rtt_us = kNoRtt}};
  w.event(spare);
  CHECK(w.shown("inbound", "443") == nullptr);
  CHECK(w.tracker.stats().accepted == 0);

  SUBCASE("established without a measured round trip") { spare.info.delivered = 1; }
  SUBCASE("a kernel that does not tell what was delivered") {
    spare.info_length = offsetof(TcpInfo, delivered);
    spare.info.min_rtt_us = 90;
  }
  w.event(spare);
  CHECK(w.inbound().opened == 1);
  CHECK(w.inbound().closes() == 1);
  CHECK(w.tracker.stats().accepted == 1);
}

TEST_CASE("rule 2: a zero-linger abort is counted, without the counters the kernel cleared") {
  Host w;
  w.dump({});
  FakeSocket server{};
  w.event(cleared(server, true));
  CHECK(w.inbound().opened == 1);
  CHECK(w.inbound().closes() == 1);
  w.event(cleared(client(2), true));
  CHECK(w.group(Direction::kOutbound, kPortUnknown).opened == 1);
  CHECK(w.group(Direction::kOutbound, kPortUnknown).closes() == 1);
  CHECK(w.tracker.stats().closes_without_counters == 2);

  w.dump({client(3)});
  w.event(cleared(client(3), true));
  CHECK(w.outbound().opened == 1);  // a dump saw its port
  CHECK(w.outbound().closes() == 1);
  CHECK(w.tracker.stats().closes_without_counters == 3);
}

TEST_CASE("rule 2: an attempt that never was is a failure with a reason") {
  struct Row {
    const char* what;
    TcpInfo info;
    bool cleared;
    ConnectFailure reason;
    PortLabel port;
  };
  const Row rows[] = {
      {"refused",
       {.segs_out = 1, .segs_in = 1, .min_rtt_us = kNoRtt},
       false,
       ConnectFailure::kRefused,
       5432},
      {"no answer",
       {.total_retrans = 3, .segs_out = 4, .min_rtt_us = kNoRtt},
       false,
       ConnectFailure::kUnanswered,
       5432},
      {"given up, or rejected by ICMP",
       {.segs_out = 1, .min_rtt_us = kNoRtt},
       false,
       ConnectFailure::kUnanswered,
       5432},
      {"blocking", {}, true, ConnectFailure::kUnknown, kPortUnknown},
  };
  for (const Row& row : rows) {
    CAPTURE(row.what);
    Host w;
    w.dump({});
    FakeSocket s = client(2);
    s.info = row.info;
    w.event(row.cleared ? cleared(s, false) : s);
    const GroupStats& g = w.group(Direction::kOutbound, row.port);
    CHECK(g.failures[static_cast<std::size_t>(row.reason)] == 1);
    CHECK(g.opened == 0);
    CHECK(g.closes() == 0);
    CHECK(g.retransmitted_segments == row.info.total_retrans);
  }
}

TEST_CASE("rule 2: a blocking attempt fails for unknown reasons, whether a dump saw it or not") {
  Host w;
  w.dump({});
  FakeSocket s = client(2);
  s.state = TcpState::kSynSent;
  s.info = {.total_retrans = 1, .segs_out = 2, .min_rtt_us = kNoRtt};
  w.dump({s});
  CHECK(w.outbound().opened == 0);
  CHECK(w.outbound().connections[static_cast<std::size_t>(TcpState::kSynSent)] == 1);
  w.event(cleared(s, false));
  CHECK(w.outbound().failures[static_cast<std::size_t>(ConnectFailure::kUnknown)] == 1);
  CHECK(w.outbound().connections[static_cast<std::size_t>(TcpState::kSynSent)] == 0);
}

TEST_CASE("rule 2: a short success without a measured round trip is no failure") {
  Host w;
  w.dump({});
  FakeSocket s = client(2);
  s.info = {.bytes_acked = 1, .segs_out = 3, .segs_in = 1, .min_rtt_us = kNoRtt};
  w.event(s);
  CHECK(w.outbound().opened == 1);
  CHECK(w.outbound().closes() == 1);
}

TEST_CASE("rule 2: a peer that left a repeat or a probe unanswered has timed out") {
  struct Row {
    std::uint8_t retransmits;
    std::uint8_t probes;
    ConnectionEnd end;
  };
  for (const Row& row : {Row{0, 0, ConnectionEnd::kReset}, Row{1, 0, ConnectionEnd::kTimeout},
                         Row{0, 1, ConnectionEnd::kTimeout}, Row{2, 0, ConnectionEnd::kTimeout},
                         Row{0, 2, ConnectionEnd::kTimeout}}) {
    Host w;
    w.dump({});
    FakeSocket s{};
    s.info.retransmits = row.retransmits;
    s.info.probes = row.probes;
    s.info.bytes_sent = 100;
    w.event(s);
    CHECK(w.inbound().closed[static_cast<std::size_t>(row.end)] == 1);
  }
}

TEST_CASE("rule 8: a delivery rate is that of data, not of the FIN that was acknowledged last") {
  for (const bool fin_acknowledged : {false, true}) {
    Host w;
    w.dump({});
    FakeSocket s{};
    s.info.rtt_us = 300;
    s.info.bytes_sent = 100;
    s.info.bytes_acked = fin_acknowledged ? 101 : 100;
    s.info.delivery_rate = 1'000'000;
    w.event(s);
    CHECK(observations(w.inbound().rtt) == 1);
    CHECK(observations(w.inbound().delivery_rate) == (fin_acknowledged ? 0 : 1));
  }
}

TEST_CASE("rule 2: a socket used again after a disconnect is a new connection") {
  for (const bool by_event : {false, true}) {
    for (const bool other_peer : {false, true}) {
      CAPTURE(by_event);
      CAPTURE(other_peer);
      Host w;
      w.dump({});
      FakeSocket s = client(2);
      s.info.bytes_sent = 1000;
      w.dump({s});
      if (other_peer) s.remote = "198.51.100.8";
      s.info.bytes_sent = other_peer ? 5000 : 600;
      by_event ? w.event(s) : w.dump({s});
      CHECK(w.outbound().sent_bytes == 1000 + s.info.bytes_sent);
      CHECK(w.outbound().opened == 2);
      CHECK(w.outbound().closes() == (by_event ? 2 : 1));
      CHECK(live(w.outbound()) == (by_event ? 0 : 1));
      CHECK(w.tracker.stats().closes_without_counters == 1);
    }
  }
}

TEST_CASE("rule 2: a listener's end and a socket never used are nobody's connection") {
  Host w;
  w.dump({});
  w.event(
      {.local = "0.0.0.0", .remote = "0.0.0.0", .remote_port = 0, .info = {.min_rtt_us = kNoRtt}});
  w.event({.cookie = 2,
           .local = "::",
           .local_port = 0,
           .remote = "::",
           .remote_port = 0,
           .info = {.min_rtt_us = kNoRtt}});
  CHECK(w.tracker.stats().events == 0);
  CHECK(w.groups.groups().empty());
}

TEST_CASE("a row that the kernel wrote during a disconnect says only that the socket is there") {
  FakeSocket whole = client(1);
  whole.info.bytes_acked = 11;
  whole.info.bytes_sent = 10;
  FakeSocket counters_cleared = whole;
  counters_cleared.info = {.min_rtt_us = 100};
  FakeSocket all_cleared = counters_cleared;
  all_cleared.state = TcpState::kClose;
  all_cleared.local_port = all_cleared.remote_port = 0;
  FakeSocket event = counters_cleared;
  event.remote_port = 0;
  for (const FakeSocket& torn : {counters_cleared, all_cleared}) {
    CAPTURE(torn.local_port);
    Host w;
    w.dump({});
    w.dump({whole});
    w.dump({torn});
    w.dump({});  // the first miss
    CHECK(w.outbound().opened == 1);
    CHECK(w.outbound().closes() == 0);
    w.event(event);
    CHECK(w.outbound().opened == 1);
    CHECK(w.outbound().closes() == 1);
    CHECK(w.inbound().opened == 0);
  }
  {  // Never seen before: its event says whose it was.
    Host w;
    w.dump({});
    w.dump({all_cleared});
    CHECK(w.tracker.tracked() == 0);
    CHECK(w.groups.groups().empty());
    w.event(event);
    CHECK(w.group(Direction::kOutbound, kPortUnknown).closes() == 1);
  }
  {  // Its ends were read before. The disconnect cleared the time of what it received.
    Host w;
    w.dump({});
    counters_cleared.info.last_data_received_ms = 4'000'000'000;
    w.dump({counters_cleared});
    CHECK(w.outbound().opened == 1);
    CHECK(w.outbound().at_start == 0);
    w.event(event);
    CHECK(w.outbound().closes() == 1);
  }
}

TEST_CASE("rule 2: the second life of a socket whose first nobody saw is an attempt like any") {
  for (const bool dumped : {false, true}) {
    CAPTURE(dumped);
    Host w;
    w.dump({});
    FakeSocket attempt = client(1);
    attempt.state = TcpState::kSynSent;
    attempt.info = {.last_data_received_ms = 4'000'000'000, .segs_out = 1, .min_rtt_us = 50};
    if (dumped) w.dump({attempt});
    attempt.state = TcpState::kClose;
    attempt.info.segs_in = 1;
    w.event(attempt);
    CHECK(w.outbound().failures[static_cast<std::size_t>(ConnectFailure::kRefused)] == 1);
    CHECK(w.outbound().opened == 0);
    CHECK(w.outbound().at_start == 0);
    CHECK(w.tracker.stats().attempts == 1);
    CHECK(w.tracker.stats().closes_of_past == 0);
  }
}

TEST_CASE("rule 3: what was there at the start is a baseline") {
  Host w;
  FakeSocket s{};
  s.info.bytes_sent = 1'000'000;
  w.begin();
  w.row(s);
  w.event(FakeSocket{.cookie = 9});  // unknown, before the baseline is complete
  CHECK_FALSE(w.tracker.started());
  w.end();
  CHECK(w.tracker.started());
  CHECK(w.inbound().opened == 0);
  CHECK(w.inbound().at_start == 1);
  CHECK(w.inbound().sent_bytes == 0);
  s.info.bytes_sent += 5;
  w.event(s);
  CHECK(w.inbound().sent_bytes == 5);
  CHECK(w.inbound().closes() == 1);
  CHECK(live(w.inbound()) == 0);
}

TEST_CASE("rule 3: an attempt of the baseline that succeeds later is opened then") {
  Host w;
  FakeSocket s = client(2);
  s.state = TcpState::kSynSent;
  w.dump({s});
  s.state = TcpState::kEstablished;
  w.dump({s});
  CHECK(w.outbound().at_start == 0);
  CHECK(w.outbound().opened == 1);
}

TEST_CASE("rule 4: a row that comes after its socket's event does not revive it") {
  Host w;
  w.dump({});
  w.begin();
  w.event(FakeSocket{});
  w.row(FakeSocket{});
  w.end();
  CHECK(w.tracker.tracked() == 0);
  CHECK(w.inbound().opened == 1);
  CHECK(w.inbound().closes() == 1);
}

TEST_CASE("rule 5: one miss is not an end, two are; a late event adds only the difference") {
  Host w;
  w.dump({});
  FakeSocket s{};
  s.info.bytes_sent = 100;
  w.dump({s, client(2)});
  w.dump({client(2)});
  CHECK(w.inbound().closes() == 0);
  w.dump({s, client(2)});
  w.dump({client(2)});
  w.dump({client(2)});
  CHECK(w.inbound().closes() == 1);
  CHECK(w.tracker.stats().vanished == 1);
  CHECK(w.tracker.tracked() == 1);
  s.info.bytes_sent = 130;
  w.event(s);
  CHECK(w.inbound().sent_bytes == 130);
  CHECK(w.inbound().opened == 1);
  CHECK(w.inbound().closes() == 1);
  CHECK(w.tracker.stats().late_events == 1);
}

TEST_CASE("rule 5: a dump that broke off makes nothing missing") {
  Host w;
  w.dump({});
  w.dump({FakeSocket{}});
  for (int i = 0; i < 5; ++i) {
    w.begin();
    w.tracker.abandon_dump();
  }
  w.dump({FakeSocket{}});
  CHECK(w.tracker.stats().vanished == 0);
  CHECK(w.inbound().opened == 1);
}

TEST_CASE("rule 5: a vanished connection that is seen again lives again") {
  Host w;
  w.dump({});
  FakeSocket s{};
  s.info.bytes_sent = 100;
  w.dump({s});
  w.dump({});
  w.dump({});
  CHECK(live(w.inbound()) == 0);
  s.info.bytes_sent = 150;
  w.dump({s});
  CHECK(live(w.inbound()) == 1);
  CHECK(w.inbound().opened - w.inbound().closes() == 1);
  CHECK(w.inbound().sent_bytes == 150);
}

TEST_CASE("rule 5: a vanished connection is remembered for an hour") {
  for (const bool in_time : {true, false}) {
    Host w;
    w.dump({});
    w.dump({FakeSocket{}});
    w.dump({});
    w.dump({});
    w.now += std::chrono::minutes(in_time ? 60 : 61);
    w.dump({});
    FakeSocket s{};
    s.info.bytes_sent = 50;
    w.event(s);
    // After that only its cookie is: what it did since it was seen last is not known.
    CHECK(w.tracker.stats().late_events == (in_time ? 1 : 0));
    CHECK(w.tracker.stats().closes_of_past == (in_time ? 0 : 1));
    CHECK(w.inbound().sent_bytes == (in_time ? 50 : 0));
    CHECK(w.inbound().opened == 1);
    CHECK(w.inbound().closes() == 1);
    CHECK(w.tracker.past().size() == 0);
  }
}

TEST_CASE("rule 3: a socket that was reset before the start is not new when it is let go of") {
  using std::chrono::seconds;
  struct Row {
    const char* what;
    std::uint32_t sent_ms;
    std::uint32_t received_ms;
    std::uint64_t busy_us;
    bool is_new;
  };
  // Its event comes 60 s after the start.
  const Row rows[] = {{"all of its life is known", 100, 59'000, 59'000'000, true},
                      {"sent nothing since", 61'000, 5, 0, false},
                      {"received nothing since", 5, 61'000, 0, false},
                      {"was busy for longer", 5, 5, 61'000'000, false},
                      {"within the clock's ticks", 60'010, 0, 0, true}};
  for (const Row& row : rows) {
    CAPTURE(row.what);
    Host h;
    h.dump({});
    h.now += seconds(60);
    FakeSocket s = client(7);
    s.info.bytes_sent = 100'000'000;
    s.info.last_data_sent_ms = row.sent_ms;
    s.info.last_data_received_ms = row.received_ms;
    s.info.busy_us = row.busy_us;
    h.event(s);
    CHECK(h.outbound().opened == (row.is_new ? 1 : 0));
    CHECK(h.outbound().closes() == (row.is_new ? 1 : 0));
    CHECK(h.outbound().sent_bytes == (row.is_new ? 100'000'000 : 0));
    CHECK(h.tracker.stats().closes_of_past == (row.is_new ? 0 : 1));
    CHECK(h.tracker.stats().attempts == (row.is_new ? 1 : 0));
  }
}

TEST_CASE("rule 3: an attempt and a cleared socket have no ages, whatever the kernel says") {
  Host h;
  h.dump({});
  h.now += std::chrono::seconds(1);
  FakeSocket attempt = client(2);
  attempt.info = {.last_data_sent_ms = 4'000'000'000, .segs_in = 1, .min_rtt_us = kNoRtt};
  h.event(attempt);
  CHECK(h.outbound().failures[static_cast<std::size_t>(ConnectFailure::kRefused)] == 1);
  FakeSocket aborted = cleared(FakeSocket{.cookie = 3}, true);
  aborted.info.last_data_received_ms = 4'000'000'000;
  h.event(aborted);
  CHECK(h.inbound().closes() == 1);
  CHECK(h.tracker.stats().closes_of_past == 0);
}

TEST_CASE("rule 3: a connection of long before the start that a later dump shows is a baseline") {
  for (const bool old : {false, true}) {
    Host h;
    h.dump({});
    h.now += std::chrono::seconds(60);
    FakeSocket s{};
    s.info.bytes_sent = 1000;
    s.info.last_data_received_ms = old ? 90'000 : 61'000;  // the row may be read late
    h.dump({s});
    CHECK(h.inbound().at_start == (old ? 1 : 0));
    CHECK(h.inbound().opened == (old ? 0 : 1));
    CHECK(h.inbound().sent_bytes == (old ? 0 : 1000));
  }
}

TEST_CASE("rule 3: connections over the limit at the start have no past") {
  Host h({.limits = {.connections = 1}});
  std::vector<FakeSocket> sockets;
  for (std::uint64_t cookie = 1; cookie <= 10; ++cookie) {
    sockets.push_back({.cookie = cookie});
    sockets.back().info.bytes_sent = 5'000'000;
  }
  h.dump(sockets);
  CHECK(h.tracker.past().size() == 9);
  h.event(sockets[0]);
  h.event(sockets[1]);
  CHECK(h.tracker.past().size() == 8);
  CHECK(h.inbound().opened == 0);
  CHECK(h.inbound().closes() == 1);  // of the one that was tracked
  CHECK(h.inbound().sent_bytes == 0);
  CHECK(h.tracker.stats().closes_of_past == 1);
  // There is room: its past is not counted, what follows is.
  h.dump({sockets[2], sockets[3]});
  CHECK(h.inbound().at_start == 2);
  CHECK(h.tracker.past().size() == 7);
  sockets[2].info.bytes_sent += 7;
  h.event(sockets[2]);
  CHECK(h.inbound().sent_bytes == 7);
  CHECK(live(h.inbound()) == 0);
  // One that came later is new.
  h.event({.cookie = 99});
  CHECK(h.inbound().opened == 1);
}

TEST_CASE("rule 3: reset between two dumps and kept over one, a connection counts whole") {
  Host h;
  h.dump({});
  h.now += std::chrono::seconds(30);
  h.dump({});
  h.now += std::chrono::seconds(5);
  FakeSocket s = client(7);
  s.info.bytes_sent = 400;
  s.info.last_data_sent_ms = s.info.last_data_received_ms = 20'000;
  h.event(s);
  CHECK(h.outbound().opened == 1);
  CHECK(h.outbound().sent_bytes == 400);
}

TEST_CASE("rule 6: the direction is kept though the listener is gone") {
  Host w;
  w.dump({});
  w.dump({FakeSocket{}});
  w.now += std::chrono::minutes(5);
  w.listeners.begin();
  w.listeners.commit(w.now);
  w.event(FakeSocket{});
  CHECK(w.inbound().closes() == 1);
}

TEST_CASE("rule 7: LISTEN, TIME_WAIT and SYN_RECV count in states only") {
  Host w;
  w.dump({{.cookie = 1,
           .state = TcpState::kListen,
           .local = "0.0.0.0",
           .remote = "0.0.0.0",
           .remote_port = 0,
           .receive_queue = 9,
           .send_queue = 128},
          {.cookie = 2, .state = TcpState::kTimeWait, .has_info = false, .time_wait = true},
          {.cookie = 3, .state = TcpState::kFinWait2, .has_info = false, .time_wait = true},
          {.cookie = 4, .state = TcpState::kSynReceived, .has_info = false}});
  CHECK(w.tracker.tracked() == 0);
  CHECK(w.inbound().last_dump.send_queue_bytes == 0);
  CHECK(w.inbound().last_dump.time_wait == 1);
  CHECK(w.inbound().last_dump.fin_wait2 == 1);
  CHECK(w.inbound().last_dump.syn_received == 1);
  CHECK(w.tracker.last_dump().states[static_cast<std::size_t>(TcpState::kListen)] == 1);
  CHECK(w.tracker.last_dump().states[static_cast<std::size_t>(TcpState::kFinWait2)] == 1);
  w.dump({});
  CHECK(w.inbound().last_dump.time_wait == 0);
}

TEST_CASE("rule 8: an idle connection's round trip is observed once, not at every dump") {
  Host w;
  w.dump({});
  FakeSocket s{};
  s.info.rtt_us = 300;
  s.info.bytes_acked = 500;
  for (int i = 0; i < 5; ++i) w.dump({s});
  CHECK(observations(w.inbound().rtt) == 1);
  s.info.bytes_acked = 900;
  w.now += std::chrono::seconds(10);
  w.dump({s});
  CHECK(observations(w.inbound().rtt) == 2);
  s.info.bytes_acked = 901;  // our FIN
  w.event(s);
  CHECK(observations(w.inbound().rtt) == 2);

  FakeSocket silent{.cookie = 2};
  silent.info.rtt_us = 300;
  w.dump({silent});
  CHECK(observations(w.inbound().rtt) == 2);
  w.event(silent);
  CHECK(observations(w.inbound().rtt) == 3);
}

TEST_CASE("rule 8: two who look twenty times a second see no more round trips than one") {
  Host h;
  h.now = TimePoint(std::chrono::seconds(1'000'000));  // an interval begins
  h.dump({});
  FakeSocket s{};
  s.info.rtt_us = 300;
  s.info.delivery_rate = 1'000'000;
  for (int look = 0; look < 400; ++look) {
    s.info.bytes_sent = s.info.bytes_acked += 100;
    h.dump({s});
    h.now += std::chrono::milliseconds(50);
  }
  CHECK(observations(h.inbound().rtt) == 2);
  CHECK(observations(h.inbound().delivery_rate) == 2);
  s.info.bytes_sent = s.info.bytes_acked += 100;
  h.event(s);
  CHECK(observations(h.inbound().rtt) == 3);
}

TEST_CASE("rule 9: a short tcp_info of an older kernel says how much there was") {
  Host w;
  FakeSocket s{};
  s.info_length = 104;
  w.dump({s});
  CHECK(w.tracker.info_length() == 104);
}

TEST_CASE("rule 10: connections over the limit are counted when they close") {
  Host w({.limits = {.connections = 1}});
  w.dump({});
  FakeSocket second{.cookie = 2};
  second.info.bytes_sent = 70;
  w.dump({FakeSocket{}, second});
  CHECK(w.tracker.tracked() == 1);
  CHECK(w.tracker.last_dump().untracked == 1);
  CHECK(w.inbound().opened == 1);
  w.event(second);
  CHECK(w.inbound().opened == 2);
  CHECK(w.inbound().closes() == 1);
  CHECK(w.inbound().sent_bytes == 70);
}

TEST_CASE("a row that the kernel's walk shows twice counts once") {
  Host w;
  w.dump({});
  FakeSocket s{.send_queue = 10};
  w.dump({s, s, client(2), s});
  CHECK(w.inbound().opened == 1);
  CHECK(w.inbound().last_dump.send_queue_bytes == 10);
  CHECK(w.tracker.last_dump().states[1] == 2);
}

TEST_CASE("rows may come in any order, with any of the last dump's missing and new ones between") {
  const unsigned seed = std::random_device()();
  CAPTURE(seed);
  std::mt19937 random(seed);
  Host w;
  w.dump({});
  std::vector<FakeSocket> sockets;
  std::uint64_t cookie = 0;
  std::uint64_t sent = 0;
  for (int round = 0; round < 60; ++round) {
    // In some rounds nearly all go, in some a few; their events come before the dump or never.
    const auto percent = random() % 3 == 0 ? 90 : random() % 20;
    for (auto s = sockets.begin(); s != sockets.end();) {
      const bool ends = random() % 100 < percent;
      if (ends && random() % 8 != 0) w.event(*s);
      s = ends ? sockets.erase(s) : s + 1;
    }
    for (auto i = random() % 200; i > 0; --i) {
      const std::size_t where = random() % (sockets.size() + 1);
      sockets.insert(sockets.begin() + static_cast<std::ptrdiff_t>(where), {.cookie = ++cookie});
    }
    if (round % 10 == 9) std::shuffle(sockets.begin(), sockets.end(), random);
    for (FakeSocket& s : sockets) {
      s.info.bytes_sent += 10;
      sent += 10;
    }
    w.dump(sockets);
    CHECK(w.tracker.last_dump().states[1] == sockets.size());
    CHECK(w.inbound().opened == cookie);
    CHECK(w.inbound().sent_bytes == sent);
  }
}

TEST_CASE("the byte the kernel counts for a peer's FIN is no payload") {
  Host w;
  w.dump({});
  FakeSocket reading{};
  reading.info.bytes_received = 100;
  w.dump({reading});
  reading.state = TcpState::kCloseWait;
  reading.info.bytes_received = 101;
  w.dump({reading});
  CHECK(w.inbound().received_bytes == 100);
  reading.info.bytes_sent = 40;
  reading.info.bytes_acked = 41;
  w.event(reading);
  CHECK(w.inbound().received_bytes == 100);

  FakeSocket unseen = client(2);
  unseen.info.bytes_sent = 40;
  unseen.info.bytes_acked = 42;  // SYN, 40 bytes, FIN
  unseen.info.bytes_received = 101;
  w.event(unseen);
  CHECK(w.outbound().received_bytes == 100);

  FakeSocket reset = client(3);
  reset.info.bytes_sent = 40;
  reset.info.bytes_acked = 41;
  reset.info.bytes_received = 50;
  w.event(reset);
  CHECK(w.outbound().received_bytes == 150);
}

TEST_CASE("a FIN that a dump caught before the state had changed is no payload either") {
  Host w;
  w.dump({});
  FakeSocket s{};
  s.info.bytes_received = 100;
  w.dump({s});
  w.dump({s});
  CHECK(w.inbound().received_bytes == 100);  // open at the second look: the last byte was data
  s.info.bytes_received = 151;               // 50 and a FIN, the row still ESTABLISHED
  w.dump({s});
  CHECK(w.inbound().received_bytes == 150);
  s.state = TcpState::kCloseWait;
  w.dump({s});
  w.event(s);
  CHECK(w.inbound().received_bytes == 150);
}

TEST_CASE("a connection costs at most 128 bytes, its slot in the index included") {
  Host w;
  w.begin();
  for (std::uint64_t i = 1; i <= 100'000; ++i) w.row({.cookie = i});
  w.end();
  CHECK(w.tracker.tracked() == 100'000);
  CHECK(w.tracker.memory_bytes() / 100'000 <= 128);
}

TEST_CASE("rule 5: after events were lost one miss is an end") {
  Host h;
  h.dump({});
  h.dump({FakeSocket{.cookie = 1}, FakeSocket{.cookie = 2}});
  h.dump({FakeSocket{.cookie = 1}}, true);
  CHECK(h.inbound().closed[static_cast<std::size_t>(ConnectionEnd::kUnknown)] == 1);
  CHECK(live(h.inbound()) == 1);
  h.dump({});  // no loss since: it is one miss of two again
  CHECK(live(h.inbound()) == 1);
  h.dump({});
  CHECK(live(h.inbound()) == 0);
  CHECK(h.tracker.stats().vanished == 2);
}

TEST_CASE("rule 5: one that vanished twice is remembered from the second time") {
  Host h;
  h.dump({});
  h.dump({FakeSocket{}});
  h.dump({}, true);
  h.now += std::chrono::minutes(50);
  h.dump({FakeSocket{}});
  h.dump({}, true);
  h.now += std::chrono::minutes(20);
  h.dump({});
  h.event(FakeSocket{});
  CHECK(h.tracker.stats().late_events == 1);
  CHECK(h.inbound().opened == 2);  // its return is one
  CHECK(h.inbound().closes() == 2);
}

TEST_CASE("rule 2: connecting again with the socket of a failed attempt is another attempt") {
  for (const bool other_peer : {false, true}) {
    CAPTURE(other_peer);
    Host h;
    h.dump({});
    FakeSocket s = client(2);
    s.state = TcpState::kSynSent;
    s.info = {.total_retrans = 6, .min_rtt_us = kNoRtt};
    h.dump({s});
    if (other_peer) s.remote = "198.51.100.8";
    s.info.total_retrans = 1;  // from zero again: no counter that wrapped
    h.dump({s});
    CHECK(h.outbound().failures[static_cast<std::size_t>(ConnectFailure::kUnknown)] == 1);
    CHECK(h.outbound().retransmitted_segments == 7);
    CHECK(h.outbound().retransmitted_syns == 7);
    CHECK(h.outbound().opened == 0);
    CHECK(h.tracker.stats().attempts == 2);
    CHECK(h.tracker.tracked() == 1);
  }
}

TEST_CASE("rule 2: more bytes in fewer segments than before are another connection's") {
  Host h;
  h.dump({});
  FakeSocket s = client(2);
  s.info.data_segs_out = 10;
  s.info.bytes_sent = 1'000;
  h.dump({s});
  s.info.data_segs_out = 3;
  s.info.bytes_sent = 4'000;
  h.dump({s});
  CHECK(h.outbound().opened == 2);
  CHECK(h.outbound().data_segments_sent == 13);
  CHECK(h.outbound().sent_bytes == 5'000);
}

TEST_CASE("rule 1: retransmissions that wrap go on, for data was repeated") {
  Host h;
  h.dump({});
  FakeSocket s{};
  s.info.total_retrans = s.info.data_segs_out = 0xfffffffe;
  s.info.bytes_sent = s.info.bytes_retransmitted = 5'000'000'000;
  h.dump({s});
  s.info.total_retrans = s.info.data_segs_out = 3;
  s.info.bytes_sent = s.info.bytes_retransmitted = 5'000'009'000;
  h.dump({s});
  CHECK(h.inbound().retransmitted_segments == 0x100000003);
  CHECK(h.inbound().opened == 1);
}
