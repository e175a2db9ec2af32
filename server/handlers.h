// The handlers that come with the server.
#pragma once

#include <memory>

#include "server/handler.h"
#include "server/options.h"

namespace tcpvitals {

// The one that the listener's options ask for.
std::unique_ptr<Handler> make_handler(const ListenerOptions& options);

}  // namespace tcpvitals
