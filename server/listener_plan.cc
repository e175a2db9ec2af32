#include "server/listener_plan.h"

#include <sys/resource.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "server/handlers.h"
#include "server/socket_address.h"

namespace tcpvitals {
namespace {

constexpr rlim_t kMostConnections = 1 << 20;

std::vector<Fd> take_by_name(std::vector<PassedSocket>& passed, const std::string& name) {
  std::vector<Fd> sockets;
  for (PassedSocket& socket : passed) {
    if (socket.fd.valid() && socket.name == name) sockets.push_back(std::move(socket.fd));
  }
  return sockets;
}

// Whether the files are the same; how many handshakes may run is not theirs.
bool same_files(TlsOptions a, const TlsOptions& b) {
  a.max_handshakes = b.max_handshakes;
  return a == b;
}

std::shared_ptr<TlsStore> tls_for(const ListenerOptions& options, const ListenerEntry& entry) {
  if (!options.tls.enabled()) return nullptr;
  const ListenerSettings* const before = entry.settings.get();
  if (before != nullptr && before->tls && same_files(before->options.tls, options.tls)) {
    return before->tls;
  }
  return std::make_shared<TlsStore>(options.tls, entry.tls_before);
}

std::shared_ptr<PeerLimits> limits_for(const ListenerOptions& options, const ListenerEntry& entry) {
  const ListenerSettings* const before = entry.settings.get();
  if (before != nullptr && before->options.per_peer == options.per_peer) {
    return before->peer_limits;
  }
  return std::make_shared<PeerLimits>(options.per_peer);
}

bool is_usable(const ListenerSettings& settings) {
  return !settings.tls || settings.tls->current() != nullptr;
}

// A new port is wanted: who is connected stays with what it was connected to.
bool is_another_place(const ListenerOptions& a, const ListenerOptions& b) {
  return a.handler != b.handler || a.endpoint != b.endpoint;
}

// Of the sockets of all workers those of one; where there are fewer, one that it shares.
std::vector<SharedFd> of_worker(const ListenerEntry& entry, std::size_t worker,
                                std::size_t workers) {
  std::vector<SharedFd> sockets;
  if (!entry.open) return sockets;
  for (std::size_t i = worker; i < std::max(entry.sockets.size(), workers); i += workers) {
    sockets.push_back(entry.sockets[i % entry.sockets.size()]);
  }
  return sockets;
}

PortChange change_for(std::size_t place, const ListenerEntry& entry, std::size_t worker,
                      std::size_t workers) {
  return {.listener = place,
          .common = entry.common,
          .settings = entry.settings,
          .endpoint = entry.endpoint,
          .sockets = of_worker(entry, worker, workers),
          .shared = entry.passed != 0 && entry.passed < workers};
}

Result<void> open_sockets(ListenerEntry& entry, std::vector<Fd> passed, std::size_t workers,
                          bool beside_ours) {
  entry.passed = passed.size();
  auto opened = open_listener(entry.settings->options, static_cast<unsigned>(workers),
                              std::move(passed), beside_ours);
  if (!opened) return std::move(opened.error());
  entry.endpoint = opened->endpoint;
  for (Fd& fd : opened->sockets) {
    entry.sockets.push_back(std::make_shared<const Fd>(std::move(fd)));
  }
  entry.open = true;
  return {};
}

}  // namespace

DescriptorShare share_descriptors(const ServerOptions& options) {
  // An epoll and an eventfd; and for each listener its socket, and a relay's for the next backend.
  rlim_t kept = options.reserved_descriptors + 2 * options.workers;
  DescriptorShare share;
  for (const ListenerOptions& listener : options.listeners) {
    const std::uint32_t each = descriptors_for(listener.handler);
    kept += each * options.workers;
    if (!listener.essential) continue;
    const std::uint32_t own = listener.backend_is_here ? 2 : each;
    share.essential += listener.max_connections * own;
    if (listener.backend_is_here) kept += listener.max_connections;
  }
  kept += share.essential;
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  const rlim_t most = std::min(limit.rlim_cur, kMostConnections);
  share.others = static_cast<std::uint32_t>(most > 2 * kept ? most - kept : most / 2);
  return share;
}

Result<ListenerPlan> ListenerPlan::make(std::vector<ListenerEntry> now, const ServerOptions& wanted,
                                        std::vector<PassedSocket> passed, TimePoint drain_ends) {
  ListenerPlan plan(wanted.workers);
  plan.entries = std::move(now);
  plan.descriptors = share_descriptors(wanted);
  for (std::size_t i = 0; i < plan.entries.size(); ++i) {
    const std::string& name = plan.entries[i].name;
    const auto is_it = [&](const ListenerOptions& listener) { return listener.name == name; };
    const auto& listeners = wanted.listeners;
    if (std::none_of(listeners.begin(), listeners.end(), is_it)) plan.remove(i, drain_ends);
  }
  for (const ListenerOptions& listener : wanted.listeners) {
    const auto place = plan.place_of(listener.name);
    if (!place) return place.error();
    plan.order.push_back(*place);
    if (auto done = plan.want(*place, listener); !done) return std::move(done.error());
  }
  for (const std::size_t place : plan.order) {
    if (auto done = plan.settle(place, passed); !done) return std::move(done.error());
  }
  for (const std::size_t place : plan.order) {
    if (auto done = plan.add_ports(place); !done) return std::move(done.error());
  }
  return plan;
}

ListenerPlan::~ListenerPlan() {
  for (const SharedFd& socket : joined_) {
    set_option(*socket, SOL_SOCKET, SO_REUSEPORT, of_workers.size() > 1);
  }
}

// Its own, a new one, or that of a listener that is gone for good.
Result<std::size_t> ListenerPlan::place_of(const std::string& name) {
  const auto has_name = [&](const ListenerEntry& entry) { return entry.name == name; };
  auto found = std::find_if(entries.begin(), entries.end(), has_name);
  if (found == entries.end() && entries.size() == kMostListeners) {
    found = std::find_if(entries.begin(), entries.end(), [](const ListenerEntry& entry) {
      return !entry.wanted && entry.common->reserved() == 0;
    });
    if (found == entries.end()) {
      return Error{"listener " + name + ": too many others, with those that are still drained"};
    }
    *found = ListenerEntry{};
  }
  if (found == entries.end()) found = entries.insert(found, ListenerEntry{});
  found->name = name;
  fresh_.resize(entries.size());
  return static_cast<std::size_t>(found - entries.begin());
}

// Its sockets had the options of these settings.
void ListenerPlan::leave(ListenerEntry& entry, std::shared_ptr<const ListenerSettings> settings) {
  if (!entry.sockets.empty()) {
    leaving_.push_back(
        {entry.endpoint, std::move(entry.sockets), entry.passed, std::move(settings)});
  }
  entry.sockets.clear();
  entry.passed = 0;
  entry.open = false;
}

// Of what it was only the limit is told for as long as it has connections.
void ListenerPlan::remove(std::size_t place, TimePoint drain_ends) {
  ListenerEntry& entry = entries[place];
  if (!entry.wanted) return;
  leave(entry, entry.settings);
  entry.wanted = false;
  entry.told.clear();
  if (entry.settings->tls) entry.tls_before = entry.settings->tls->statistics();
  ListenerOptions options = entry.settings->options;
  options.tls = {};
  options.per_peer = {};
  entry.settings = std::make_shared<const ListenerSettings>(
      options, entry.settings->limit, nullptr, std::make_shared<PeerLimits>(options.per_peer));
  for (auto& changes : of_workers) {
    changes.push_back({.listener = place, .common = entry.common, .drain_ends = drain_ends});
  }
}

Result<void> ListenerPlan::want(std::size_t place, const ListenerOptions& options) {
  ListenerEntry& entry = entries[place];
  if (!entry.common) entry.common = std::make_shared<ServerListener>(options.accept_rate);
  if (entry.settings && entry.settings->options.essential != options.essential) {
    return Error{"listener " + options.name + ": a listener cannot become essential"};
  }
  if (entry.settings && entry.settings->tls) entry.tls_before = entry.settings->tls->statistics();
  const std::uint32_t limit = options.max_connections != 0
                                  ? options.max_connections
                                  : descriptors.others / descriptors_for(options.handler);
  const auto before = std::exchange(
      entry.settings, std::make_shared<const ListenerSettings>(
                          options, limit, tls_for(options, entry), limits_for(options, entry)));
  const bool stays = std::exchange(entry.wanted, true);
  fresh_[place] = !stays || is_another_place(before->options, options);
  if (stays && before->options.endpoint != options.endpoint) leave(entry, before);
  if (entry.sockets.empty()) {
    entry.endpoint = on_this_host(options.endpoint);
    return {};
  }
  return keep(entry, before);
}

// Sockets that listen already have the options of the listener from now on.
Result<void> ListenerPlan::keep(ListenerEntry& entry,
                                const std::shared_ptr<const ListenerSettings>& before) {
  if (auto taken = check_socket_options(entry.settings->options); !taken) {
    return std::move(taken.error()).in("listener " + entry.name);
  }
  for (const SharedFd& socket : entry.sockets) kept_.push_back({socket, before, entry.settings});
  return {};
}

// Where it listens, when all that leave have left.
Result<void> ListenerPlan::settle(std::size_t place, std::vector<PassedSocket>& passed) {
  ListenerEntry& entry = entries[place];
  const bool usable = is_usable(*entry.settings);
  if (entry.sockets.empty()) {
    const auto before = take_over(entry);
    auto kept = before ? keep(entry, before) : Result<void>();
    if (!kept) return kept;
  }
  std::vector<Fd> given = take_by_name(passed, entry.name);
  if (!usable && !given.empty()) {
    for (Fd& fd : given) entry.sockets.push_back(std::make_shared<const Fd>(std::move(fd)));
    entry.passed = entry.sockets.size();
    entry.endpoint = local_endpoint(*entry.sockets[0]);
  }
  if (!usable && entry.passed == 0) entry.sockets.clear();
  entry.open = usable && !entry.sockets.empty();
  if (!usable || entry.open) return {};
  return open_sockets(entry, std::move(given), of_workers.size(), join(entry));
}

// The settings that its sockets had; null: nobody leaves its address.
std::shared_ptr<const ListenerSettings> ListenerPlan::take_over(ListenerEntry& entry) {
  const auto found = std::find_if(leaving_.begin(), leaving_.end(), [&](const Leaving& leaving) {
    return !leaving.sockets.empty() && leaving.endpoint == entry.endpoint;
  });
  if (found == leaving_.end()) return nullptr;
  entry.sockets = std::exchange(found->sockets, {});
  entry.passed = found->passed;
  return found->settings;
}

// Whether a part of its address is one that another leaves: the kernel lets both have it for as
// long as both say so.
bool ListenerPlan::join(const ListenerEntry& entry) {
  bool beside_ours = false;
  for (const Leaving& leaving : leaving_) {
    const bool overlaps = leaving.endpoint.address.is_any() || entry.endpoint.address.is_any();
    if (leaving.endpoint.port != entry.endpoint.port || !overlaps) continue;
    beside_ours = beside_ours || !leaving.sockets.empty();
    for (const SharedFd& socket : leaving.sockets) {
      set_option(*socket, SOL_SOCKET, SO_REUSEPORT, 1);
      joined_.push_back(socket);
    }
  }
  return beside_ours;
}

Result<void> ListenerPlan::add_ports(std::size_t place) {
  const ListenerEntry& entry = entries[place];
  const ListenerOptions& options = entry.settings->options;
  for (std::size_t i = 0; i < of_workers.size(); ++i) {
    PortChange& change = of_workers[i].emplace_back(change_for(place, entry, i, of_workers.size()));
    if (!fresh_[place]) continue;
    change.handler = make_handler(options);
    if (options.handler != HandlerKind::kRelay) continue;
    if (!change.spares.emplace_back(open_socket(options.backend)).valid()) {
      return errno_error("socket", errno).in("listener " + options.name + ": backend");
    }
  }
  return {};
}

void ListenerPlan::set_socket_options() {
  for (const Kept& kept : kept_) {
    (void)change_socket_options(*kept.socket, kept.before->options, kept.after->options);
  }
}

Result<std::vector<PortChange>> ListenerPlan::open(std::size_t place, ListenerEntry& entry,
                                                   unsigned workers) {
  const ListenerOptions& options = entry.settings->options;
  for (const SharedFd& socket : entry.sockets) {
    if (auto set = change_socket_options(*socket, options, options); !set) {
      return std::move(set.error()).in("listener " + entry.name);
    }
  }
  if (entry.sockets.empty()) {
    if (auto opened = open_sockets(entry, {}, workers, false); !opened) {
      return std::move(opened.error());
    }
  }
  entry.open = true;
  std::vector<PortChange> of_all;
  for (std::size_t i = 0; i < workers; ++i) {
    of_all.push_back(change_for(place, entry, i, workers));
  }
  return of_all;
}

}  // namespace tcpvitals
