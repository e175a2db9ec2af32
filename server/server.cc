#include "server/server.h"

#include <algorithm>
#include <chrono>
#include <optional>
#include <string>
#include <thread>
#include <utility>

#include "base/log.h"
#include "server/socket_address.h"

namespace tcpvitals {
namespace {

constexpr auto kDrainLook = std::chrono::milliseconds(5);
constexpr auto kWorkersTake = std::chrono::seconds(2);

// The time, in microseconds, so that no process gives an id of an earlier one anew: connections are
// accepted far slower than that. Exact as a double, as JSON readers have it, for two centuries.
std::uint64_t first_connection_id() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return static_cast<std::uint64_t>(
      std::chrono::duration_cast<std::chrono::microseconds>(now).count());
}

void log_changes(const std::vector<ListenerEntry>& before,
                 const std::vector<ListenerEntry>& after) {
  for (std::size_t i = 0; i < after.size(); ++i) {
    const ListenerEntry& now = after[i];
    const bool was_open = i < before.size() && before[i].open && before[i].name == now.name;
    const bool moved = was_open && before[i].endpoint != now.endpoint;
    if (was_open && !now.wanted) log_info("listener removed", {{"name", now.name}});
    if (now.open && (!was_open || moved)) {
      log_info("listener", {{"name", now.name}, {"address", to_string(now.endpoint)}});
    }
  }
}

}  // namespace

Result<std::unique_ptr<Server>> Server::start(ServerOptions options,
                                              std::vector<PassedSocket> passed) {
  if (auto valid = validate(options); !valid) return std::move(valid.error()).in("server");
  options.workers = workers_of(options.workers);
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
  shared_.next_connection_id = first_connection_id();
  shared_.audit = options_.audit;
  if (auto made = make_workers(); !made) return made;
  auto plan = ListenerPlan::make({}, options_, std::move(passed), TimePoint::max());
  if (!plan) return std::move(plan.error());
  return put_in_force(std::move(*plan));
}

Result<void> Server::make_workers() {
  for (unsigned i = 0; i < options_.workers; ++i) {
    auto worker = Worker::create({i, options_.sweep_interval, series_, shared_});
    if (!worker) return std::move(worker.error());
    workers_.push_back(std::move(*worker));
  }
  return {};
}

Result<std::function<void()>> Server::prepare(std::vector<ListenerOptions> listeners,
                                              std::chrono::seconds drain_timeout) {
  std::unique_lock changing(changing_);
  if (ending_) return Error{"the server is ending"};
  ServerOptions wanted = options_;
  wanted.listeners = std::move(listeners);
  if (auto valid = validate(wanted); !valid) return std::move(valid.error());
  const TimePoint drain_ends =
      drain_timeout.count() == 0 ? TimePoint::max() : Clock::now() + drain_timeout;
  auto plan = ListenerPlan::make(entries(), wanted, {}, drain_ends);
  if (!plan) return std::move(plan.error());

  struct Change {
    std::unique_lock<std::mutex> changing;
    ListenerPlan plan;
  };
  const auto change = std::make_shared<Change>(Change{std::move(changing), std::move(*plan)});
  return std::function<void()>([this, change] {
    const std::vector<ListenerEntry> before = entries();
    (void)put_in_force(std::move(change->plan));
    log_changes(before, entries());
    wait_for_workers();
  });
}

// Fails only before the workers run.
Result<void> Server::put_in_force(ListenerPlan plan) {
  shared_.descriptors.resize(plan.descriptors.others);
  shared_.reserve.resize(plan.descriptors.essential);
  for (const ListenerEntry& entry : plan.entries) {
    if (entry.wanted) entry.common->change(entry.settings->options.accept_rate);
    // A listening socket has a TCP_INFO too: its length says what this kernel knows.
    if (!entry.open || tcp_info_length_ != 0) continue;
    if (const auto info = tcp_info_of(entry.sockets[0]->get())) tcp_info_length_ = info->length;
  }
  plan.set_socket_options();
  {
    const std::lock_guard lock(mutex_);
    if (ending_) return {};
    entries_ = std::move(plan.entries);
    order_ = plan.order;
  }
  for (std::size_t i = 0; i < workers_.size(); ++i) {
    if (auto taken = workers_[i]->change(std::move(plan.of_workers[i])); !taken) return taken;
  }
  for (const std::size_t place : plan.order) look_at_certificate(place);
  return {};
}

// A worker answers when it has taken what came before; one that is late takes it later.
void Server::wait_for_workers() {
  std::vector<std::uint64_t> tickets;
  for (const auto& worker : workers_) tickets.push_back(worker->request_report());
  const TimePoint deadline = Clock::now() + kWorkersTake;
  for (std::size_t i = 0; i < workers_.size(); ++i) {
    const auto report = workers_[i]->wait_report(tickets[i], deadline);
    if (!report) log_warn("listeners not changed yet", {{"error", report.error().message}});
  }
}

// Fails only if a listener that could be open cannot.
Result<void> Server::open_if_usable(std::size_t place) {
  ListenerEntry opening = entry(place);
  const auto& tls = opening.settings->tls;
  if (opening.open || (tls && !tls->current())) return {};
  auto changes = ListenerPlan::open(place, opening, options_.workers);
  if (!changes) return std::move(changes.error());
  {
    const std::lock_guard lock(mutex_);
    if (ending_) return {};
    entries_[place] = std::move(opening);
  }
  for (std::size_t i = 0; i < workers_.size(); ++i) {
    std::vector<PortChange> change;
    change.push_back(std::move((*changes)[i]));
    (void)workers_[i]->change(std::move(change));
  }
  return {};
}

void Server::look_at_certificate(std::size_t place) {
  const auto settings = entry(place).settings;
  if (!settings->tls) return;
  const auto context = settings->tls->current();
  if (!context) return tell(place, "closed: " + settings->tls->statistics().error);
  const auto doubt =
      context->doubt(std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now()));
  tell(place, doubt ? settings->options.tls.*doubt->file + ": " + doubt->reason : "");
}

void Server::tell(std::size_t place, std::string trouble) {
  std::string name;
  {
    const std::lock_guard lock(mutex_);
    if (entries_[place].told == trouble) return;
    entries_[place].told = trouble;
    name = entries_[place].name;
  }
  if (trouble.empty()) return log_info("certificate is good again", {{"listener", name}});
  log_error("certificate needs attention", {{"listener", name}, {"error", trouble}});
}

void Server::renew_tls() {
  const std::unique_lock changing(changing_, std::try_to_lock);
  if (!changing) return;
  const std::size_t places = entries().size();
  for (std::size_t i = 0; i < places; ++i) renew_tls(i);
}

void Server::renew_tls(std::size_t place) {
  const ListenerEntry listener = entry(place);
  const auto& tls = listener.settings->tls;
  if (!tls) return;
  if (tls->changed()) {
    const auto loaded = tls->reload();
    if (loaded) log_info("certificates reloaded", {{"listener", listener.name}});
    if (!loaded) {
      log_warn("certificates not reloaded",
               {{"listener", listener.name}, {"error", loaded.error().message}});
    }
  }
  if (auto opened = open_if_usable(place); !opened) return tell(place, opened.error().message);
  look_at_certificate(place);
}

ListenerEntry Server::entry(std::size_t place) const {
  const std::lock_guard lock(mutex_);
  return entries_[place];
}

std::vector<ListenerEntry> Server::entries() const {
  const std::lock_guard lock(mutex_);
  return entries_;
}

std::vector<std::pair<std::string, SharedFd>> Server::listening_sockets() const {
  const std::lock_guard lock(mutex_);
  std::vector<std::pair<std::string, SharedFd>> sockets;
  for (const ListenerEntry& entry : entries_) {
    for (const SharedFd& socket : entry.sockets) sockets.emplace_back(entry.name, socket);
  }
  return sockets;
}

bool Server::drain(TimePoint deadline) {
  end();
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

// No change comes any more, and the listening sockets are the workers' alone.
void Server::end() {
  const std::lock_guard lock(mutex_);
  ending_ = true;
  for (ListenerEntry& entry : entries_) entry.sockets.clear();
}

void Server::stop() {
  end();
  for (const auto& worker : workers_) worker->stop();
  for (const auto& worker : workers_) worker->join();
}

Endpoint Server::endpoint(std::size_t listener) const {
  const std::lock_guard lock(mutex_);
  return entries_[order_[listener]].endpoint;
}

bool Server::is_open(std::size_t listener) const {
  const std::lock_guard lock(mutex_);
  return entries_[order_[listener]].open;
}

Result<ServerSnapshot> Server::snapshot(TimePoint deadline) {
  const std::vector<std::uint64_t> held = series_.ids();
  std::vector<std::uint64_t> tickets;
  for (const auto& worker : workers_) tickets.push_back(worker->request_report());
  std::vector<std::shared_ptr<const WorkerReport>> reports;
  for (std::size_t i = 0; i < workers_.size(); ++i) {
    auto report = workers_[i]->wait_report(tickets[i], deadline);
    if (!report) return std::move(report.error());
    reports.push_back(std::move(*report));
  }
  ServerSnapshot snapshot = joined(reports);
  snapshot.tcp_info_length = tcp_info_length_;
  std::sort(snapshot.connections.begin(), snapshot.connections.end(), worse<ConnectionReport>);
  snapshot.series = series_.choose(held, snapshot.connections, Clock::now());
  if (snapshot.connections.size() > options_.connection_series.slots) {
    snapshot.connections.resize(options_.connection_series.slots);
  }
  return snapshot;
}

// Of a listener that was removed, for as long as it has connections.
ServerSnapshot Server::joined(
    const std::vector<std::shared_ptr<const WorkerReport>>& reports) const {
  const std::lock_guard lock(mutex_);
  ServerSnapshot snapshot;
  std::vector<std::optional<std::size_t>> shown(entries_.size());
  for (const std::size_t place : in_order()) {
    const ListenerEntry& entry = entries_[place];
    ListenerReport listener{
        entry.name, entry.common->gauges(*entry.settings, Clock::now()), {}, {}};
    for (const auto& report : reports) {
      const bool known = place < report->listeners.size();
      const auto& statistics = known ? report->listeners[place] : ListenerStatistics{};
      listener.statistics += statistics;
      listener.live_by_worker.push_back(statistics.live());
    }
    if (!entry.wanted && listener.statistics.live() == 0) continue;
    shown[place] = snapshot.listeners.size();
    snapshot.listeners.push_back(std::move(listener));
  }
  for (const auto& report : reports) {
    for (ConnectionReport connection : report->connections) {
      const std::size_t place = connection.listener;
      if (place >= shown.size() || !shown[place]) continue;
      connection.listener = *shown[place];
      snapshot.connections.push_back(connection);
    }
  }
  return snapshot;
}

// The entries' places: those in force as the options have them, then the others.
std::vector<std::size_t> Server::in_order() const {
  std::vector<std::size_t> places = order_;
  for (std::size_t i = 0; i < entries_.size(); ++i) {
    if (!entries_[i].wanted) places.push_back(i);
  }
  return places;
}

}  // namespace tcpvitals
