// What is told of connections besides how many: how they ended, what was repeated, what the path
// carried, who forgot to close, and how many local ports are taken.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include "tests/support/tracking.h"

using namespace tcpvitals;
using namespace tcpvitals::testing;

namespace {

std::uint64_t ended(const GroupStats& g, ConnectionEnd end) {
  return g.closed[static_cast<std::size_t>(end)];
}

FakeSocket in_close_wait(std::uint64_t cookie, std::chrono::seconds since_last_ack) {
  FakeSocket s{.cookie = cookie, .state = TcpState::kCloseWait};
  s.info.last_ack_received_ms =
      static_cast<std::uint32_t>(std::chrono::milliseconds(since_last_ack).count());
  return s;
}

// One of ours from `port` to 198.51.100.7:5432.
FakeSocket from(std::uint64_t cookie, std::uint16_t port) {
  FakeSocket s = client(cookie);
  s.local_port = port;
  return s;
}

}  // namespace

TEST_CASE("how a connection ended is told by whether its FIN was acknowledged") {
  struct Row {
    const char* what;
    TcpInfo info;
    bool outbound;
    ConnectionEnd end;
  };
  const Row rows[] = {
      {"all we sent and our FIN",
       {.bytes_acked = 1001, .bytes_sent = 1000},
       false,
       ConnectionEnd::kOrderly},
      {"our SYN too", {.bytes_acked = 1002, .bytes_sent = 1000}, true, ConnectionEnd::kOrderly},
      {"our SYN, but not our FIN",
       {.bytes_acked = 1001, .bytes_sent = 1000},
       true,
       ConnectionEnd::kReset},
      {"what was repeated is acknowledged once",
       {.bytes_acked = 701, .bytes_sent = 1000, .bytes_retransmitted = 300},
       false,
       ConnectionEnd::kOrderly},
      {"data is missing", {.bytes_acked = 900, .bytes_sent = 1000}, false, ConnectionEnd::kReset},
      {"nothing was ever sent", {}, false, ConnectionEnd::kReset},
      {"the FIN got through though data was repeated last",
       {.retransmits = 3, .bytes_acked = 1001, .bytes_sent = 1000},
       false,
       ConnectionEnd::kOrderly},
      {"nobody answered what was repeated",
       {.retransmits = 8, .bytes_acked = 900, .bytes_sent = 1000},
       false,
       ConnectionEnd::kTimeout},
      {"nobody answered the keepalives",
       {.probes = 9, .bytes_acked = 1001, .bytes_sent = 1000},
       true,
       ConnectionEnd::kTimeout},
  };
  for (const Row& row : rows) {
    for (const bool seen : {false, true}) {
      CAPTURE(row.what);
      CAPTURE(seen);
      Host h;
      h.dump({});
      FakeSocket s = row.outbound ? client(2) : FakeSocket{};
      if (seen) h.dump({s});
      s.info = row.info;
      s.info.min_rtt_us = 100;
      s.info.delivered = 1;
      h.event(s);
      const GroupStats& g = row.outbound ? h.outbound() : h.inbound();
      CHECK(ended(g, row.end) == 1);
      CHECK(g.closes() == 1);
    }
  }
}

TEST_CASE("an abort and a connection that vanished say so, whatever else was known of them") {
  Host h;
  h.dump({});
  h.dump({FakeSocket{.cookie = 1}, FakeSocket{.cookie = 2}});
  h.event(cleared({.cookie = 1}, true));
  CHECK(ended(h.inbound(), ConnectionEnd::kAborted) == 1);
  h.dump({});
  h.dump({});
  CHECK(ended(h.inbound(), ConnectionEnd::kUnknown) == 1);
  CHECK(h.inbound().closes() == 2);
}

TEST_CASE("a SYN that was repeated is told from data that was") {
  Host h;
  h.dump({});
  FakeSocket s = client(1);
  s.state = TcpState::kSynSent;
  s.info = {.total_retrans = 2, .min_rtt_us = kNoRtt};
  h.dump({s});
  CHECK(h.outbound().retransmitted_syns == 2);
  s.state = TcpState::kEstablished;
  s.info.total_retrans = 3;
  h.dump({s});
  CHECK(h.outbound().retransmitted_syns == 3);
  s.info.total_retrans = 7;
  s.info.data_segs_out = 10;
  s.info.bytes_sent = 10'000;
  s.info.bytes_retransmitted = 4'000;
  h.dump({s});
  CHECK(h.outbound().retransmitted_syns == 3);
  CHECK(h.outbound().retransmitted_segments == 7);
  s.info.total_retrans = 8;  // a FIN has no data either
  h.event(s);
  CHECK(h.outbound().retransmitted_syns == 4);
  CHECK(h.outbound().syns_sent == 5);
}

TEST_CASE("no group repeats more data segments than it sends, nor more SYNs") {
  struct Row {
    const char* what;
    TcpInfo info;
    std::uint64_t syns;
  };
  const Row rows[] = {
      {"SYNs only", {.total_retrans = 6}, 6},
      {"FINs only", {.total_retrans = 3, .bytes_sent = 900}, 3},
      {"one segment, sent again once, after five SYNs",
       {.total_retrans = 6, .data_segs_out = 2, .bytes_sent = 200, .bytes_retransmitted = 100},
       5},
      {"three of ten segments",
       {.total_retrans = 3, .data_segs_out = 10, .bytes_sent = 1000, .bytes_retransmitted = 300},
       0},
      {"the same SYN with data again (TFO)",
       {.total_retrans = 2, .data_segs_out = 1, .bytes_sent = 100, .bytes_retransmitted = 100},
       1},
  };
  for (const Row& row : rows) {
    for (const bool in_two_looks : {false, true}) {
      CAPTURE(row.what);
      CAPTURE(in_two_looks);
      Host h;
      h.dump({});
      FakeSocket s = client(1);
      if (in_two_looks) h.dump({s});
      s.info = row.info;
      s.info.min_rtt_us = 100;
      h.event(s);
      const GroupStats& g = h.outbound();
      CHECK(g.retransmitted_syns == row.syns);
      CHECK(g.retransmitted_segments - g.retransmitted_syns <= g.data_segments_sent);
      CHECK(g.syns_sent == 1 + row.syns);
    }
  }
}

TEST_CASE("each attempt and each accept sends a SYN, one of the baseline only its repeats") {
  Host h;
  FakeSocket old = client(1);
  old.state = TcpState::kSynSent;
  old.info = {.total_retrans = 1, .min_rtt_us = kNoRtt};
  h.dump({old});
  CHECK(h.outbound().syns_sent == 0);
  old.info.total_retrans = 3;
  h.event(old);
  CHECK(h.outbound().syns_sent == 2);
  CHECK(h.outbound().retransmitted_syns == 2);
  FakeSocket failed = client(2);
  failed.info = {.total_retrans = 4, .min_rtt_us = kNoRtt};
  h.event(failed);
  CHECK(h.outbound().syns_sent == 7);
  FakeSocket accepted{.cookie = 3};
  accepted.info.total_retrans = 2;  // SYN-ACKs
  h.dump({accepted});
  CHECK(h.inbound().syns_sent == 3);
  CHECK(h.inbound().retransmitted_syns == 2);
}

TEST_CASE("of a whole life that repeated data, what was a SYN cannot be told; else all of it was") {
  for (const std::uint64_t repeated_bytes : {0U, 500U}) {
    Host h;
    h.dump({});
    FakeSocket s{};
    s.info.total_retrans = 2;
    s.info.data_segs_out = 5;
    s.info.bytes_sent = 5'000;
    s.info.bytes_retransmitted = repeated_bytes;
    h.event(s);
    CHECK(h.inbound().retransmitted_segments == 2);
    CHECK(h.inbound().retransmitted_syns == (repeated_bytes == 0 ? 2 : 0));
  }
}

TEST_CASE("a delivery rate counts only where the application had more to send") {
  Host h;
  h.dump({});
  FakeSocket s{};
  s.info.rtt_us = 300;
  s.info.delivery_rate = 125'000'000;
  s.info.bytes_sent = s.info.bytes_acked = 5'000;
  s.info.delivery_rate_flags = 1;
  h.dump({s});
  CHECK(observations(h.inbound().rtt) == 1);
  CHECK(observations(h.inbound().delivery_rate) == 0);
  // The other bits of that byte say something else.
  h.now += std::chrono::seconds(10);
  s.info.delivery_rate_flags = 2;
  s.info.bytes_sent = s.info.bytes_acked = 9'000;
  h.dump({s});
  CHECK(observations(h.inbound().delivery_rate) == 1);
  h.dump({s});  // nothing new
  CHECK(observations(h.inbound().delivery_rate) == 1);
}

TEST_CASE("the time in CLOSE_WAIT runs from the peer's last acknowledgement") {
  using std::chrono::seconds;
  Host h({.close_wait_threshold = seconds(60)});
  h.dump({});
  h.dump({in_close_wait(1, seconds(45)), in_close_wait(2, seconds(5)), FakeSocket{.cookie = 3}});
  CHECK(h.inbound().last_dump.close_wait_oldest == 45);
  CHECK(h.inbound().last_dump.close_wait_old == 0);
  // It has acknowledged data since; it had closed before all the same.
  h.now += seconds(20);
  h.dump({in_close_wait(1, seconds(1)), in_close_wait(2, seconds(25)), FakeSocket{.cookie = 3}});
  CHECK(h.inbound().last_dump.close_wait_oldest == 65);
  CHECK(h.inbound().last_dump.close_wait_old == 1);
  h.now += seconds(40);
  FakeSocket closed = in_close_wait(1, seconds(1));
  closed.state = TcpState::kLastAck;
  h.dump({closed, in_close_wait(2, seconds(65)), FakeSocket{.cookie = 3}});
  CHECK(h.inbound().last_dump.close_wait_oldest == 65);
  CHECK(h.inbound().last_dump.close_wait_old == 1);
  h.dump({FakeSocket{.cookie = 3}});
  CHECK(h.inbound().last_dump.close_wait_oldest == 0);
  // A socket that was in CLOSE_WAIT, and is connected again, begins anew.
  h.dump({in_close_wait(4, seconds(45))});
  h.dump({FakeSocket{.cookie = 4}});
  h.dump({in_close_wait(4, seconds(2))});
  CHECK(h.inbound().last_dump.close_wait_oldest == 2);
}

TEST_CASE("the local ports in use are those to the busiest destination of a group") {
  Host h;
  FakeSocket elsewhere = from(10, 40010);
  elsewhere.remote = "198.51.100.8";
  h.dump({from(1, 40001), from(2, 40002), from(3, 40003), elsewhere});
  CHECK(h.outbound().last_dump.ephemeral_ports == 3);

  // TIME_WAIT holds its port; ports that a program chose itself, and a server's, are not at issue.
  FakeSocket time_wait = from(4, 40004);
  time_wait.state = TcpState::kTimeWait;
  time_wait.time_wait = true;
  time_wait.has_info = false;
  h.dump({from(1, 40001), from(2, 40002), from(3, 40003), time_wait, from(5, 2000),
          FakeSocket{.cookie = 6}});
  CHECK(h.outbound().last_dump.ephemeral_ports == 4);
  CHECK(h.inbound().last_dump.ephemeral_ports == 0);

  h.dump({from(1, 40001)});
  CHECK(h.outbound().last_dump.ephemeral_ports == 1);
}

TEST_CASE("two local addresses have twice the ports, two namespaces too") {
  Host h;
  FakeSocket other_address = from(2, 40001);
  other_address.local = "192.0.2.2";
  h.dump({from(1, 40001), other_address});
  CHECK(h.outbound().last_dump.ephemeral_ports == 1);

  Tracker second(h.shared, h.classifier);
  h.shared.begin_dump();
  for (Tracker* tracker : {&h.tracker, &second}) {
    tracker->begin_dump(h.now);
    const Bytes bytes = message(from(1, 40001));
    tracker->add_row(first_row(bytes));
    tracker->end_dump(h.now);
  }
  h.shared.end_dump();
  CHECK(h.outbound().last_dump.ephemeral_ports == 1);
}

TEST_CASE("destinations without end share the counts of ports, and a count does not come round") {
  Host h;
  h.begin();
  for (std::uint64_t i = 0; i < 70'000; ++i) {
    h.row(from(1 + i, static_cast<std::uint16_t>(40'000 + i % 20'000)));
  }
  h.end();
  CHECK(h.outbound().last_dump.ephemeral_ports == 65'535);
  h.begin();
  for (std::uint64_t i = 0; i < 200'000; ++i) {
    FakeSocket s = from(1 + i, 40'000);
    s.remote = fmt::format("198.51.{}.{}", 100 + i / 65'536, i % 256);
    s.remote_port = static_cast<std::uint16_t>(5000 + i / 256 % 256);
    s.has_info = false;
    s.time_wait = true;
    h.row(s);
  }
  h.end();
  std::uint32_t most = 0;
  for (const GroupTable::Group& g : h.groups.groups()) {
    most = std::max(most, g.stats.last_dump.ephemeral_ports);
  }
  CHECK(most > 0);
  CHECK(most < 30);  // three to a bucket, had they spread evenly
}
