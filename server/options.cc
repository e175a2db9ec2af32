#include "server/options.h"

#include <fmt/format.h>

#include <set>

namespace tcpvitals {
namespace {

constexpr std::size_t kMaxListeners = 1000;

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

}  // namespace

Result<void> validate(const ServerOptions& options) {
  if (options.listeners.size() > kMaxListeners) {
    return Error{
        fmt::format("{} listeners: expected at most {}", options.listeners.size(), kMaxListeners)};
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
  return {};
}

}  // namespace tcpvitals
