// The configuration: what the agent runs with, and the YAML file that says so.
//
// Precedence: defaults, then the file, then the flags that stand on the command line. Everything in
// the file is optional, and an empty file is a valid one; what is not understood is refused, never
// skipped. docs/configuration.md is the reference.
#pragma once

#include <array>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "agent/config/server_config.h"
#include "base/result.h"
#include "collectors/attribution/peer_groups.h"
#include "collectors/connections/config.h"

namespace tcpvitals {

struct Config {
  ConnectionsConfig connections;
  ServerConfig server;
};

// A bound, as the file and the command line know it.
struct LimitOption {
  std::string_view key;   // connections.limits.KEY
  std::string_view flag;  // --connections.FLAG
  std::size_t ConnectionLimits::*value;
  std::size_t lowest;
  std::size_t highest;
  std::string_view help;
};

inline constexpr std::size_t kBuiltInPeers = 4;  // loopback, link_local, private, public

inline constexpr std::array kLimitOptions = std::to_array<LimitOption>({
    {"connections", "max-tracked", &ConnectionLimits::connections, 1, 1 << 24,
     "Connections tracked one by one"},
    {"groups", "max-groups", &ConnectionLimits::groups, 1, 10'000,
     "Groups of connections; the rest is counted as other"},
    {"peers", "max-peers", &ConnectionLimits::peers, kBuiltInPeers, PeerGroups::kMaxNames,
     "Names of peers, the 4 built-in ones included"},
    {"cgroups", "max-cgroups", &ConnectionLimits::cgroups, 1, 10'000,
     "Names of cgroups; the rest is counted as other"},
    {"namespaces", "max-namespaces", &ConnectionLimits::namespaces, 1, 1'000,
     "Network namespaces that are watched, its own included"},
    {"listeners", "max-listeners", &ConnectionLimits::listeners, 1, 100'000,
     "Listening addresses and ports that are shown; those with the fullest queues are"},
});

inline constexpr double kLowestCpuBudget = 0.001;
inline constexpr double kHighestCpuBudget = 1;

// What stands on the command line of that.
struct ConfigFlags {
  std::optional<double> cpu_budget;
  std::vector<std::pair<std::size_t ConnectionLimits::*, std::size_t>> limits;

  void apply_to(Config& config) const;
};

// What an empty file means.
Config default_config(const ConfigFlags& flags);

// Pure. The error is one line on the first thing that is wrong:
//   FILE:LINE:COLUMN: KEY.PATH: VALUE: expected what would be right
// Reads at most kMaxYamlBytes.
Result<Config> parse_config(std::string_view text, std::string_view file_name,
                            const ConfigFlags& flags = {});

// `path` must be a regular file, or lead to one. What it names is not looked at: see host_check.h.
Result<Config> read_config(const std::string& path, const ConfigFlags& flags = {});

// For people, on one line: "3 peer names, 2 port names, grouped by direction, port, peer".
std::string summary(const Config& config);

}  // namespace tcpvitals
