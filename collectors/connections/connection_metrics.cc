#include "collectors/connections/connection_metrics.h"

#include <vector>

#include "collectors/connections/group_metrics.h"
#include "collectors/connections/listener_metrics.h"
#include "collectors/connections/sampler_metrics.h"

namespace tcpvitals {

std::span<const MetricDesc> connection_metrics() {
  static const std::vector<MetricDesc> kAll = [] {
    std::vector<MetricDesc> all;
    for (const auto part : {sampler_metrics(), listener_metrics(), group_metrics()}) {
      all.insert(all.end(), part.begin(), part.end());
    }
    return all;
  }();
  return kAll;
}

void emit_connections(Sink& sink, const Snapshot& s) {
  emit_sampler(sink, s);
  emit_listeners(sink, s);
  emit_groups(sink, s);
}

}  // namespace tcpvitals
