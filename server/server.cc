#include "server/server.h"

#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <limits>
#include <string>
#include <thread>
#include <utility>

#include "base/log.h"
#include "server/handlers.h"
#include "server/socket_address.h"

namespace tcpvitals {
namespace {

constexpr rlim_t kMostConnections = 1 << 20;
constexpr auto kDrainLook = std::chrono::milliseconds(5);

// The time, in microseconds, so that no process gives an id of an earlier one anew: connections are
// accepted far slower than that. Exact as a double, as JSON readers have it, for two centuries.
std::uint64_t first_connection_id() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return static_cast<std::uint64_t>(
      std::chrono::duration_cast<std::chrono::microseconds>(now).count());
}

struct Descriptors {
  std::uint32_t essential = 0;  // for connections of essential listeners
  std::uint32_t others = 0;     // for those of all others
};

Descriptors share_descriptors(const ServerOptions& options) {
  // An epoll and an eventfd; and for each listener its socket, and a relay's for the next backend.
  rlim_t kept = options.reserved_descriptors + 2 * options.workers;
  Descriptors share;
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

std::vector<Fd> take_by_name(std::vector<PassedSocket>& passed, const std::string& name) {
  std::vector<Fd> sockets;
  for (PassedSocket& socket : passed) {
    if (socket.fd.valid() && socket.name == name) sockets.push_back(std::move(socket.fd));
  }
  return sockets;
}

}  // namespace

Result<std::unique_ptr<Server>> Server::start(ServerOptions options,
                                              std::vector<PassedSocket> passed) {
  if (auto valid = validate(options); !valid) return std::move(valid.error()).in("server");
  if (options.workers == 0) options.workers = std::max(1U, std::thread::hardware_concurrency());
  std::unique_ptr<Server> server(new Server(std::move(options)));
  auto opened = server->open(std::move(passed));
  if (!opened) return std::move(opened.error()).in("server");
  for (const auto& worker : server->workers_) worker->start();
  return server;
}

Server::Server(ServerOptions options)
    : options_(std::move(options)), series_(options_.connection_series) {}

Server::~Server() { stop(); }

Result<void> Server::open(std::vector<PassedSocket> passed) {
  const Descriptors descriptors = share_descriptors(options_);
  shared_.next_connection_id = first_connection_id();
  shared_.descriptors.fill(descriptors.others);
  shared_.reserve.fill(descriptors.essential);
  shared_.audit = options_.audit;
  for (const ListenerOptions& options : options_.listeners) {
    auto tls = options.tls.enabled() ? std::make_unique<TlsStore>(options.tls) : nullptr;
    const std::uint32_t limit = options.max_connections != 0
                                    ? options.max_connections
                                    : descriptors.others / descriptors_for(options.handler);
    listeners_.push_back(std::make_unique<ServerListener>(options, limit, std::move(tls)));
    passed_.push_back(take_by_name(passed, options.name));
  }
  told_.resize(listeners_.size());
  if (auto made = make_workers(); !made) return made;
  for (std::size_t i = 0; i < listeners_.size(); ++i) {
    if (auto listening = listen_if_usable(i); !listening) return listening;
  }
  return {};
}

Result<void> Server::make_workers() {
  for (unsigned i = 0; i < options_.workers; ++i) {
    std::vector<Worker::Port> ports;
    for (std::size_t l = 0; l < listeners_.size(); ++l) {
      const ListenerOptions& options = listeners_[l]->options();
      const std::size_t given = passed_[l].size();
      const bool shared = given != 0 && given < options_.workers;
      Worker::Port& port =
          ports.emplace_back(Worker::Port{*listeners_[l], {}, make_handler(options), shared});
      if (options.handler != HandlerKind::kRelay) continue;
      if (!port.spares.emplace_back(open_socket(options.backend)).valid()) {
        return errno_error("socket", errno).in("listener " + options.name + ": backend");
      }
    }
    auto worker = Worker::create({i, options_.sweep_interval, series_, shared_}, std::move(ports));
    if (!worker) return std::move(worker.error());
    workers_.push_back(std::move(*worker));
  }
  return {};
}

Result<void> Server::listen(std::size_t listener) {
  ServerListener& opening = *listeners_[listener];
  auto opened = open_listener(opening.options(), options_.workers, std::move(passed_[listener]));
  if (!opened) return std::move(opened.error());
  // A listening socket has a TCP_INFO too: its length says what this kernel knows.
  if (const auto info = tcp_info_of(opened->sockets[0].get())) tcp_info_length_ = info->length;
  opening.open_at(opened->endpoint);
  std::vector<std::vector<Fd>> of_workers(workers_.size());
  for (std::size_t i = 0; i < opened->sockets.size(); ++i) {
    sockets_.emplace_back(opening.options().name, opened->sockets[i].get());
    of_workers[i % of_workers.size()].push_back(std::move(opened->sockets[i]));
  }
  for (std::size_t i = 0; i < workers_.size(); ++i) {
    auto listening = workers_[i]->listen(listener, std::move(of_workers[i]));
    if (!listening) return listening;
  }
  return {};
}

// Fails only if a listener that could be open cannot.
Result<void> Server::listen_if_usable(std::size_t listener) {
  ServerListener& opening = *listeners_[listener];
  const auto context = opening.tls() == nullptr ? nullptr : opening.tls()->current();
  const bool usable = opening.tls() == nullptr || context != nullptr;
  if (usable && !opening.is_open()) {
    if (auto listening = listen(listener); !listening) return listening;
  }
  if (!usable) {
    tell(listener, "closed: " + opening.tls()->statistics().error);
  } else if (context != nullptr) {
    const auto doubt =
        context->doubt(std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now()));
    tell(listener, doubt ? opening.options().tls.*doubt->file + ": " + doubt->reason : "");
  }
  return {};
}

void Server::tell(std::size_t listener, std::string trouble) {
  if (told_[listener] == trouble) return;
  told_[listener] = std::move(trouble);
  const std::string& name = options_.listeners[listener].name;
  if (told_[listener].empty()) return log_info("certificate is good again", {{"listener", name}});
  log_error("certificate needs attention", {{"listener", name}, {"error", told_[listener]}});
}

void Server::renew_tls() {
  for (std::size_t i = 0; i < listeners_.size(); ++i) {
    TlsStore* const tls = listeners_[i]->tls();
    if (tls == nullptr) continue;
    const std::string& name = listeners_[i]->options().name;
    if (tls->changed()) {
      const auto loaded = tls->reload();
      if (loaded) log_info("certificates reloaded", {{"listener", name}});
      if (!loaded) {
        log_warn("certificates not reloaded",
                 {{"listener", name}, {"error", loaded.error().message}});
      }
    }
    if (auto listening = listen_if_usable(i); !listening) tell(i, listening.error().message);
  }
}

bool Server::drain(TimePoint deadline) {
  sockets_.clear();
  for (const auto& worker : workers_) worker->drain();
  const auto empty = [&] {
    return std::all_of(workers_.begin(), workers_.end(),
                       [](const auto& worker) { return worker->drained(); });
  };
  while (!empty()) {
    if (Clock::now() >= deadline) return false;
    std::this_thread::sleep_for(kDrainLook);
  }
  return true;
}

void Server::stop() {
  for (const auto& worker : workers_) worker->stop();
  for (const auto& worker : workers_) worker->join();
}

const Endpoint& Server::endpoint(std::size_t listener) const {
  return listeners_[listener]->endpoint();
}

Result<ServerSnapshot> Server::snapshot(TimePoint deadline) {
  const std::vector<std::uint64_t> held = series_.ids();
  std::vector<std::uint64_t> tickets;
  for (const auto& worker : workers_) tickets.push_back(worker->request_report());

  ServerSnapshot snapshot;
  snapshot.tcp_info_length = tcp_info_length_;
  for (const auto& listener : listeners_) {
    snapshot.listeners.push_back(
        {listener->options().name, listener->gauges(Clock::now()), {}, {}});
  }
  for (std::size_t i = 0; i < workers_.size(); ++i) {
    const auto report = workers_[i]->wait_report(tickets[i], deadline);
    if (!report) return report.error();
    for (std::size_t l = 0; l < listeners_.size(); ++l) {
      const ListenerStatistics& statistics = (*report)->listeners[l];
      snapshot.listeners[l].statistics += statistics;
      snapshot.listeners[l].live_by_worker.push_back(statistics.live());
    }
    snapshot.connections.insert(snapshot.connections.end(), (*report)->connections.begin(),
                                (*report)->connections.end());
  }
  std::sort(snapshot.connections.begin(), snapshot.connections.end(), worse<ConnectionReport>);
  snapshot.series = series_.choose(held, snapshot.connections, Clock::now());
  if (snapshot.connections.size() > options_.connection_series.slots) {
    snapshot.connections.resize(options_.connection_series.slots);
  }
  return snapshot;
}

}  // namespace tcpvitals
