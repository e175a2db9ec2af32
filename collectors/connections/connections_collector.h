// The connections collector: every TCP connection of this host, or of this network namespace alone,
// by direction, service port and group of peers. Owns the sampler.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <optional>

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

  // Before sockets that could not be opened are tried again; doubles up to a minute.
  Clock::duration first_retry = std::chrono::seconds(1);
};

// Starts counting when it is made, or, where sock_diag cannot be opened (no kernel support: absent;
// anything else: failed), with the scrape after the one that could open it. Until then it fails
// with the reason whatever it is asked, and proc_tcp stands in for it.
class ConnectionsCollector final : public Collector {
 public:
  // `kernel` must outlive the collector.
  ConnectionsCollector(const KernelSource& kernel, ConnectionsOptions options);

  std::string_view name() const override { return "connections"; }
  std::span<const MetricDesc> metrics() const override;
  Result<void> collect(Sink& sink, TimePoint deadline) override;

  // Any thread. See Sampler. Without sockets a configuration that the kernel could carry out is
  // kept for later.
  Result<void> reconfigure(const ConnectionsConfig& config, TimePoint deadline);
  Result<SearchResult> search(const SearchRequest& query, TimePoint deadline);

  // Any thread. The share of a core that what stands in for this may spend; nothing while the
  // sockets are open.
  std::optional<double> stand_in_budget() const;

 private:
  void open();                    // under mutex_
  Result<Sampler*> open_again();  // when it is time to

  const KernelSource& kernel_;
  mutable std::mutex mutex_;
  ConnectionsOptions options_;        // under mutex_
  Error open_error_;                  // under mutex_
  TimePoint next_open_{};             // under mutex_
  Clock::duration retry_;             // under mutex_
  std::unique_ptr<Sampler> sampler_;  // set once, under mutex_
};

}  // namespace tcpvitals
