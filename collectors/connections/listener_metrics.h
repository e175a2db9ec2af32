// The metrics of accept queues and of local ports in use.
#pragma once

#include <span>

#include "collectors/connections/snapshot.h"
#include "collectors/metric.h"

namespace tcpvitals {

// Every one there is; static storage.
std::span<const MetricDesc> listener_metrics();

// Adds the samples of a snapshot. Pure.
void emit_listeners(Sink& sink, const Snapshot& snapshot);

}  // namespace tcpvitals
