#include "agent/listeners.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <utility>

#include "exporter/http.h"
#include "server/socket_address.h"

namespace tcpvitals {
namespace {

// The first is `name`.
std::string numbered(const char* name, std::size_t i) {
  return i == 0 ? name : fmt::format("{}-{}", name, i + 1);
}

// A listener that may have any port is where it was.
bool is_at(const ListenerOptions& listener, const Endpoint& address) {
  return on_this_host(listener.endpoint) == address ||
         (listener.endpoint.port == 0 && listener.endpoint.address == address.address);
}

}  // namespace

std::vector<ListenerOptions> make_listeners(const Options& options, const ServerConfig& config,
                                            Door& door) {
  std::vector<ListenerOptions> listeners = config.listeners;
  if (config.listeners.empty() || options.server_addresses_given) {
    for (std::size_t i = 0; i < options.server_addresses.size(); ++i) {
      ListenerOptions& echo = listeners.emplace_back();
      echo.name = numbered("echo", i);
      echo.endpoint = options.server_addresses[i];
    }
  }
  for (std::size_t i = 0; i < options.web_addresses.size(); ++i) {
    ListenerOptions& web = listeners.emplace_back(config.web);
    web.name = numbered("web", i);
    web.endpoint = options.web_addresses[i];
    web.handler = HandlerKind::kOwn;
    web.make_handler = [&door, most = web.max_output_bytes] { return door.make_handler(most); };
    web.essential = true;
    web.backend_is_here = true;
    // For one peer half as many as HTTP has threads, on all addresses together: many requests of
    // one leave the other half alone. Several peers have room for heads that are slow to come.
    const unsigned threads = http_threads(options.max_requests);
    if (web.max_connections == 0) web.max_connections = 2 * threads;
    std::uint32_t& of_one_peer = web.per_peer.max_connections;
    if (of_one_peer == 0) {
      const auto addresses = static_cast<std::uint32_t>(options.web_addresses.size());
      of_one_peer = std::max(2U, std::min(web.max_connections, threads / addresses) / 2);
    }
    web.connection_series = false;  // every scrape would bring new ones: of its own connection
  }
  return listeners;
}

Result<void> assign(std::vector<PassedSocket>& sockets,
                    const std::vector<ListenerOptions>& listeners) {
  for (PassedSocket& socket : sockets) {
    const auto has_name = [&](const ListenerOptions& l) { return l.name == socket.name; };
    if (std::any_of(listeners.begin(), listeners.end(), has_name)) continue;
    const Endpoint address = local_endpoint(socket.fd);
    const auto found = std::find_if(listeners.begin(), listeners.end(),
                                    [&](const ListenerOptions& l) { return is_at(l, address); });
    if (found == listeners.end()) {
      return Error{fmt::format(
          "passed socket \"{}\" at {}: expected the name (FileDescriptorName=) or the address of a "
          "listener",
          socket.name, to_string(address))};
    }
    socket.name = found->name;
  }
  return {};
}

void keep_wanted(std::vector<PassedSocket>& sockets,
                 const std::vector<ListenerOptions>& listeners) {
  std::erase_if(sockets, [&](PassedSocket& socket) {
    const Endpoint address = local_endpoint(socket.fd);
    const auto wanted =
        std::find_if(listeners.begin(), listeners.end(), [&](const ListenerOptions& l) {
          return (socket.name.empty() || socket.name == l.name) && is_at(l, address);
        });
    if (wanted == listeners.end()) return true;
    socket.name = wanted->name;
    return false;
  });
}

}  // namespace tcpvitals
