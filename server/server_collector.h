// The collector of the embedded server's own connections: tcp_server_*.
#pragma once

#include "collectors/collector.h"
#include "server/server.h"
#include "server/statistics.h"

namespace tcpvitals {

std::span<const MetricDesc> server_metrics();

class ServerCollector final : public Collector {
 public:
  // `server` outlives the collector.
  explicit ServerCollector(Server& server) : server_(server) {}

  std::string_view name() const override { return "server"; }
  std::span<const MetricDesc> metrics() const override { return server_metrics(); }
  // Fails if a worker does not answer by `deadline`.
  Result<void> collect(Sink& sink, TimePoint deadline) override;

 private:
  Server& server_;
};

// The pure part of collect().
void emit(const ServerSnapshot& snapshot, Sink& sink);

}  // namespace tcpvitals
