// What /api/v1/server/connections answers. Pure, any thread.
#pragma once

#include <string>

#include "server/statistics.h"

namespace tcpvitals {

// A line of JSON: each listener with what lives on it, and the worst connections one by one, as
// many as the snapshot has.
std::string render_server_connections(const ServerSnapshot& snapshot);

}  // namespace tcpvitals
