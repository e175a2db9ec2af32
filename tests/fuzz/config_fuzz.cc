#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "agent/config/config.h"

using namespace tcpvitals;

namespace {

void require(bool holds) {
  if (!holds) std::abort();
}

void check_name(const std::string& name) {
  require(!name.empty() && name.size() <= 64 && name != "other");
  require(name.find_first_of(std::string_view(" \n\"\\{}\0", 7)) == std::string::npos);
}

}  // namespace

// What is accepted is within its bounds; what is not is told on one line that begins with a place.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto config = parse_config({reinterpret_cast<const char*>(data), size}, "f.yml");
  if (!config) {
    const std::string& message = config.error().message;
    require(message.starts_with("f.yml:") && message.size() < 1000);
    require(message[6] >= '1' && message[6] <= '9');
    require(message.find('\n') == std::string::npos);
    return 0;
  }
  const ConnectionsConfig& c = config->connections;
  for (const NamedPrefix& row : c.peers) check_name(row.name);
  for (const NamedPorts& row : c.ports) {
    check_name(row.name);
    require(row.ports.first >= 1 && row.ports.first <= row.ports.last);
  }
  for (const LimitOption& limit : kLimitOptions) {
    require(c.limits.*limit.value >= limit.lowest && c.limits.*limit.value <= limit.highest);
  }
  require(c.cpu_budget >= kLowestCpuBudget && c.cpu_budget <= kHighestCpuBudget);
  require(c.group_idle.count() >= 1 && c.close_wait_threshold.count() >= 1);
  require(c.group_by != GroupBy{false, false, false, false, false});
  const ServerConfig& server = config->server;
  for (const ListenerOptions& listener : server.listeners) {
    require(!listener.name.empty() && !is_web_name(listener.name));
    require(listener.accept_rate.hard == 0 ||
            listener.accept_rate.hard >= listener.accept_rate.soft);
    require(listener.per_peer.burst == 0 || listener.per_peer.rate > 0);
  }
  require(validate({.listeners = server.listeners}).ok());
  require(server.audit.path.empty() || server.audit.path.front() == '/');
  require(summary(*config).find('\n') == std::string::npos);
  return 0;
}
