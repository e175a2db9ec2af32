// A listener: where connections are accepted, and what all workers share about it.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "base/fd.h"
#include "base/ip.h"
#include "base/result.h"
#include "server/options.h"

namespace tcpvitals {

// One socket per worker, all on the same endpoint; the kernel spreads connections over them.
struct ListenerSockets {
  Endpoint endpoint;  // with the port that was chosen
  std::vector<Fd> sockets;
};

// Fails if the endpoint is in use, by another process of the same user and program too.
Result<ListenerSockets> open_listener(const ListenerOptions& options, unsigned workers);

// Thread-safe; outlives the workers.
class ServerListener {
 public:
  ServerListener(ListenerOptions options, Endpoint endpoint, std::uint32_t limit)
      : options_(std::move(options)), endpoint_(endpoint), limit_(limit) {}

  const ListenerOptions& options() const { return options_; }
  const Endpoint& endpoint() const { return endpoint_; }
  std::uint32_t limit() const { return limit_; }

  // A place for one more connection, to be given back when it closes. False at the limit.
  bool reserve() {
    if (reserved_.fetch_add(1, std::memory_order_relaxed) < limit_) return true;
    give_back();
    return false;
  }
  void give_back() { reserved_.fetch_sub(1, std::memory_order_relaxed); }

 private:
  const ListenerOptions options_;
  const Endpoint endpoint_;
  const std::uint32_t limit_;
  std::atomic<std::uint32_t> reserved_{0};
};

}  // namespace tcpvitals
