// The metrics of connections: what each is called and means, and how a Snapshot becomes samples.
#pragma once

#include <span>

#include "collectors/connections/snapshot.h"
#include "collectors/metric.h"

namespace tcpvitals {

// Every one there is; static storage.
std::span<const MetricDesc> connection_metrics();

// Adds all samples of a snapshot. Pure, but for the age of the snapshot.
void emit_connections(Sink& sink, const Snapshot& snapshot);

}  // namespace tcpvitals
