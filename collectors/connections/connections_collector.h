// The connections collector: every TCP connection of this host, or of this network namespace alone,
// by direction, service port and group of peers. Owns the sampler.
#pragma once

#include <functional>
#include <memory>

#include "collectors/collector.h"
#include "collectors/connections/sampler.h"
#include "collectors/kernel_source.h"

namespace tcpvitals {

struct ConnectionsOptions {
  ConnectionsConfig config;
  std::size_t event_buffer_bytes = 8 << 20;  // wished for; granted up to net.core.rmem_max

  // Where other network namespaces are watched, if grouped by; null: nowhere.
  NamespaceSources* namespaces = nullptr;

  // Opens the sockets, given event_buffer_bytes; tests and fixtures bring their own.
  std::function<Result<DiagSockets>(std::size_t)> open_sockets = open_diag_sockets;
};

// Starts counting when it is made. Where sock_diag cannot be opened it is there all the same, and
// fails with the reason whatever it is asked.
class ConnectionsCollector final : public Collector {
 public:
  // `kernel` must outlive the collector.
  ConnectionsCollector(const KernelSource& kernel, const ConnectionsOptions& options);

  std::string_view name() const override { return "connections"; }
  std::span<const MetricDesc> metrics() const override;
  Result<void> collect(Sink& sink, TimePoint deadline) override;

  // Any thread. See Sampler.
  Result<void> reconfigure(const ConnectionsConfig& config, TimePoint deadline);
  Result<SearchResult> search(const SearchRequest& query, TimePoint deadline);

 private:
  Error open_error_;
  std::unique_ptr<Sampler> sampler_;
};

}  // namespace tcpvitals
