#include "collectors/connections/connections_collector.h"

#include <algorithm>
#include <charconv>

#include "collectors/connections/connection_metrics.h"
#include "collectors/host/snmp.h"

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

// Nothing where it cannot be read (the snmp collector says so).
std::optional<HostTotals> read_totals(const KernelSource& kernel) {
  const auto fields = read_parsed(kernel, "net/snmp", parse_snmp);
  if (!fields) return std::nullopt;
  const auto value = [&](std::string_view name) {
    const auto field = fields->find(name);
    return field == fields->end() ? 0 : field->second;
  };
  return HostTotals{value("TcpActiveOpens"), value("TcpPassiveOpens"), value("TcpAttemptFails"),
                    value("TcpRetransSegs")};
}

std::optional<HostTotals> totals_of(const KernelSource& kernel, const std::string& netns) {
  if (netns == kOwnNamespaceLabel) return read_totals(kernel);
  for (const NamespaceSource& space : kernel.namespaces()) {
    if (space.label == netns) return read_totals(*space.source);
  }
  return std::nullopt;
}

Result<CgroupMount> find_cgroup_mount(const KernelSource& kernel) {
  return read_parsed(kernel, "self/mountinfo", parse_cgroup_mount);
}

}  // namespace

ConnectionsCollector::ConnectionsCollector(const KernelSource& kernel,
                                           const ConnectionsOptions& options)
    : kernel_(kernel) {
  auto sockets = options.open_sockets(options.event_buffer_bytes);
  if (!sockets) {
    open_error_ = std::move(sockets.error());
    return;
  }
  sampler_ = std::make_unique<Sampler>(
      std::move(*sockets),
      SamplerOptions{
          .config = options.config,
          .ephemeral = ephemeral_ports(kernel),
          .event_buffer_bytes = options.event_buffer_bytes,
          .namespaces = options.namespaces,
          .host_totals = [this](const std::string& netns) { return totals_of(kernel_, netns); },
          .cgroup_mount = [this] { return find_cgroup_mount(kernel_); }});
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
