// The metrics of whole network namespaces, and what the sampler says of itself: bounds, losses,
// cost.
#pragma once

#include <span>

#include "collectors/connections/snapshot.h"
#include "collectors/metric.h"

namespace tcpvitals {

// Every one there is; static storage.
std::span<const MetricDesc> sampler_metrics();

// Adds the samples of a snapshot. Pure, but for the age of the snapshot.
void emit_sampler(Sink& sink, const Snapshot& snapshot);

}  // namespace tcpvitals
