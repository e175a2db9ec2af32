// One engine of differences, for the tracker and for the embedded server.
#include "collectors/sock_diag/tcp_meter.h"

#include <doctest/doctest.h>

#include <numeric>

using namespace tcpvitals;

namespace {

constexpr PathInterval kInterval = 7;

TcpInfoSample sample_of(const TcpInfo& info, std::uint32_t length = sizeof(TcpInfo)) {
  return {.info = info, .length = length};
}

TcpInfoSample established(TcpInfo info) {
  info.rtt_us = 300;
  info.min_rtt_us = 100;
  return sample_of(info);
}

std::uint64_t count(const auto& histogram) {
  return std::accumulate(histogram.counts.begin(), histogram.counts.end(), std::uint64_t{0});
}

// The counter of a row, as the kernel holds it.
void set(TcpInfo& info, const TcpCounterRow& row, std::uint64_t value) {
#define X(member, kernel, sum, ...)                          \
  if (row.total == &TcpTotals::sum) {                        \
    info.member = static_cast<decltype(info.member)>(value); \
  }
  TCPVITALS_TCP_COUNTERS(X, )
#undef X
}

}  // namespace

TEST_CASE("rule 1: each counter of the table moves its total by the difference, across a wrap") {
  for (const TcpCounterRow& row : kTcpCounters) {
    CAPTURE(row.name);
    TcpTotals totals;
    TcpMeter meter;
    TcpInfo info{};
    set(info, row, 40);
    meter.start(info, TcpState::kCloseWait);
    set(info, row, 100);
    meter.look(sample_of(info), TcpState::kCloseWait, kInterval, totals);
    meter.look(sample_of(info), TcpState::kCloseWait, kInterval, totals);
    CHECK(totals.*row.total == 60);
    for (const TcpCounterRow& other : kTcpCounters) {
      if (other.total != row.total) CHECK(totals.*other.total == 0);
    }
    // Times step back, and others wrap.
    std::uint64_t wrapped = 0;
    set(info, row, 90);
    TcpInfo full{};
    set(full, row, ~std::uint64_t{0});
#define X(member, kernel, sum, ...) \
  if (row.total == &TcpTotals::sum) wrapped = sizeof info.member < 8 ? full.member - 9 : 0;
    TCPVITALS_TCP_COUNTERS(X, )
#undef X
    meter.look(sample_of(info), TcpState::kCloseWait, kInterval, totals);
    CHECK(totals.*row.total == 60 + wrapped);
    set(info, row, 110);
    meter.look(sample_of(info), TcpState::kCloseWait, kInterval, totals);
    CHECK(totals.*row.total == 70 + (wrapped > 0 ? wrapped + 10 : 0));
  }
}

TEST_CASE("totals add up field by field") {
  TcpTotals sum;
  TcpTotals one;
  std::uint64_t value = 0;
  for (const TcpCounterRow& row : kTcpCounters) one.*row.total = ++value;
  one.retransmitted_syns = 77;
  one.rtt.observe(10);
  one.min_rtt.observe(20);
  one.min_rtt.observe(20);
  one.delivery_rate.observe(30);
  sum += one;
  sum += one;
  value = 0;
  for (const TcpCounterRow& row : kTcpCounters) CHECK(sum.*row.total == 2 * ++value);
  CHECK(sum.retransmitted_syns == 154);
  CHECK(count(sum.rtt) == 2);
  CHECK(count(sum.min_rtt) == 4);
  CHECK(count(sum.delivery_rate) == 2);
  CHECK(sum.delivery_rate.sum == 60);
}

TEST_CASE("the table: names, in order of width, rows of one metric in a row") {
  std::size_t width = sizeof(std::uint64_t);
#define X(member, ...)                     \
  CHECK(sizeof(TcpInfo::member) <= width); \
  width = sizeof(TcpInfo::member);
  TCPVITALS_TCP_COUNTERS(X, )
#undef X
  for (std::size_t i = 0; i < std::size(kTcpCounters); ++i) {
    const TcpCounterRow& row = kTcpCounters[i];
    CAPTURE(row.metric);
    CHECK(row.metric.starts_with("tcp_"));
    CHECK(row.metric.ends_with("_total"));
    CHECK(kServerTcpCounters[i].metric == "tcp_server_" + std::string(row.metric.substr(4)));
    if (row.help.empty()) CHECK(row.metric == kTcpCounters[i - 1].metric);
  }
}

TEST_CASE("the last byte that came is held back until the next look finds no FIN") {
  TcpTotals totals;
  TcpMeter meter;
  const auto look = [&](std::uint64_t received, TcpState state) {
    meter.look(established({.bytes_received = received}), state, kInterval, totals);
    return totals.received_bytes;
  };
  CHECK(look(100, TcpState::kEstablished) == 99);
  CHECK(look(100, TcpState::kEstablished) == 100);
  CHECK(look(151, TcpState::kEstablished) == 150);  // 50 and a FIN, the state read before
  CHECK(look(151, TcpState::kCloseWait) == 150);
  CHECK(look(151, TcpState::kLastAck) == 150);
}

TEST_CASE("the last byte is held back while a reset that came since hides the FIN") {
  TcpTotals totals;
  TcpMeter meter;
  meter.look(established({.bytes_received = 5}), TcpState::kEstablished, kInterval, totals);
  meter.look(established({.bytes_received = 5}), TcpState::kEstablished, kInterval, totals);
  CHECK(totals.received_bytes == 5);
  for (int looks = 0; looks < 3; ++looks) {
    meter.look(established({.bytes_received = 6}), TcpState::kClose, kInterval, totals);
    CHECK(totals.received_bytes == 5);
  }
  meter.peer_fin = true;  // who reads the stream was told
  meter.finish(established({.bytes_received = 6}), totals);
  CHECK(totals.received_bytes == 5);
}

TEST_CASE("rule 9: where the kernel does not tell an orderly end, the last byte may be a FIN") {
  const TcpInfo info{.min_rtt_us = kNoRtt};
  for (const std::uint32_t length : {144U, 192U, 215U, 216U, 280U}) {
    CAPTURE(length);
    TcpInfo last = info;
    last.bytes_received = 31;
    last.bytes_acked = 5;
    TcpTotals totals;
    TcpMeter meter;
    meter.finish(read_tcp_info(&last, length), totals);
    CHECK(totals.received_bytes == (length < 216 ? 30 : 31));
    CHECK(fin_acknowledged(read_tcp_info(&last, length), false) ==
          (length < 216 ? FinAcknowledged::kNotTold : FinAcknowledged::kNo));
  }
}

TEST_CASE(
    "rule 8: a path is observed at two bytes acknowledged, once in an interval, and at the close") {
  TcpTotals totals;
  TcpMeter meter;
  const auto look = [&](std::uint64_t acked, PathInterval interval) {
    meter.look(established({.bytes_acked = acked}), TcpState::kEstablished, interval, totals);
    return count(totals.rtt);
  };
  CHECK(look(1, 7) == 0);  // a SYN, perhaps
  CHECK(look(2, 7) == 1);
  CHECK(look(900, 7) == 1);
  CHECK(look(900, 8) == 2);  // acknowledged since the last observation, if not since the last look
  CHECK(look(901, 9) == 2);
  CHECK(look(902, 9) == 3);
  meter.finish(established({.bytes_acked = 903}), totals);  // our FIN
  CHECK(count(totals.rtt) == 3);
  CHECK(count(totals.min_rtt) == 1);
}

TEST_CASE("rule 8: at the close, what was acknowledged since, or a path never observed") {
  for (const bool since : {false, true}) {
    TcpTotals totals;
    TcpMeter meter;
    meter.look(established({.bytes_acked = 10}), TcpState::kEstablished, kInterval, totals);
    meter.finish(established({.bytes_acked = since ? 12U : 11U}), totals);
    CHECK(count(totals.rtt) == (since ? 2 : 1));
  }
  TcpTotals totals;
  TcpMeter silent;
  silent.finish(established({}), totals);
  CHECK(count(totals.rtt) == 1);
  TcpMeter unmeasured;
  unmeasured.finish(sample_of({.min_rtt_us = kNoRtt}), totals);
  CHECK(count(totals.rtt) == 1);
  CHECK(count(totals.min_rtt) == 1);
}

TEST_CASE("rule 8: an interval is ten seconds") {
  const TimePoint start{std::chrono::seconds(50)};
  CHECK(path_interval(start) == path_interval(start + std::chrono::milliseconds(9'999)));
  CHECK(path_interval(start + std::chrono::seconds(10)) == path_interval(start) + 1);
}

TEST_CASE("a delivery rate is of data that the application did not limit") {
  struct Row {
    TcpInfo info;
    TcpState state;
    std::uint32_t length;
    std::uint64_t observed;
  };
  const TcpInfo rate{
      .delivery_rate_flags = 2, .bytes_acked = 100, .delivery_rate = 1'000'000, .bytes_sent = 100};
  TcpInfo limited = rate;
  limited.delivery_rate_flags = 1;
  TcpInfo fin = rate;
  fin.bytes_acked = 101;
  const Row rows[] = {{rate, TcpState::kEstablished, 280, 1},
                      {limited, TcpState::kEstablished, 280, 0},
                      {fin, TcpState::kFinWait2, 280, 0},
                      {rate, TcpState::kCloseWait, 192, 1},
                      {rate, TcpState::kFinWait2, 192, 0}};
  for (const Row& row : rows) {
    TcpTotals totals;
    TcpMeter meter;
    TcpInfoSample sample = established(row.info);
    sample.length = row.length;
    meter.look(sample, row.state, kInterval, totals);
    CHECK(count(totals.rtt) == 1);
    CHECK(count(totals.delivery_rate) == row.observed);
  }
}
