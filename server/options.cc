#include "server/options.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <thread>

#include "server/socket_address.h"

namespace tcpvitals {
namespace {

Result<void> validate(const ListenerOptions& listener) {
  const auto error = [&](const char* what) {
    return Error{fmt::format("listener {}: {}", listener.name, what)};
  };
  if (listener.name.empty()) return Error{"a listener without a name"};
  if (listener.max_output_bytes == 0) return error("max_output_bytes must be positive");
  if (listener.handler == HandlerKind::kRelay && listener.backend.port == 0) {
    return error("a relay needs a backend");
  }
  if (listener.handler == HandlerKind::kOwn && !listener.make_handler) {
    return error("make_handler is empty");
  }
  if (listener.essential && listener.max_connections == 0) {
    return error("an essential listener needs max_connections");
  }
  if (listener.tls.enabled() && listener.tls.key_file.empty()) {
    return error("a certificate needs its key file");
  }
  if (listener.tls.client_certificate != ClientCertificate::kNone &&
      listener.tls.client_ca_file.empty()) {
    return error("to ask clients for certificates, name the file of who signs them");
  }
  return {};
}

// The listener that a connection to `to` reaches: one on the address itself goes before one on all
// addresses, of which [::] is IPv4's too.
std::optional<std::size_t> reached_by(const Endpoint& to,
                                      const std::vector<ListenerOptions>& listeners,
                                      const std::function<bool(const IpAddress&)>& is_own) {
  const auto takes = [&](const ListenerOptions& listener) {
    const Endpoint& at = listener.endpoint;
    return at.port == to.port && at.address.is_any() &&
           (to.address.is_v4() || !at.address.is_v4()) && is_own(to.address);
  };
  auto found = std::find_if(listeners.begin(), listeners.end(),
                            [&](const ListenerOptions& l) { return l.endpoint == to; });
  if (found == listeners.end()) found = std::find_if(listeners.begin(), listeners.end(), takes);
  if (found == listeners.end()) return std::nullopt;
  return static_cast<std::size_t>(found - listeners.begin());
}

}  // namespace

unsigned workers_of(unsigned workers) {
  return workers != 0 ? workers : std::max(1U, std::thread::hardware_concurrency());
}

std::vector<std::size_t> find_relay_circle(const std::vector<ListenerOptions>& listeners,
                                           const std::function<bool(const IpAddress&)>& is_own) {
  std::vector<std::optional<std::size_t>> next;
  for (const ListenerOptions& listener : listeners) {
    const bool relays = listener.handler == HandlerKind::kRelay;
    next.push_back(relays ? reached_by(listener.backend, listeners, is_own) : std::nullopt);
  }
  for (std::size_t first = 0; first < listeners.size(); ++first) {
    std::vector<std::size_t> path;
    for (std::optional<std::size_t> at = first; at && path.size() < listeners.size();
         at = next[*at]) {
      path.push_back(*at);
      if (next[*at] == first) return path;
    }
  }
  return {};
}

Result<void> validate(const ServerOptions& options) {
  if (options.listeners.size() > kMostListeners) {
    return Error{
        fmt::format("{} listeners: expected at most {}", options.listeners.size(), kMostListeners)};
  }
  if (options.sweep_interval <= Clock::duration::zero()) {
    return Error{"the sweep interval must be positive"};
  }
  if (options.connection_series.new_per_hour == 0) {
    return Error{"connection series: new_per_hour must be positive; for none, slots = 0"};
  }
  std::set<std::string> names;
  for (const ListenerOptions& listener : options.listeners) {
    if (auto valid = validate(listener); !valid) return valid;
    if (!names.insert(listener.name).second) {
      return Error{fmt::format("listener {}: a second one of that name", listener.name)};
    }
  }
  if (const auto circle = find_relay_circle(options.listeners, is_own_address); !circle.empty()) {
    return Error{fmt::format("listener {}: its backend leads back to it",
                             options.listeners[circle.front()].name)};
  }
  return {};
}

}  // namespace tcpvitals
