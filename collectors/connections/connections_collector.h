// The connections collector: every TCP connection of this namespace, by direction, service port and
// group of peers. Owns the sampler.
#pragma once

#include <functional>
#include <memory>

#include "collectors/collector.h"
#include "collectors/connections/sampler.h"
#include "collectors/kernel_source.h"

namespace tcpvitals {

struct ConnectionsOptions {
  double cpu_budget = 0.05;               // of one core, for full dumps
  std::size_t max_connections = 262'144;  // tracked one by one; 96 bytes and a hash slot each
  std::size_t max_groups = 200;
  std::size_t event_buffer_bytes = 8 << 20;  // wished for; granted up to net.core.rmem_max

  // Opens the sockets, given event_buffer_bytes; tests and fixtures bring their own.
  std::function<Result<DiagSockets>(std::size_t)> open_sockets = open_diag_sockets;
};

// `kernel` must outlive the collector. Starts counting at once. Where sock_diag cannot be opened
// the collector is there all the same, and fails with the reason at every scrape.
std::unique_ptr<Collector> make_connections_collector(const KernelSource& kernel,
                                                      const ConnectionsOptions& options);

}  // namespace tcpvitals
