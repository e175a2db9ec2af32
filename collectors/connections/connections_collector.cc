#include "collectors/connections/connections_collector.h"

#include <algorithm>

#include "collectors/connections/connection_metrics.h"

namespace tcpvitals {
namespace {

constexpr auto kLongestRetry = std::chrono::minutes(1);

}  // namespace

ConnectionsCollector::ConnectionsCollector(const KernelSource& kernel, ConnectionsOptions options)
    : kernel_(kernel), options_(std::move(options)), retry_(options_.first_retry) {
  open();
}

void ConnectionsCollector::open() {
  auto sockets = options_.open_sockets(options_.event_buffer_bytes);
  if (!sockets) {
    open_error_ = std::move(sockets.error());
    next_open_ = Clock::now() + retry_;
    retry_ = std::min<Clock::duration>(2 * retry_, kLongestRetry);
    return;
  }
  sampler_ = std::make_unique<Sampler>(
      std::move(*sockets), SamplerOptions{.config = options_.config,
                                          .event_buffer_bytes = options_.event_buffer_bytes,
                                          .files = &kernel_,
                                          .namespaces = options_.namespaces});
}

// What stands in has its numbers in the scrape that opens the sockets; ours come with the next.
Result<Sampler*> ConnectionsCollector::open_again() {
  const std::lock_guard lock(mutex_);
  if (sampler_) return sampler_.get();
  if (Clock::now() >= next_open_) open();
  if (sampler_) return Error::absent("sock_diag has become available: counting begins");
  return Error(open_error_);
}

std::optional<double> ConnectionsCollector::stand_in_budget() const {
  const std::lock_guard lock(mutex_);
  if (sampler_) return std::nullopt;
  return options_.config.cpu_budget;
}

std::span<const MetricDesc> ConnectionsCollector::metrics() const { return connection_metrics(); }

Result<void> ConnectionsCollector::collect(Sink& sink, TimePoint deadline) {
  const auto sampler = open_again();
  if (!sampler) return sampler.error();
  const auto sample = (*sampler)->sample(deadline);
  if (!sample) return sample.error();
  emit_connections(sink, **sample);
  return {};
}

Result<void> ConnectionsCollector::reconfigure(const ConnectionsConfig& config,
                                               TimePoint deadline) {
  {
    const std::lock_guard lock(mutex_);
    if (!sampler_) {
      const auto possible = compile_excludes(config.excludes);
      if (!possible) return possible.error();
      options_.config = config;
      return {};
    }
  }
  return sampler_->reconfigure(config, deadline);
}

Result<SearchResult> ConnectionsCollector::search(const SearchRequest& query, TimePoint deadline) {
  {
    const std::lock_guard lock(mutex_);
    if (!sampler_) return Error(open_error_);
  }
  return sampler_->search(query, deadline);
}

}  // namespace tcpvitals
