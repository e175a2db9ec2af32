// Door: the handler of the web listeners. It stands in front of the HTTP server, which has a thread
// for each request, and lets nothing in that could keep one.
//
// It reads the whole head of a request, and answers by itself what is malformed (400), too large
// (431), too slow (408) or has a body (413). Only then it connects to the HTTP server, and tells it
// by the relay table who the client is. The answer is taken as fast as it is made, up to the
// listener's max_output_bytes, however slowly the client reads; that has an end too. A client whose
// request the HTTP server does not answer gets 502.
//
// Bounds of a connection: RequestHead::kMaxBytes and Limits, to the second.
// Threads: as every handler; make_handler() on any.
#pragma once

#include <chrono>
#include <cstddef>
#include <memory>

#include "base/ip.h"
#include "base/log_limit.h"
#include "server/handler.h"
#include "server/relay_table.h"

namespace tcpvitals {

class Door {
 public:
  struct Limits {
    std::chrono::seconds head{5};      // from the connection to the end of the request's head
    std::chrono::seconds answer{130};  // from there to the end of the answer
    std::chrono::seconds farewell{5};  // after an answer of our own, for the client to take it
  };

  // The HTTP server is at `http`. `relays` outlive the handlers.
  Door(const Endpoint& http, RelayTable& relays) : Door(http, relays, Limits()) {}
  Door(const Endpoint& http, RelayTable& relays, Limits limits)
      : http_(http), relays_(relays), limits_(limits) {}

  // For a listener with this limit. The Door outlives it.
  std::unique_ptr<Handler> make_handler(std::size_t max_output_bytes);

 private:
  class Gatekeeper;  // the handler

  const Endpoint http_;
  RelayTable& relays_;
  const Limits limits_;
  LogLimit failure_line_{LogLevel::kWarn, "the HTTP server did not answer", 1,
                         std::chrono::minutes(1)};
};

}  // namespace tcpvitals
