#include "server/server.h"

#include <sys/resource.h>

#include <algorithm>
#include <limits>
#include <string>
#include <thread>
#include <utility>

namespace tcpvitals {
namespace {

constexpr rlim_t kReservedDescriptors =
    128;  // for scrapes, logs and whatever else the process does
constexpr rlim_t kMostConnections = 1 << 20;

std::uint32_t default_connection_limit() {
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  const rlim_t most = std::min(limit.rlim_cur, kMostConnections);
  return static_cast<std::uint32_t>(most > 2 * kReservedDescriptors ? most - kReservedDescriptors
                                                                    : most / 2);
}

}  // namespace

Result<std::unique_ptr<Server>> Server::start(ServerOptions options) {
  if (auto valid = validate(options); !valid) return std::move(valid.error()).in("server");
  if (options.workers == 0) options.workers = std::max(1U, std::thread::hardware_concurrency());
  std::unique_ptr<Server> server(new Server(std::move(options)));
  if (auto opened = server->open(); !opened) return std::move(opened.error()).in("server");
  for (const auto& worker : server->workers_) worker->start();
  return server;
}

Server::Server(ServerOptions options) : options_(std::move(options)) {}

Server::~Server() { stop(); }

Result<void> Server::open() {
  std::vector<std::vector<Worker::Port>> ports(options_.workers);
  for (const ListenerOptions& listener : options_.listeners) {
    auto opened = open_listener(listener, options_.workers);
    if (!opened) return std::move(opened.error());
    // A listening socket has a TCP_INFO too: its length says what this kernel knows.
    if (const auto info = tcp_info_of(opened->sockets[0].get())) tcp_info_length_ = info->length;
    const std::uint32_t limit =
        listener.max_connections != 0 ? listener.max_connections : default_connection_limit();
    listeners_.push_back(std::make_unique<ServerListener>(listener, opened->endpoint, limit));
    for (unsigned i = 0; i < options_.workers; ++i) {
      ports[i].push_back({*listeners_.back(), std::move(opened->sockets[i])});
    }
  }
  for (unsigned i = 0; i < options_.workers; ++i) {
    auto worker = Worker::create(
        {i, options_.sweep_interval, options_.max_connection_series, next_connection_id_},
        std::move(ports[i]));
    if (!worker) return std::move(worker.error());
    workers_.push_back(std::move(*worker));
  }
  return {};
}

void Server::stop() {
  for (const auto& worker : workers_) worker->stop();
  for (const auto& worker : workers_) worker->join();
}

const Endpoint& Server::endpoint(std::size_t listener) const {
  return listeners_[listener]->endpoint();
}

Result<ServerSnapshot> Server::snapshot(TimePoint deadline) {
  std::vector<std::uint64_t> tickets;
  for (const auto& worker : workers_) tickets.push_back(worker->request_report());

  ServerSnapshot snapshot;
  snapshot.tcp_info_length = tcp_info_length_;
  for (const auto& listener : listeners_) {
    snapshot.listeners.push_back({listener->options().name, listener->limit(), {}});
  }
  for (std::size_t i = 0; i < workers_.size(); ++i) {
    const auto report = workers_[i]->wait_report(tickets[i], deadline);
    if (!report) return report.error();
    for (std::size_t l = 0; l < listeners_.size(); ++l) {
      snapshot.listeners[l].statistics += (*report)->listeners[l];
    }
    snapshot.connections.insert(snapshot.connections.end(), (*report)->connections.begin(),
                                (*report)->connections.end());
  }
  std::sort(snapshot.connections.begin(), snapshot.connections.end(), worse<ConnectionReport>);
  if (snapshot.connections.size() > options_.max_connection_series) {
    snapshot.connections.resize(options_.max_connection_series);
  }
  return snapshot;
}

}  // namespace tcpvitals
