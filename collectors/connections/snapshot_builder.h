// What the sampler knows, written into a snapshot.
#pragma once

#include <cstddef>
#include <vector>

#include "collectors/connections/event_reader.h"
#include "collectors/connections/host_account.h"
#include "collectors/connections/snapshot.h"

namespace tcpvitals {

// Groups, namespaces and trackers, and the configuration they are counted by. A namespace without a
// baseline is left out: nothing is true of it yet.
void describe(const HostAccount& host, Snapshot& snapshot);

// Events and their losses. `wished_bytes`: of buffer.
void describe(const EventReader& events, std::size_t wished_bytes, Snapshot& snapshot);

}  // namespace tcpvitals
