// What is due on a connection, and why: pure functions of what a worker knows of it.
//
// Ticks are the worker's seconds. A deadline counts from the last progress, and progress is what
// the peer does: it sends, or acknowledges what it was sent. What the kernel takes from us is none,
// for its buffers hold megabytes.
#pragma once

#include <cstdint>

#include "server/connection.h"
#include "server/options.h"

namespace tcpvitals {

struct Due {
  std::uint32_t tick = 0;  // 0: never
  CloseCause cause = CloseCause::kError;
};

// The earliest deadline of a connection that was opened at tick `opened`.
Due due_of(const Connection& c, const Deadlines& deadlines, std::uint32_t opened);

// Whether the peer may acknowledge bytes unseen, so that the kernel is to be asked at the next
// tick. After a look that found nothing new it is asked again when the deadline comes.
bool moves_unseen(const Connection& c);

}  // namespace tcpvitals
