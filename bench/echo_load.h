// What the servers are measured with: round trips over many connections at once, connections that
// come and go, ones that send all they can, and ones that only stay.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/fd.h"

namespace tcpvitals::bench {

// Blocks until something listens on 127.0.0.1:`port`, ten seconds at most.
void wait_for_listener(std::uint16_t port);

struct RoundTrips {
  double per_second = 0;
  double p50_us = 0;
  double p99_us = 0;
};

// `connections` at once, each sends 64 bytes, waits for them, and sends again, for `seconds` after
// a short warm-up. One thread.
RoundTrips ping_pong(std::uint16_t port, std::size_t connections, double seconds);

// Connections a second that are opened, used for one round trip of 64 bytes and closed, one after
// the other by each of two threads.
double churn_round_trips(std::uint16_t port, double seconds);

// Bytes a second that `connections` send at once, as fast as they are taken. One thread.
double send_in_bulk(std::uint16_t port, std::size_t connections, double seconds);

// Held open and silent until the object ends, at most 19,900 a process: from addresses of their own
// beyond 127.0.1.0, some thousand each.
std::vector<Fd> hold_idle(std::uint16_t port, std::size_t connections);

}  // namespace tcpvitals::bench
