#include <doctest/doctest.h>
#include <netinet/tcp.h>

#include <numeric>

#include "server/connection.h"
#include "server/vitals.h"

using namespace tcpvitals;

namespace {

TcpInfoSample established() {
  TcpInfoSample sample{.info = {}, .length = sizeof(TcpInfo)};
  sample.info.state = TCP_ESTABLISHED;
  sample.info.rtt_us = 300;
  sample.info.min_rtt_us = 100;
  return sample;
}

std::uint64_t count(const RttHistogram& h) {
  return std::accumulate(h.counts.begin(), h.counts.end(), std::uint64_t{0});
}

constexpr TimePoint kNow{std::chrono::seconds(1'000'000)};

}  // namespace

TEST_CASE("vitals keep the round trips last read, and what was repeated without data") {
  TcpTotals totals;
  ConnectionVitals vitals;
  TcpInfoSample sample = established();
  sample.info.total_retrans = 3;  // SYN-ACKs
  vitals.update(sample, kNow, totals);
  CHECK(vitals.rtt_us == 300);
  CHECK(vitals.min_rtt_us == 100);
  CHECK(vitals.retransmitted_syns == 3);
  CHECK(vitals.retransmit_ratio() == 0);
  sample.info.total_retrans = 5;
  sample.info.data_segs_out = 10;
  sample.info.bytes_sent = 1000;
  sample.info.bytes_retransmitted = 200;
  sample.info.rtt_us = 400;
  vitals.finish(sample, totals);
  CHECK(vitals.rtt_us == 400);
  CHECK(vitals.retransmit_ratio() == 0.2);
  CHECK(totals.retransmitted_segments == 5);
  CHECK(totals.retransmitted_syns == 3);
  CHECK(count(totals.min_rtt) == 1);
}

TEST_CASE("the peer's FIN is no received byte, whether the state tells or who read the stream") {
  TcpInfoSample open = established();
  open.info.bytes_received = 100;
  TcpInfoSample half_closed = open;
  half_closed.info.state = TCP_CLOSE_WAIT;
  half_closed.info.bytes_received = 101;
  TcpInfoSample closed = half_closed;
  closed.info.state = TCP_CLOSE;

  TcpTotals seen;
  ConnectionVitals vitals;
  vitals.update(open, kNow, seen);
  vitals.update(half_closed, kNow, seen);
  vitals.finish(closed, seen);
  CHECK(seen.received_bytes == 100);

  TcpTotals told;
  ConnectionVitals unseen;
  unseen.peer_fin = true;
  unseen.finish(closed, told);
  CHECK(told.received_bytes == 100);

  // The state was read before the FIN came.
  TcpTotals raced;
  ConnectionVitals late;
  TcpInfoSample race = half_closed;
  race.info.state = TCP_ESTABLISHED;
  late.update(race, kNow, raced);
  late.update(half_closed, kNow, raced);
  late.finish(closed, raced);
  CHECK(raced.received_bytes == 100);
}

TEST_CASE("we end a connection that the peer has not ended: its last byte is data") {
  for (const int state : {TCP_ESTABLISHED, TCP_FIN_WAIT1, TCP_FIN_WAIT2}) {
    TcpTotals totals;
    ConnectionVitals vitals;
    TcpInfoSample sample = established();
    sample.info.state = static_cast<std::uint8_t>(state);
    sample.info.bytes_received = 50;
    sample.info.bytes_sent = 10;
    sample.info.bytes_acked = 11;
    vitals.finish(sample, totals);
    CHECK(totals.received_bytes == 50);
  }
}

TEST_CASE("a kernel that does not know the lowest round trip has none") {
  const TcpInfo cut{.state = TCP_ESTABLISHED, .rtt_us = 300};
  TcpTotals totals;
  ConnectionVitals vitals;
  vitals.finish(read_tcp_info(&cut, 104), totals);
  CHECK_FALSE(vitals.has_min_rtt());
  CHECK(count(totals.min_rtt) == 0);
}

TEST_CASE("the retransmit ratio is between 0 and 1, whatever was retransmitted without data") {
  ConnectionVitals vitals;
  CHECK(vitals.retransmit_ratio() == 0);
  vitals.retransmitted_segments = 3;
  CHECK(vitals.retransmit_ratio() == 0);
  vitals.data_segments_sent = 1;
  CHECK(vitals.retransmit_ratio() == 1);
  vitals.data_segments_sent = 12;
  CHECK(vitals.retransmit_ratio() == 0.25);
  vitals.retransmitted_syns = 3;
  CHECK(vitals.retransmit_ratio() == 0);
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
