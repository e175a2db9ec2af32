// The listeners that flags and file make together, and which sockets were passed for them.
#pragma once

#include <vector>

#include "agent/config/server_config.h"
#include "agent/options.h"
#include "base/result.h"
#include "exporter/door.h"
#include "server/options.h"
#include "server/passed_socket.h"

namespace tcpvitals {

// Those of the file; `echo`, `echo-2`, ... at --server.listen-address; `web`, `web-2`, ... at
// --web.listen-address, which are of `door`. Where the file has listeners, the default of
// --server.listen-address does not count. A web listener without max_connections has twice as
// many as HTTP has threads, and without per_peer connections so many for each peer that all web
// listeners together leave it half of those threads.
std::vector<ListenerOptions> make_listeners(const Options& options, const ServerConfig& config,
                                            Door& door);

// Gives each socket the name of the listener that it is for: the one it has already, or that of the
// listener at its address. Fails if one is for none.
Result<void> assign(std::vector<PassedSocket>& sockets,
                    const std::vector<ListenerOptions>& listeners);

// Closes those that are for none: a predecessor had listeners that the file no longer has, or has
// elsewhere. One without a name is for the listener at its address.
void keep_wanted(std::vector<PassedSocket>& sockets, const std::vector<ListenerOptions>& listeners);

}  // namespace tcpvitals
