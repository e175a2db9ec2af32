#include "server/deadlines.h"

#include <doctest/doctest.h>

#include <set>
#include <vector>

using namespace tcpvitals;
using namespace std::chrono_literals;

namespace {

Connection in_phase(Phase phase) {
  Connection c;
  c.phase = phase;
  c.read_tick = c.taken_tick = 100;
  return c;
}

constexpr std::uint32_t kOpened = 90;

}  // namespace

TEST_CASE("every phase has a deadline by default, and an open connection that owes something") {
  const Deadlines defaults;
  for (const Phase phase : {Phase::kProxyHeader, Phase::kHandshake, Phase::kConnecting,
                            Phase::kResetting, Phase::kFinishing}) {
    CAPTURE(static_cast<int>(phase));
    CHECK(due_of(in_phase(phase), defaults, kOpened).tick > 100);
  }
  Connection open = in_phase(Phase::kOpen);
  CHECK(due_of(open, defaults, kOpened).tick == 0);
  open.finished = true;
  CHECK(due_of(open, defaults, kOpened).tick == 161);
  open.notifies = true;
  open.finished = false;
  CHECK(due_of(open, defaults, kOpened).cause == CloseCause::kWriteStall);
  open.outbound = true;
  CHECK(due_of(open, defaults, kOpened).tick == 161);
}

TEST_CASE("a phase whose own deadline is off has that of idle connections, or a fixed one") {
  Deadlines off{0s, 0s, 0s, 0s, 0s, 0s, 0s};
  CHECK(due_of(in_phase(Phase::kResetting), off, kOpened).tick == 111);
  CHECK(due_of(in_phase(Phase::kFinishing), off, kOpened).tick == 111);
  off.idle = 5s;
  CHECK(due_of(in_phase(Phase::kHandshake), off, kOpened).tick == 106);
  CHECK(due_of(in_phase(Phase::kProxyHeader), off, kOpened).tick == 106);
}

TEST_CASE("the earliest deadline counts, from the last progress of either direction") {
  const Deadlines deadlines{.idle = 5s, .write_stall = 3s, .lifetime = 30s};
  Connection c = in_phase(Phase::kOpen);
  CHECK(due_of(c, deadlines, kOpened).tick == 106);
  c.taken_tick = 110;
  CHECK(due_of(c, deadlines, kOpened).tick == 116);
  c.read_tick = 112;
  CHECK(due_of(c, deadlines, kOpened).tick == 118);
  c.notifies = true;
  CHECK(due_of(c, deadlines, kOpened).tick == 114);
  CHECK(due_of(c, deadlines, kOpened).cause == CloseCause::kWriteStall);
  CHECK(due_of(c, deadlines, 80).cause == CloseCause::kLifetime);
  CHECK(due_of(c, deadlines, 80).tick == 111);
}

TEST_CASE("a stream that its handler does not read is not idle") {
  const Deadlines deadlines{.idle = 5s};
  Connection c = in_phase(Phase::kOpen);
  c.paused = true;
  CHECK(due_of(c, deadlines, kOpened).tick == 0);
}

TEST_CASE("data that was not acknowledged is waited for longer than a FIN") {
  Connection c = in_phase(Phase::kFinishing);
  CHECK(due_of(c, {}, kOpened).tick == 111);
  c.data_left = true;
  CHECK(due_of(c, {}, kOpened).tick == 161);
  CHECK(due_of(c, {}, kOpened).cause == CloseCause::kUnacknowledged);
}

TEST_CASE("the kernel is asked at the next tick only where the peer may acknowledge unseen") {
  Connection c = in_phase(Phase::kOpen);
  CHECK_FALSE(moves_unseen(c));
  c.notifies = true;
  CHECK(moves_unseen(c));
  c.stalled = true;
  CHECK_FALSE(moves_unseen(c));
  c.phase = Phase::kResetting;
  CHECK(moves_unseen(c));
  Connection handshake = in_phase(Phase::kHandshake);
  handshake.tls_writes = true;
  CHECK_FALSE(moves_unseen(handshake));
}

namespace {

struct Wheel {
  struct LinksOf {
    std::vector<WheelLinks>& links;
    WheelLinks& operator()(std::uint32_t slot) { return links[slot]; }
  };

  std::set<std::uint32_t> due_at(std::uint32_t now) {
    std::set<std::uint32_t> slots;
    wheel.advance(now, 100, [&](std::uint32_t slot) { slots.insert(slot); });
    return slots;
  }

  std::vector<WheelLinks> links = std::vector<WheelLinks>(8);
  TimerWheel<LinksOf> wheel{LinksOf{links}};
};

}  // namespace

TEST_CASE("the wheel calls at the tick that was set, however far ahead") {
  Wheel w;
  w.wheel.set(0, 3);
  w.wheel.set(1, 3 + 256);
  w.wheel.set(2, 4);
  w.wheel.set(3, 4);
  w.wheel.clear(3);
  CHECK(w.due_at(2).empty());
  CHECK(w.due_at(3) == std::set<std::uint32_t>{0});
  CHECK(w.due_at(258) == std::set<std::uint32_t>{2});
  CHECK(w.due_at(259) == std::set<std::uint32_t>{1});
}

TEST_CASE("a tick of the wheel that has passed stands for the next one") {
  Wheel w;
  CHECK(w.due_at(500).empty());
  w.wheel.set(0, 499);
  w.wheel.set(1, 500);
  w.wheel.set(2, 1);
  CHECK(w.due_at(501) == std::set<std::uint32_t>{0, 1, 2});
}

TEST_CASE("output that was sent gives its memory back, however long some of it waits") {
  PendingOutput output;
  const std::vector<char> message(4096, 'm');
  std::size_t sent = 0;
  for (int i = 0; i < 8; ++i) output.append(message);
  for (int i = 0; i < 10'000; ++i) {
    output.append(message);
    const std::size_t waits = output.size();
    sent = 1 + (sent + 997) % message.size();
    output.drop(sent);
    if (output.size() > 9 * message.size()) output.drop(output.size() - 8 * message.size());
    REQUIRE(output.capacity() <= 4 * waits);
  }
  output.drop(output.size() - 10);
  CHECK(output.capacity() <= 40);
  CHECK(output.waiting().size() == 10);
}

TEST_CASE("output keeps its order across what is sent and what is added") {
  PendingOutput output;
  std::string written;
  std::string sent;
  for (std::size_t i = 0; i < 1000; ++i) {
    const std::string piece = std::to_string(i) + ",";
    written += piece;
    output.append(piece);
    const std::size_t take = std::min<std::size_t>(output.size(), i % 7);
    sent.append(output.waiting().data(), take);
    output.drop(take);
  }
  sent.append(output.waiting().data(), output.size());
  CHECK((sent == written));
}
