#include <doctest/doctest.h>
#include <netinet/tcp.h>

#include <numeric>

#include "server/connection.h"
#include "server/vitals.h"

using namespace tcpvitals;

namespace {

TcpInfo established() {
  TcpInfo info{};
  info.state = TCP_ESTABLISHED;
  info.rtt_us = 300;
  info.min_rtt_us = 100;
  return info;
}

std::uint64_t count(const RttHistogram& h) {
  return std::accumulate(h.counts.begin(), h.counts.end(), std::uint64_t{0});
}

}  // namespace

TEST_CASE("totals move by the difference to the value last seen, across a wrap too") {
  TcpTotals totals;
  ConnectionVitals vitals;
  TcpInfo info = established();
  info.bytes_sent = 10;
  info.data_segs_out = 0xffffffff;
  info.total_retrans = 7;
  info.total_rto = 0xffff;
  vitals.update(info, totals);
  info.bytes_sent = 15;
  info.data_segs_out = 4;
  info.total_retrans = 9;
  info.total_rto = 1;
  vitals.update(info, totals);
  vitals.update(info, totals);
  CHECK(totals.sent_bytes == 15);
  CHECK(totals.data_segments_sent == 0x100000004);
  CHECK(totals.retransmitted_segments == 9);
  CHECK(totals.retransmission_timeouts == 0x10001);
}

TEST_CASE("the peer's FIN is no received byte, whenever it is noticed") {
  TcpInfo open = established();
  open.bytes_received = 100;
  TcpInfo half_closed = open;
  half_closed.state = TCP_CLOSE_WAIT;
  half_closed.bytes_received = 101;
  TcpInfo closed = half_closed;
  closed.state = TCP_CLOSE;

  TcpTotals seen;
  ConnectionVitals vitals;
  for (const TcpInfo& info : {open, half_closed, closed}) vitals.update(info, seen);
  CHECK(seen.received_bytes == 100);

  TcpTotals told;
  ConnectionVitals unseen;
  unseen.peer_fin = true;
  unseen.update(closed, told);
  CHECK(told.received_bytes == 100);

  // Noticed too late to take it back: a total never falls.
  TcpTotals raced;
  ConnectionVitals late;
  TcpInfo race = half_closed;
  race.state = TCP_ESTABLISHED;
  late.update(race, raced);
  late.update(half_closed, raced);
  CHECK(raced.received_bytes == 101);
}

TEST_CASE("the retransmit ratio is between 0 and 1, whatever was retransmitted without data") {
  ConnectionVitals vitals;
  CHECK(vitals.retransmit_ratio() == 0);
  vitals.retransmitted_segments = 3;  // SYN-ACKs
  CHECK(vitals.retransmit_ratio() == 0);
  vitals.data_segments_sent = 1;
  CHECK(vitals.retransmit_ratio() == 1);
  vitals.data_segments_sent = 12;
  CHECK(vitals.retransmit_ratio() == 0.25);
}

TEST_CASE("an RTT is observed when data was acknowledged since it last was") {
  TcpTotals totals;
  ConnectionVitals vitals;
  TcpInfo info = established();
  vitals.update(info, totals);
  CHECK(count(totals.rtt) == 0);
  info.bytes_acked = 1;
  vitals.update(info, totals);
  CHECK(count(totals.rtt) == 1);
  vitals.update(info, totals);
  CHECK(count(totals.rtt) == 1);
  info.bytes_acked = 5;
  vitals.update(info, totals);
  CHECK(count(totals.rtt) == 2);
  // The acknowledgement of our own FIN is not one of data.
  info.state = TCP_CLOSE;
  info.bytes_acked = 6;
  vitals.update(info, totals);
  vitals.finish(totals);
  CHECK(count(totals.rtt) == 2);
  CHECK(totals.rtt.counts[RttHistogram::bucket(300)] == 2);
  CHECK(count(totals.min_rtt) == 1);
  CHECK(totals.min_rtt.sum_us == 100);
}

TEST_CASE("a connection that never had data acknowledged is observed once, at close") {
  TcpTotals totals;
  ConnectionVitals vitals;
  vitals.update(established(), totals);
  vitals.finish(totals);
  CHECK(count(totals.rtt) == 1);
  CHECK(count(totals.min_rtt) == 1);

  TcpTotals none;
  ConnectionVitals unmeasured;
  TcpInfo info{};
  info.min_rtt_us = kNoRtt;
  unmeasured.update(info, none);
  unmeasured.finish(none);
  CHECK(count(none.rtt) == 0);
  CHECK(count(none.min_rtt) == 0);
}

TEST_CASE("a slab finds no connection by the tag of one that is gone") {
  ConnectionSlab slab;
  const auto some_fd = [] { return Fd(::dup(0)); };
  Connection& first = slab.acquire(some_fd());
  const std::uint64_t old_tag = first.tag();
  CHECK(slab.find(old_tag) == &first);
  slab.release(first);
  CHECK(slab.find(old_tag) == nullptr);
  Connection& second = slab.acquire(some_fd());
  CHECK(&second == &first);
  CHECK(second.tag() != old_tag);
  CHECK(slab.find(old_tag) == nullptr);
  CHECK(slab.find(second.tag()) == &second);
  CHECK(slab.find(second.tag() + 10 * ConnectionSlab::kChunk) == nullptr);

  for (std::size_t i = 0; i < 2 * ConnectionSlab::kChunk; ++i) slab.acquire(some_fd());
  CHECK(slab.find(second.tag()) == &second);
  CHECK(slab.live() == 2 * ConnectionSlab::kChunk + 1);
  CHECK(slab.chunks() == 3);
  std::size_t seen = 0;
  slab.for_each([&](Connection& c) {
    ++seen;
    slab.release(c);
  });
  CHECK(seen == 2 * ConnectionSlab::kChunk + 1);
  CHECK(slab.live() == 0);
}
