#include "collectors/connections/connections_collector.h"

#include <algorithm>
#include <charconv>

#include "collectors/connections/connection_metrics.h"

namespace tcpvitals {
namespace {

// "32768\t60999\n"; the kernel's default where it cannot be read (the sysctl collector says so).
PortRange ephemeral_ports(const KernelSource& kernel) {
  const auto text = kernel.read("sys/net/ipv4/ip_local_port_range");
  if (!text) return kDefaultEphemeral;
  PortRange range;
  const char* end = text->data() + text->size();
  const auto first = std::from_chars(text->data(), end, range.first);
  const char* rest = std::find_if(first.ptr, end, [](char c) { return c >= '0' && c <= '9'; });
  const auto last = std::from_chars(rest, end, range.last);
  return first.ec == std::errc() && last.ec == std::errc() ? range : kDefaultEphemeral;
}

}  // namespace

ConnectionsCollector::ConnectionsCollector(const KernelSource& kernel,
                                           const ConnectionsOptions& options) {
  auto sockets = options.open_sockets(options.event_buffer_bytes);
  if (!sockets) {
    open_error_ = std::move(sockets.error());
    return;
  }
  sampler_ = std::make_unique<Sampler>(
      std::move(*sockets), SamplerOptions{.config = options.config,
                                          .ephemeral = ephemeral_ports(kernel),
                                          .event_buffer_bytes = options.event_buffer_bytes,
                                          .files = &kernel,
                                          .namespaces = options.namespaces});
}

std::span<const MetricDesc> ConnectionsCollector::metrics() const { return connection_metrics(); }

Result<void> ConnectionsCollector::collect(Sink& sink, TimePoint deadline) {
  if (!sampler_) return Error(open_error_);
  const auto sample = sampler_->sample(deadline);
  if (!sample) return Error(sample.error());
  emit_connections(sink, **sample);
  return {};
}

Result<void> ConnectionsCollector::reconfigure(const ConnectionsConfig& config,
                                               TimePoint deadline) {
  if (!sampler_) return Error(open_error_);
  return sampler_->reconfigure(config, deadline);
}

Result<SearchResult> ConnectionsCollector::search(const SearchRequest& query, TimePoint deadline) {
  if (!sampler_) return Error(open_error_);
  return sampler_->search(query, deadline);
}

}  // namespace tcpvitals
