// What the last tcp_info proves, as a table.
#include "collectors/connections/verdicts.h"

#include <doctest/doctest.h>

#include "tests/support/tracking.h"

using namespace tcpvitals;
using namespace tcpvitals::testing;

TEST_CASE("rule 2: how a connection ended") {
  struct Row {
    const char* what;
    TcpInfo info;
    std::uint32_t length;
    TcpState last_seen;
    bool cleared;
    ConnectionEnd end;
  };
  constexpr auto kClose = TcpState::kClose;
  const TcpInfo orderly{.bytes_acked = 102, .bytes_sent = 100};
  const TcpInfo unfinished{.bytes_acked = 101, .bytes_sent = 100};
  TcpInfo one_repeat = unfinished;
  one_repeat.retransmits = 1;
  TcpInfo one_probe = unfinished;
  one_probe.probes = 1;
  const Row rows[] = {
      {"SYN, data and FIN acknowledged", orderly, 280, kClose, false, ConnectionEnd::kOrderly},
      {"the FIN not", unfinished, 280, kClose, false, ConnectionEnd::kReset},
      {"one keepalive probe unanswered", one_probe, 280, kClose, false, ConnectionEnd::kTimeout},
      {"one repeat unanswered", one_repeat, 280, kClose, false, ConnectionEnd::kTimeout},
      {"disconnected first", {}, 280, kClose, true, ConnectionEnd::kAborted},
      {"no bytes_sent to compare with", orderly, 192, kClose, false, ConnectionEnd::kUnknown},
      {"and of the very old", orderly, 104, kClose, false, ConnectionEnd::kUnknown},
      {"a dump saw its FIN acknowledged", orderly, 192, TcpState::kFinWait2, false,
       ConnectionEnd::kOrderly},
      {"a dump saw it sent", orderly, 192, TcpState::kFinWait1, false, ConnectionEnd::kUnknown},
      {"a repeat unanswered, on any kernel", one_repeat, 192, kClose, false,
       ConnectionEnd::kTimeout},
      {"a probe unanswered, on any kernel", one_probe, 144, kClose, false, ConnectionEnd::kTimeout},
  };
  for (const Row& row : rows) {
    CAPTURE(row.what);
    SocketRow event;
    event.remote_port = row.cleared ? 0 : 5432;
    CHECK(end_of(event, read_tcp_info(&row.info, row.length), true, row.last_seen) == row.end);
  }
}

TEST_CASE("rule 2: why an attempt failed") {
  struct Row {
    const char* what;
    TcpInfo info;
    std::uint32_t length;
    bool cleared;
    ConnectFailure reason;
  };
  const Row rows[] = {
      {"a reset came", {.segs_out = 1, .segs_in = 1}, 280, false, ConnectFailure::kRefused},
      {"a reset came to the second SYN",
       {.total_retrans = 1, .segs_out = 2, .segs_in = 1},
       280,
       false,
       ConnectFailure::kRefused},
      {"nothing came, once asked", {.segs_out = 1}, 280, false, ConnectFailure::kUnanswered},
      {"nothing came, often asked",
       {.retransmits = 6, .total_retrans = 6, .segs_out = 7},
       280,
       false,
       ConnectFailure::kUnanswered},
      {"a blocking connect", {}, 280, true, ConnectFailure::kUnknown},
      {"a kernel that does not count segments", {}, 136, false, ConnectFailure::kUnknown},
      {"one that does", {}, 144, false, ConnectFailure::kUnanswered},
  };
  for (const Row& row : rows) {
    CAPTURE(row.what);
    SocketRow event;
    event.remote_port = row.cleared ? 0 : 5432;
    CHECK(failure_of(event, read_tcp_info(&row.info, row.length)) == row.reason);
  }
}

TEST_CASE("rule 3: a connection is as old as its oldest sign") {
  const auto age = [](TcpInfo info) {
    info.segs_in = 2;
    SocketRow row;
    row.remote_port = 5432;
    return age_of(row, read_tcp_info(&info, sizeof info)).count();
  };
  CHECK(age({.last_data_sent_ms = 90, .last_data_received_ms = 40, .delivered = 1}) == 90);
  CHECK(age({.last_data_sent_ms = 90, .last_data_received_ms = 4'000'000'000, .delivered = 1}) ==
        4'000'000'000);
  CHECK(age({.last_data_sent_ms = 9, .busy_us = 8'500'000, .delivered = 1}) == 8'500);
  // An attempt has none, whatever its socket was before.
  CHECK(age({.last_data_sent_ms = 90, .min_rtt_us = kNoRtt}) == 0);
  CHECK(age({.last_data_sent_ms = 90, .last_data_received_ms = 4'000'000'000, .min_rtt_us = 9}) ==
        0);
}

TEST_CASE(
    "rule 3: of more cookies than there is room for the oldest half is dropped, and counted") {
  PastSockets past;
  constexpr std::uint64_t kMost = PastSockets::kMaxCookies;
  for (std::uint64_t cookie = 1; cookie <= kMost; ++cookie) past.remember(cookie);
  past.remember(7);
  CHECK(past.size() == kMost);
  CHECK(past.dropped() == 0);
  past.remember(kMost + 1);
  CHECK(past.dropped() == kMost / 2);
  CHECK(past.size() == kMost / 2 + 1);
  CHECK_FALSE(past.contains(7));
  CHECK(past.contains(kMost));
  CHECK(past.forget(kMost));
  CHECK_FALSE(past.forget(kMost));
  CHECK_FALSE(past.contains(kMost));
}
