#include "collectors/attribution/handshake.h"

#include <doctest/doctest.h>

#include "tests/support/diag_builder.h"

using namespace tcpvitals;
using namespace tcpvitals::testing;

namespace {

constexpr auto kUs = OpenedBy::kUs;
constexpr auto kPeer = OpenedBy::kPeer;

// Counters as the kernel shows them in that state.
FakeSocket in_state(TcpState state, TcpInfo info, std::uint32_t send_queue = 0) {
  info.state = static_cast<std::uint8_t>(state);
  return {.state = state, .send_queue = send_queue, .info = info};
}

std::optional<OpenedBy> opener(const FakeSocket& s) {
  const Bytes bytes = message(s);
  return opened_by(first_row(bytes));
}

}  // namespace

TEST_CASE("any of four counters shows that a connection was established") {
  const auto established = [](const TcpInfo& info, std::uint16_t remote_port = 443,
                              std::size_t length = sizeof(TcpInfo)) {
    SocketRow row;
    row.remote_port = remote_port;
    return was_established(row, read_tcp_info(&info, length));
  };
  CHECK_FALSE(established({.segs_in = 1, .min_rtt_us = kNoRtt}));
  CHECK(established({.min_rtt_us = kNoRtt, .delivered = 1}));
  CHECK(established({.bytes_acked = 1, .min_rtt_us = kNoRtt}));
  CHECK(established({.bytes_received = 1, .min_rtt_us = kNoRtt}));
  CHECK(established({.rtt_us = 1, .min_rtt_us = kNoRtt}));
  // The shortest round trip may be that of the socket's former life.
  CHECK_FALSE(established({.segs_in = 1, .min_rtt_us = 50}));
  CHECK(established({.min_rtt_us = 50}, 0));
  CHECK_FALSE(established({.min_rtt_us = kNoRtt}, 0));
  CHECK(established({.segs_in = 1, .min_rtt_us = 50}, 443, offsetof(TcpInfo, delivered)));
}

namespace {

struct Row {
  const char* what;
  FakeSocket socket;
  std::optional<OpenedBy> opener;
};

}  // namespace

TEST_CASE("an acknowledged SYN of ours tells who opened a connection") {
  using S = TcpState;
  const Row rows[] = {
      {"idle, accepted", in_state(S::kEstablished, {.min_rtt_us = 9, .delivered = 1}), kPeer},
      {"disconnected after its state was read",
       in_state(S::kEstablished, {.unacked = 0, .min_rtt_us = 9}), std::nullopt},
      {"idle, ours", in_state(S::kEstablished, {.bytes_acked = 1, .min_rtt_us = 9}), kUs},
      {"accepted, and its FIN acknowledged after its state was read",
       in_state(S::kEstablished, {.bytes_acked = 34,
                                  .min_rtt_us = 9,
                                  .data_segs_out = 1,
                                  .delivered = 3,
                                  .bytes_sent = 33}),
       std::nullopt},
      {"half closed and accepted, likewise",
       in_state(S::kCloseWait, {.bytes_acked = 34,
                                .min_rtt_us = 9,
                                .data_segs_out = 1,
                                .delivered = 3,
                                .bytes_sent = 33}),
       std::nullopt},
      {"ours, and its FIN acknowledged after its state was read",
       in_state(S::kEstablished, {.bytes_acked = 35,
                                  .min_rtt_us = 9,
                                  .data_segs_out = 1,
                                  .delivered = 3,
                                  .bytes_sent = 33}),
       kUs},
      {"more segments sent than can be counted, ours",
       in_state(S::kEstablished, {.bytes_acked = 501,
                                  .min_rtt_us = 9,
                                  .data_segs_out = 3,
                                  .delivered = 4'294'967'290,
                                  .bytes_sent = 500}),
       kUs},
      {"with data, accepted",
       in_state(S::kEstablished, {.bytes_acked = 500, .min_rtt_us = 9, .bytes_sent = 500}), kPeer},
      {"with data, ours",
       in_state(S::kCloseWait, {.bytes_acked = 501, .min_rtt_us = 9, .bytes_sent = 500}), kUs},
      {"with data that was repeated",
       in_state(
           S::kEstablished,
           {.bytes_acked = 501, .min_rtt_us = 9, .bytes_sent = 700, .bytes_retransmitted = 200}),
       kUs},
      {"300 bytes in flight, 50 not sent, ours",
       in_state(S::kEstablished,
                {.unacked = 2,
                 .bytes_acked = 201,
                 .notsent_bytes = 50,
                 .min_rtt_us = 9,
                 .bytes_sent = 500},
                350),
       kUs},
      {"300 bytes in flight, accepted",
       in_state(S::kEstablished,
                {.unacked = 2, .bytes_acked = 200, .min_rtt_us = 9, .bytes_sent = 500}, 300),
       kPeer},
      {"nothing in flight: the queue is of another moment",
       in_state(S::kEstablished, {.bytes_acked = 500, .min_rtt_us = 9, .bytes_sent = 500}, 1),
       kPeer},
      {"our FIN was acknowledged, accepted",
       in_state(S::kFinWait2, {.bytes_acked = 1, .min_rtt_us = 9}), kPeer},
      {"our FIN was acknowledged, ours",
       in_state(S::kFinWait2, {.bytes_acked = 2, .min_rtt_us = 9}), kUs},
      {"a FIN may wait behind data: a SYN or it",
       in_state(S::kFinWait1, {.unacked = 1, .bytes_acked = 1, .min_rtt_us = 9}), std::nullopt},
      {"a FIN is in flight, and our SYN was acknowledged",
       in_state(S::kLastAck, {.unacked = 1, .bytes_acked = 1, .min_rtt_us = 9}, 1), kUs},
      {"counters that fit nobody",
       in_state(S::kEstablished, {.bytes_acked = 9, .min_rtt_us = 9, .bytes_sent = 5}),
       std::nullopt},
  };
  for (const Row& row : rows) {
    CAPTURE(row.what);
    CHECK(opener(row.socket) == row.opener);
  }
}

TEST_CASE("the acknowledged bytes of a connection that ended tell who opened it") {
  using S = TcpState;
  const Row rows[] = {
      {"ended, SYN and FIN acknowledged",
       in_state(S::kClose, {.bytes_acked = 7,
                            .min_rtt_us = 9,
                            .data_segs_out = 1,
                            .delivered = 3,
                            .bytes_sent = 5}),
       kUs},
      {"ended, a FIN in a segment of its own acknowledged, no SYN",
       in_state(S::kClose, {.bytes_acked = 6,
                            .min_rtt_us = 9,
                            .data_segs_out = 1,
                            .delivered = 3,
                            .bytes_sent = 5}),
       kPeer},
      {"ended by a reset, ours, or a FIN that left with the data",
       in_state(S::kClose, {.bytes_acked = 6,
                            .min_rtt_us = 9,
                            .data_segs_out = 1,
                            .delivered = 2,
                            .bytes_sent = 5}),
       std::nullopt},
      {"ended by a reset, accepted",
       in_state(S::kClose, {.bytes_acked = 5,
                            .min_rtt_us = 9,
                            .data_segs_out = 1,
                            .delivered = 2,
                            .bytes_sent = 5}),
       kPeer},
      {"ended by a reset with 3 bytes and a FIN in flight",
       in_state(
           S::kClose,
           {.bytes_acked = 6, .min_rtt_us = 9, .data_segs_out = 2, .delivered = 2, .bytes_sent = 8},
           4),
       kUs},
      {"refused", in_state(S::kClose, {.segs_out = 1, .segs_in = 1, .min_rtt_us = kNoRtt}, 1), kUs},
      {"made by a handshake, and nobody's",
       in_state(S::kClose, {.segs_in = 1, .min_rtt_us = kNoRtt}), std::nullopt},
  };
  for (const Row& row : rows) {
    CAPTURE(row.what);
    CHECK(opener(row.socket) == row.opener);
  }
}

TEST_CASE("a connect under way is ours, a half-open connection the peer's, without any counter") {
  CHECK(opener({.state = TcpState::kSynSent, .has_info = false}) == kUs);
  CHECK(opener({.state = TcpState::kSynReceived, .has_info = false}) == kPeer);
}

TEST_CASE("counters that are missing or cleared tell nothing") {
  FakeSocket idle = in_state(TcpState::kEstablished, {.min_rtt_us = 9, .delivered = 1});
  idle.has_info = false;
  CHECK_FALSE(opener(idle));
  idle.has_info = true;
  idle.info_length = offsetof(TcpInfo, bytes_retransmitted);
  CHECK_FALSE(opener(idle));
  idle.info_length += sizeof(TcpInfo::bytes_retransmitted);
  CHECK(opener(idle));
  FakeSocket cleared = in_state(TcpState::kClose, {.min_rtt_us = 9});
  cleared.remote_port = 0;
  CHECK_FALSE(opener(cleared));
  cleared.info.min_rtt_us = kNoRtt;  // a blocking connect that failed
  CHECK_FALSE(opener(cleared));
}
