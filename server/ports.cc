#include "server/ports.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "server/socket_address.h"
#include "server/worker.h"

namespace tcpvitals {
namespace {

constexpr Clock::duration kLook = std::chrono::milliseconds(100);
constexpr Clock::duration kPatience = std::chrono::seconds(1);

// Whose connection it is, is known, and the lists and limits of clients are for it.
bool is_clients(const Connection& c) {
  return !c.outbound && c.phase != Phase::kProxyHeader && !(c.proxied && c.proxied->probe);
}

}  // namespace

std::optional<std::size_t> Ports::current(const PortChange& change) const {
  const auto found = std::find_if(ports_.begin(), ports_.end(), [&](const Port& port) {
    return port.common == change.common && !port.retired;
  });
  if (found == ports_.end()) return std::nullopt;
  return static_cast<std::size_t>(found - ports_.begin());
}

int Ports::change(std::vector<PortChange> changes) {
  // Of what goes first, sockets may go to others.
  for (const PortChange& change : changes) let_go(change, changes);
  int error = 0;
  for (PortChange& change : changes) {
    const int unwatched = put_in_force(change);
    if (error == 0) error = unwatched;
  }
  worker_.slab_.for_each([&](Connection& c) {
    const Port& port = ports_[c.port];
    if (!port.before) return;
    if (is_clients(c)) hold_to_limits(c, port);
    if (!c.doomed) worker_.schedule(c);
  });
  for (Port& port : ports_) port.before.reset();
  return error;
}

void Ports::let_go(const PortChange& change, const std::vector<PortChange>& all) {
  if (const auto index = current(change)) close_if_gone(*index, change, all);
  if (change.settings) return;
  for (Port& port : ports_) {
    if (port.common == change.common) begin_drain(port, change.drain_ends);
  }
}

void Ports::close_if_gone(std::size_t index, const PortChange& change,
                          const std::vector<PortChange>& all) {
  const bool stays = change.settings && !change.handler;
  if (stays && ports_[index].sockets == change.sockets) return;
  Port& port = ports_[index];
  const bool is_kept = std::any_of(all.begin(), all.end(), [&](const PortChange& next) {
    return !port.sockets.empty() && next.sockets == port.sockets;
  });
  if (!is_kept) worker_.accept_from(index);  // who waits came before the change
  worker_.unwatch_port(index);
  port.sockets.clear();
  port.paused = false;
  port.retired = !stays;
  free_if_done(port);
}

int Ports::put_in_force(PortChange& change) {
  if (!change.settings) return 0;
  for (Port& port : ports_) {
    if (port.common != change.common) continue;
    port.before = std::exchange(port.settings, change.settings);
    if (port.retired) continue;
    port.handler->on_options(port.options());
    const bool v4 = port.options().backend.address.is_v4();
    if (v4 != port.before->options.backend.address.is_v4()) renew_spares(port);
  }
  const std::size_t index = change.handler ? add(change) : current(change).value();
  Port& port = ports_[index];
  port.endpoint = change.endpoint;
  port.shared = change.shared;
  port.resume_at = worker_.now_;
  if (port.sockets == change.sockets) return 0;
  port.sockets = std::move(change.sockets);
  if (worker_.watch_port(index)) return 0;
  const int error = errno;
  worker_.pause(index, PauseReason::kError);
  return error;
}

std::size_t Ports::add(PortChange& change) {
  if (accounts_.size() <= change.listener) accounts_.resize(change.listener + 1);
  Account& account = accounts_[change.listener];
  if (account.owner != change.common) {
    account = {change.common, std::make_shared<ListenerStatistics>()};
  }
  auto place = std::find_if(ports_.begin(), ports_.end(),
                            [](const Port& port) { return port.common == nullptr; });
  if (place == ports_.end()) place = ports_.insert(place, Port{});
  place->listener = change.listener;
  place->common = change.common;
  place->settings = change.settings;
  place->statistics = account.statistics;
  place->handler = std::move(change.handler);
  place->spares = std::move(change.spares);
  return static_cast<std::size_t>(place - ports_.begin());
}

// The limits of each peer may have another table now, which counts who is here already.
void Ports::hold_to_limits(Connection& c, const Port& port) {
  const IpAddress client = c.client().address;
  PeerLimits& limits = *port.settings->peer_limits;
  if (&limits != port.before->peer_limits.get()) {
    if (c.counted) port.before->peer_limits->leave(client);
    c.counted = limits.adopt(client);
  }
  if (port.settings->access.allows(client)) return;
  c.reset = true;
  worker_.doom(c, CloseCause::kDenied);
}

// Of the other family; one that cannot be made is made when it is needed.
void Ports::renew_spares(Port& port) {
  for (Fd& spare : port.spares) {
    spare.reset();
    spare = open_socket(port.options().backend);
  }
  while (port.spares.size() > port.owed && !port.spares.back().valid()) port.spares.pop_back();
}

void Ports::begin_drain(Port& port, TimePoint ends) {
  if (!port.draining) port.drain_began = worker_.now_;
  port.drain_ends = port.draining ? std::min(port.drain_ends, ends) : ends;
  port.draining = true;
  next_look_ = worker_.now_;
}

void Ports::drain() {
  for (std::size_t i = 0; i < ports_.size(); ++i) {
    if (ports_[i].common == nullptr) continue;
    // A connection may have woken this worker alone of all that share the socket.
    worker_.accept_from(i);
    begin_drain(ports_[i], TimePoint::max());
  }
  worker_.close_ports();
  look();
}

// Who connected a moment ago has a question on its way. Those that are not open yet will be, or
// late.
void Ports::look() {
  const TimePoint now = worker_.now_;
  worker_.slab_.for_each([&](Connection& c) {
    const Port& port = ports_[c.port];
    if (!port.draining) return;
    if (now >= port.drain_ends) return worker_.doom(c, CloseCause::kShutdown);
    if (c.phase != Phase::kOpen || c.outbound || c.drained) return;
    const auto bytes = static_cast<std::uint32_t>(c.read_bytes + c.written_bytes);
    const bool patient = now - port.drain_began < kPatience;
    c.drained = !patient || (c.looked_at && bytes == c.bytes_at_look);
    c.looked_at = true;
    c.bytes_at_look = bytes;
    if (c.drained) port.handler->on_drain(Stream(worker_, c));
  });
  const bool more = std::any_of(ports_.begin(), ports_.end(), [](const Port& port) {
    return port.draining && port.connections > 0;
  });
  next_look_ = more ? now + kLook : TimePoint::max();
}

void Ports::leave(std::size_t port) {
  --ports_[port].connections;
  free_if_done(ports_[port]);
}

void Ports::free_if_done(Port& port) {
  if (port.retired && port.connections == 0) port = Port{};
}

std::vector<ListenerStatistics> Ports::statistics() const {
  std::vector<ListenerStatistics> all;
  for (const Account& account : accounts_) {
    all.push_back(account.statistics ? *account.statistics : ListenerStatistics{});
  }
  return all;
}

}  // namespace tcpvitals
