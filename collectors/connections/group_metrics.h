// The metrics of groups of connections: states, lives, counters, distributions.
#pragma once

#include <span>

#include "collectors/connections/snapshot.h"
#include "collectors/metric.h"

namespace tcpvitals {

// Every one there is; static storage.
std::span<const MetricDesc> group_metrics();

// Adds the samples of a snapshot. Pure.
void emit_groups(Sink& sink, const Snapshot& snapshot);

}  // namespace tcpvitals
