#include "agent/config/config.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <iterator>
#include <map>
#include <set>
#include <utility>

#include "agent/config/config_field.h"
#include "agent/config/yaml.h"
#include "base/fd.h"
#include "collectors/attribution/peer_groups.h"
#include "collectors/sock_diag/exclude.h"
#include "server/socket_address.h"

namespace tcpvitals {
namespace {

constexpr std::size_t kMaxPortNames = 1000;
constexpr std::size_t kMaxEphemeralDestinations = 1000;

constexpr std::string_view kReservedPeers[] = {"other"};
constexpr std::string_view kReservedPorts[] = {"other", "unknown", "ephemeral"};

std::set<std::string> peer_names(const ConnectionsConfig& config) {
  const PeerGroups built_in;
  std::set<std::string> names;
  for (std::size_t id = 0; id < built_in.size(); ++id) {
    names.emplace(built_in.name(static_cast<PeerId>(id)));
  }
  for (const NamedPrefix& row : config.peers) names.insert(row.name);
  return names;
}

std::set<std::string> port_names(const ConnectionsConfig& config) {
  std::set<std::string> names;
  for (const NamedPorts& row : config.ports) names.insert(row.name);
  return names;
}

// Who has a prefix or a range already.
struct Owner {
  std::string name;
  int line = 0;
};

Result<void> read_peers(const ConfigField& field, ConnectionsConfig& out) {
  std::map<IpPrefix, Owner> owners;
  return for_each_entry(
      field, [&](const ConfigField& key, const ConfigField& prefixes) -> Result<void> {
        if (auto ok = check_name(key, kReservedPeers); !ok) return ok;
        return for_each_value(prefixes, [&](const ConfigField& value) -> Result<void> {
          IpPrefix prefix;
          if (auto ok = read_prefix(value, prefix); !ok) return ok;
          const auto [entry, is_new] =
              owners.emplace(prefix, Owner{key.node.text, value.node.line});
          const Owner& first = entry->second;
          if (!is_new) {
            return value.error(
                fmt::format("a second time: {} has it in line {}", first.name, first.line));
          }
          out.peers.push_back({key.node.text, prefix});
          return {};
        });
      });
}

// Of the ranges that contain a port the narrowest names it, so two that are as wide must not meet.
using RangeOwners = std::map<std::pair<int, int>, Owner>;  // by width and first port

// The one that `range` meets, or the end.
RangeOwners::const_iterator find_rival(const RangeOwners& owners, PortRange range) {
  const int width = range.last - range.first;
  // The nearest to either side is enough: those in the map do not meet each other.
  auto rival = owners.lower_bound({width, range.first});
  const auto meets = [&](const auto& entry) {
    return entry.first.first == width && std::abs(entry.first.second - range.first) <= width;
  };
  if (rival != owners.end() && meets(*rival)) return rival;
  if (rival != owners.begin() && meets(*--rival)) return rival;
  return owners.end();
}

Result<void> read_ports(const ConfigField& field, ConnectionsConfig& out) {
  if (field.node.items.size() / 2 > kMaxPortNames) {
    return field.error(fmt::format("expected at most {} names", kMaxPortNames));
  }
  RangeOwners owners;
  return for_each_entry(
      field, [&](const ConfigField& key, const ConfigField& ranges) -> Result<void> {
        if (auto ok = check_name(key, kReservedPorts); !ok) return ok;
        const std::string& name = key.node.text;
        if (name.find_first_not_of("0123456789") == std::string::npos) {
          return key.error("a number is no name for a port: expected a letter in it");
        }
        return for_each_value(ranges, [&](const ConfigField& value) -> Result<void> {
          PortRange range;
          if (auto ok = read_port_range(value, range); !ok) return ok;
          const auto rival = find_rival(owners, range);
          if (rival != owners.end()) {
            const auto& [place, owner] = *rival;
            return value.error(fmt::format(
                "meets {}-{} of {} in line {}, which is as wide: expected one to be narrower",
                place.second, place.second + place.first, owner.name, owner.line));
          }
          owners.emplace(std::pair(range.last - range.first, range.first),
                         Owner{name, value.node.line});
          out.ports.push_back({name, range});
          return {};
        });
      });
}

struct GroupLabel {
  std::string_view key;
  bool GroupBy::*on;
};
constexpr GroupLabel kGroupLabels[] = {{"direction", &GroupBy::direction},
                                       {"port", &GroupBy::port},
                                       {"peer", &GroupBy::peer},
                                       {"cgroup", &GroupBy::cgroup},
                                       {"netns", &GroupBy::netns}};

Result<void> read_group_by(const ConfigField& field, ConnectionsConfig& out) {
  out.group_by = {false, false, false, false, false};
  return for_each_value(field, [&](const ConfigField& value) {
    return for_row_of(value, kGroupLabels, [&](const GroupLabel& label) -> Result<void> {
      if (std::exchange(out.group_by.*label.on, true)) return value.error("a second time");
      return {};
    });
  });
}

Result<void> read_excluded_ports(const ConfigField& field, Excludes& out) {
  return for_each_value(field, [&](const ConfigField& value) {
    return read_port_range(value, out.ports.emplace_back());
  });
}

Result<void> read_excluded_peers(const ConfigField& field, Excludes& out) {
  return for_each_value(field, [&](const ConfigField& value) {
    return read_prefix(value, out.peers.emplace_back());
  });
}

Result<void> read_excludes(const ConfigField& field, ConnectionsConfig& out) {
  constexpr ConfigKey<Excludes> kKeys[] = {
      {"loopback", [](const ConfigField& f, Excludes& e) { return read_flag(f, e.loopback); }},
      {"ports", read_excluded_ports},
      {"peers", read_excluded_peers},
  };
  if (auto read = read_keys(field, kKeys, out.excludes); !read) return read;
  const auto programs = compile_excludes(out.excludes);
  return programs ? Result<void>() : field.error(programs.error().message);
}

Result<void> read_limits(const ConfigField& field, ConnectionsConfig& out) {
  return for_each_row(field, kLimitOptions, [&](const LimitOption& row, const ConfigField& value) {
    return read_number(value, row.lowest, row.highest, out.limits.*row.value);
  });
}

constexpr ConfigKey<ConnectionsConfig> kConnectionsKeys[] = {
    {"peers", read_peers},
    {"ports", read_ports},
    {"group_by", read_group_by},
    {"exclude", read_excludes},
    {"limits", read_limits},
    {"cpu_budget",
     [](const ConfigField& field, ConnectionsConfig& out) {
       return read_number(field, kLowestCpuBudget, kHighestCpuBudget, out.cpu_budget);
     }},
    {"group_idle", [](const ConfigField& field,
                      ConnectionsConfig& out) { return read_duration(field, out.group_idle); }},
    {"close_wait_threshold",
     [](const ConfigField& field, ConnectionsConfig& out) {
       return read_duration(field, out.close_wait_threshold);
     }},
    {"ephemeral_destinations",
     [](const ConfigField& field, ConnectionsConfig& out) {
       return read_number(field, std::size_t{0}, kMaxEphemeralDestinations,
                          out.ephemeral_destinations);
     }},
};

constexpr ConfigKey<Config> kKeys[] = {
    {"connections",
     [](const ConfigField& field, Config& out) {
       return read_keys(field, kConnectionsKeys, out.connections);
     }},
    {"server",
     [](const ConfigField& field, Config& out) { return read_server(field, out.server); }},
};

// What only the whole configuration can tell, the flags included.
Result<void> check_together(const ConfigField& root, const Config& config) {
  const ConnectionsConfig& connections = config.connections;
  const std::size_t names = peer_names(connections).size();
  if (names > connections.limits.peers) {
    return value_of(value_of(root, "connections"), "peers")
        .error(fmt::format("{} names, {} of them built in: expected at most {}, as "
                           "connections.limits.peers or --connections.max-peers has it",
                           names, kBuiltInPeers, connections.limits.peers));
  }
  return {};
}

Result<Config> parse(std::string_view text, const ConfigFlags& flags) {
  const auto document = parse_yaml(text);
  if (!document) return Error(document.error());
  const ConfigField root{document->root(), ""};
  Config config;
  if (auto read = read_keys(root, kKeys, config); !read) return std::move(read.error());
  flags.apply_to(config);
  if (auto ok = check_together(root, config); !ok) return std::move(ok.error());
  return config;
}

// One byte more than it may have tells that it has too many.
Result<std::string> read_file(const std::string& path) {
  const Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  struct stat status {};
  if (!fd.valid() || ::fstat(fd.get(), &status) != 0) return errno_error(path, errno);
  if (!S_ISREG(status.st_mode)) return Error{path + ": expected a regular file"};
  std::string text(kMaxYamlBytes + 1, '\0');
  std::size_t size = 0;
  while (size < text.size()) {
    const ssize_t n = ::read(fd.get(), text.data() + size, text.size() - size);
    if (n < 0) return errno_error(path, errno);
    if (n == 0) break;
    size += static_cast<std::size_t>(n);
  }
  text.resize(size);
  return text;
}

}  // namespace

void ConfigFlags::apply_to(Config& config) const {
  if (cpu_budget) config.connections.cpu_budget = *cpu_budget;
  for (const auto& [limit, value] : limits) config.connections.limits.*limit = value;
}

Config default_config(const ConfigFlags& flags) {
  Config config;
  flags.apply_to(config);
  return config;
}

Result<Config> parse_config(std::string_view text, std::string_view file_name,
                            const ConfigFlags& flags) {
  auto config = parse(text, flags);
  if (!config) config.error().message.insert(0, fmt::format("{}:", file_name));
  return config;
}

Result<Config> read_config(const std::string& path, const ConfigFlags& flags) {
  auto text = read_file(path);
  if (!text) return std::move(text.error());
  auto config = parse_config(*text, path, flags);
  if (!config) return config;
  const auto checked = check_relays(config->server, is_own_address);
  if (!checked) return Error{path + ":" + checked.error().message};
  return config;
}

std::string summary(const Config& config) {
  const ConnectionsConfig& c = config.connections;
  std::string labels;
  for (const GroupLabel& label : kGroupLabels) {
    if (c.group_by.*label.on) labels += fmt::format("{}{}", labels.empty() ? "" : ", ", label.key);
  }
  const std::size_t listeners = config.server.listeners.size();
  return fmt::format("{} peer names, {} port names, grouped by {}{}", peer_names(c).size(),
                     port_names(c).size(), labels,
                     listeners == 0 ? "" : fmt::format(", {} listeners", listeners));
}

}  // namespace tcpvitals
