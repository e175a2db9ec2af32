#include "server/deadlines.h"

#include <algorithm>
#include <chrono>

namespace tcpvitals {
namespace {

using Wait = std::chrono::seconds;

// How long a finished connection is kept for the acknowledgement that makes its counters final.
constexpr Wait kFinalAckWait(10);

Wait first_set(Wait wait, Wait otherwise) { return wait.count() != 0 ? wait : otherwise; }

}  // namespace

Due due_of(const Connection& c, const Deadlines& deadlines, std::uint32_t opened) {
  Due first;
  const auto consider = [&](std::uint32_t since, Wait wait, CloseCause cause) {
    if (wait.count() == 0) return;
    // The tick that has begun counts for nothing: never too early.
    const auto tick = since + static_cast<std::uint32_t>(wait.count()) + 1;
    if (first.tick == 0 || tick < first.tick) first = {tick, cause};
  };
  const Wait idle = c.outbound ? Wait(0) : deadlines.idle;
  switch (c.phase) {
    case Phase::kProxyHeader:
      consider(c.read_tick, first_set(deadlines.proxy_header, idle), CloseCause::kProxyTimeout);
      break;
    case Phase::kHandshake:
      consider(c.read_tick, first_set(deadlines.handshake, idle), CloseCause::kHandshakeTimeout);
      break;
    case Phase::kConnecting:
      consider(c.read_tick, deadlines.connect, CloseCause::kBackend);
      break;
    case Phase::kResetting:
      consider(c.taken_tick, first_set(deadlines.write_stall, kFinalAckWait), c.cause);
      break;
    case Phase::kFinishing:
      consider(c.taken_tick,
               c.data_left ? std::max(deadlines.write_stall, kFinalAckWait) : kFinalAckWait,
               CloseCause::kUnacknowledged);
      break;
    case Phase::kOpen: {
      if (c.waits_to_write())
        consider(c.taken_tick, deadlines.write_stall, CloseCause::kWriteStall);
      // What the handler does not read cannot be told from silence.
      if (c.outbound || c.paused) break;
      const std::uint32_t active = std::max(c.read_tick, c.taken_tick);
      consider(active, idle, CloseCause::kIdleTimeout);
      if (c.finished) consider(active, deadlines.half_closed, CloseCause::kIdleTimeout);
      break;
    }
  }
  if (!c.outbound) {
    const bool ends = c.phase == Phase::kResetting;
    consider(opened, deadlines.lifetime, ends ? c.cause : CloseCause::kLifetime);
  }
  return first;
}

bool moves_unseen(const Connection& c) {
  if (c.phase == Phase::kResetting) return true;
  return c.phase >= Phase::kOpen && !c.stalled && (c.waits_to_write() || c.finished);
}

}  // namespace tcpvitals
