// What of a configuration, right in itself, does not work on this host.
#pragma once

#include <string>
#include <vector>

#include "agent/config/server_config.h"

namespace tcpvitals {

struct HostProblem {
  std::string message;  // FILE:LINE:COLUMN: KEY.PATH: VALUE: what is wrong, and the way out
  bool stops =
      false;  // the agent cannot start; else a listener is closed, or clients will refuse it
};

// Looks at the files that the configuration names, and changes none. `file` is its own name.
std::vector<HostProblem> check_host(const ServerConfig& config, const std::string& file);

void log_problems(const std::vector<HostProblem>& problems);

}  // namespace tcpvitals
