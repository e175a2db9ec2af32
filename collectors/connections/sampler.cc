#include "collectors/connections/sampler.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <time.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/log.h"
#include "base/thread.h"

namespace tcpvitals {
namespace {

// What one event takes in the kernel's buffer, and as many as a busy host is taken to send a
// second.
constexpr double kEventBufferBytes = 1280;
constexpr double kEventsPerSecond = 200'000;
constexpr auto kLongestEventPause = std::chrono::microseconds(2000);

constexpr std::uint32_t kAllStates = 0xfff;
constexpr std::uint32_t kListenOnly = 1U << static_cast<unsigned>(TcpState::kListen);

Clock::duration duration(double s) {
  return std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(s));
}

// Half a buffer's worth of time: events gather, so that one wake-up reads many, but never overflow.
Clock::duration event_pause(std::size_t buffer_bytes) {
  return std::min<Clock::duration>(
      kLongestEventPause,
      duration(static_cast<double>(buffer_bytes) / kEventBufferBytes / kEventsPerSecond / 2));
}

}  // namespace

Sampler::Space::Space(Sampler& sampler, NetnsId netns, std::string netns_name, DumpSockets sockets)
    : id(netns),
      name(std::move(netns_name)),
      listener_socket(std::move(sockets.listeners)),
      dump_socket(std::move(sockets.dump)),
      classifier(
          listeners, *sampler.grouping_,
          [&sampler, this] { return sampler.refresh_listeners(*this); }, netns,
          [&sampler](std::uint64_t cgroup) {
            return sampler.cgroups_ ? sampler.cgroups_->find(cgroup, Clock::now()) : kCgroupUnknown;
          }),
      tracker(sampler.shared_, classifier),
      read_totals(sampler.options_.host_totals) {}

Sampler::Sampler(DiagSockets sockets, SamplerOptions options)
    : events_(std::move(sockets.events)),
      options_(std::move(options)),
      event_pause_(event_pause(events_->buffer_bytes())),
      grouping_(std::make_unique<Grouping>(options_.config.grouping(options_.ephemeral))),
      groups_(options_.config.limits.groups),
      shared_{groups_},
      wake_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      latest_(Error{"no sample yet"}) {
  netns_names_ = {"", std::string(kOtherNamespacesLabel), std::string(kOwnNamespaceLabel)};
  spaces_.push_back(
      std::make_unique<Space>(*this, kNetnsHost, netns_names_[kNetnsHost],
                              DumpSockets{std::move(sockets.listeners), std::move(sockets.dump)}));
  thread_ = start_thread("sampler", [this] { run(); });
}

Sampler::~Sampler() {
  stopping_ = true;
  ::eventfd_write(wake_.get(), 1);
  thread_.join();
}

Sampler::SnapshotResult Sampler::sample(TimePoint deadline) {
  std::unique_lock lock(mutex_);
  const std::uint64_t ticket = ++asked_;
  ::eventfd_write(wake_.get(), 1);
  if (!answered_changed_.wait_until(lock, deadline, [&] { return answered_ >= ticket; })) {
    return Error{"the sample was not complete before the scrape's deadline"};
  }
  return latest_;
}

Result<void> Sampler::reconfigure(ConnectionsConfig config, TimePoint deadline) {
  auto asked = std::make_unique<Reconfiguration>();
  asked->config = std::move(config);
  auto done = asked->done.get_future();
  const Reconfiguration* const ours = asked.get();
  {
    const std::lock_guard lock(mutex_);
    if (reconfiguration_) return Error{"another configuration is about to be applied"};
    reconfiguration_ = std::move(asked);
  }
  ::eventfd_write(wake_.get(), 1);
  if (done.wait_until(deadline) == std::future_status::ready) return done.get();
  const std::lock_guard lock(mutex_);
  if (reconfiguration_.get() == ours) {
    reconfiguration_.reset();
    return Error{"the sampler did not take the configuration in time"};
  }
  log_warn("the first sample by the new configuration is not complete yet");
  return {};
}

Result<SearchResult> Sampler::search(const SearchRequest& query, TimePoint deadline) {
  auto asked = std::make_unique<Search>(Search{ConnectionSearch(query), {}});
  auto done = asked->done.get_future();
  {
    const std::lock_guard lock(mutex_);
    searches_.push_back(std::move(asked));
  }
  ::eventfd_write(wake_.get(), 1);
  if (done.wait_until(deadline) != std::future_status::ready) {
    return Error{"the dump was not complete before the deadline"};
  }
  return done.get();
}

void Sampler::answer() {
  SnapshotResult result = outcome();
  {
    const std::lock_guard lock(mutex_);
    latest_ = std::move(result);
    answered_ = asked_;
  }
  answered_changed_.notify_all();
}

Sampler::SnapshotResult Sampler::outcome() {
  if (exclude_error_) return Error(*exclude_error_);
  if (dump_error_) return Error(*dump_error_);
  if (spaces_.front()->listener_error) return Error(*spaces_.front()->listener_error);
  if (event_error_) return std::move(*std::exchange(event_error_, std::nullopt));
  return snapshot();
}

Sampler::Asked Sampler::asked() {
  const std::lock_guard lock(mutex_);
  return {asked_ != answered_, !searches_.empty()};
}

void Sampler::run() {
  start_counting();
  while (!stopping_) {
    wait();
    read_events();
    const TimePoint now = Clock::now();
    if (now >= next_listeners_) refresh_all_listeners();
    if (dumping_) {
      read_dump();
      continue;
    }
    change_namespaces();
    begin_reconfiguration();
    const auto [a_sample, a_search] = asked();
    waiting_for_budget_ = a_search;
    const bool due = (a_sample || a_search) && now >= next_dump_;
    if (due || ((resync_ || reconfiguring_) && now >= next_resync_)) {
      start_sample();
    } else if (a_sample && (spaces_.front()->tracker.started() || dump_error_)) {
      answer();
    }
  }
}

// Until there is something to do: an asker, an event, a chunk of the dump, or a time that has come.
void Sampler::wait() {
  // The kernel makes the next piece of a dump as this one is read: it is there.
  if (dumping_ && dump_flows_) return;
  const TimePoint now = Clock::now();
  const bool gathering = now < events_quiet_until_;
  pollfd fds[] = {{wake_.get(), POLLIN, 0},
                  {gathering ? -1 : events_->fd(), POLLIN, 0},
                  {dumping_ ? dumping().dump_socket->fd() : -1, POLLIN, 0}};
  TimePoint until = next_listeners_;
  if (gathering) until = std::min(until, events_quiet_until_);
  if ((resync_ || reconfiguring_) && !dumping_) until = std::min(until, next_resync_);
  if (waiting_for_budget_ && !dumping_) until = std::min(until, next_dump_);
  const auto left = std::max(Clock::duration::zero(), until - now);
  const auto nanoseconds = std::chrono::duration_cast<std::chrono::nanoseconds>(left).count();
  const timespec timeout{nanoseconds / 1'000'000'000, nanoseconds % 1'000'000'000};
  ::ppoll(fds, std::size(fds), &timeout, nullptr);
  if ((fds[0].revents & POLLIN) != 0) {
    eventfd_t ignored;
    ::eventfd_read(wake_.get(), &ignored);
  }
}

void Sampler::read_events() {
  const TimePoint now = Clock::now();
  if (dumping_) longest_pause_ = std::max(longest_pause_, now - last_events_);
  last_events_ = now;
  for (;;) {
    auto received = events_->receive();
    if (!received) {
      fail_events(std::move(received.error()));
      return;
    }
    if (received->overrun) {
      ++event_overruns_;
      resync_ = events_lost_ = true;
      continue;
    }
    if (received->datagrams.empty()) return;
    events_quiet_until_ = Clock::now() + event_pause_;
    read_event_batch(*received);
  }
}

void Sampler::read_event_batch(const Received& batch) {
  rows_.clear();
  for (std::size_t i = 0; i < batch.datagrams.size(); ++i) {
    Space* space = space_of(batch.nsids.empty() ? kOwnNamespace : batch.nsids[i]);
    if (space == nullptr) continue;  // not adopted yet, or gone
    InetDiagReader reader(batch.datagrams[i]);
    SocketRow row;
    for (;;) {
      const auto next = reader.next(row);
      if (next == InetDiagReader::Next::kError) fail_events(Error(reader.error()));
      if (next != InetDiagReader::Next::kRow) break;
      rows_.push_back({space, row});
    }
  }
  // Listeners first: one that lived for milliseconds tells the direction of its connections.
  const TimePoint now = Clock::now();
  for (const auto& [space, row] : rows_) {
    if (row.remote_port == 0 && row.local_port != 0 && row.remote_address().is_any()) {
      space->listeners.closed(row, now);
    }
  }
  for (const auto& [space, row] : rows_) space->tracker.add_event(row);
}

// What came in broken was an event all the same: only a dump can tell what is left.
void Sampler::fail_events(Error error) {
  ++event_failures_;
  resync_ = events_lost_ = true;
  events_quiet_until_ = Clock::now() + event_pause_;
  event_error_ = std::move(error).in("DESTROY events");
}

void Sampler::refresh_all_listeners() {
  next_listeners_ = Clock::now() + kListenerInterval;
  for (const auto& space : spaces_) refresh_listeners(*space);
}

bool Sampler::refresh_listeners(Space& space) {
  const TimePoint now = Clock::now();
  if (now - space.last_listeners < kListenerMinimum) return false;
  space.last_listeners = now;
  auto done = dump_listeners(space);
  if (done) {
    space.listeners.commit(now);
    space.listener_error.reset();
    return true;
  }
  space.listener_error = std::move(done.error()).in("listener dump");
  auto reopened = space.listener_socket->reopen();
  if (!reopened) space.listener_error = std::move(reopened.error());
  return false;
}

Result<void> Sampler::dump_listeners(Space& space) {
  auto requested = space.listener_socket->request_dump(kListenOnly, DumpDetail::kNone);
  if (!requested) return requested;
  space.listeners.begin();
  for (;;) {
    // The kernel has the answer ready when the request returns: nothing to wait for.
    auto received = space.listener_socket->receive();
    if (!received) return std::move(received.error());
    if (received->datagrams.empty()) return Error{"no answer"};
    for (const auto& datagram : received->datagrams) {
      InetDiagReader reader(datagram);
      SocketRow row;
      for (;;) {
        const auto next = reader.next(row);
        if (next == InetDiagReader::Next::kDone) return {};
        if (next == InetDiagReader::Next::kError) return Error(reader.error());
        if (next == InetDiagReader::Next::kEnd) break;
        if (row.state == TcpState::kListen) space.listeners.add(row);
      }
    }
  }
}

Sampler::Space* Sampler::space_of(int nsid) {
  if (nsid == kOwnNamespace) return spaces_.front().get();
  const auto space = std::find_if(spaces_.begin() + 1, spaces_.end(),
                                  [&](const auto& other) { return other->nsid == nsid; });
  return space == spaces_.end() ? nullptr : space->get();
}

// Begins or ends to watch other namespaces, as the configuration wants it.
void Sampler::watch_namespaces() {
  const ConnectionsConfig& config = options_.config;
  if (options_.namespaces == nullptr) return;
  if (!config.group_by.netns) {
    watcher_.reset();
    while (spaces_.size() > 1) remove_namespace(spaces_.size() - 1);
  } else if (watcher_) {
    watcher_->set_limit(config.limits.namespaces);
  } else {
    watcher_ = std::make_unique<NamespaceWatcher>(
        *options_.namespaces, NamespaceOptions{.limit = config.limits.namespaces});
    if (!watcher_->stats().privileged) return;
    auto listening = events_->listen_all_namespaces(watcher_->own_nsid());
    if (!listening) log_error("netns", {{"error", listening.error().message}});
  }
}

void Sampler::change_namespaces() {
  if (!watcher_) return;
  for (NamespaceChange& change : watcher_->take_changes()) {
    if (change.came()) {
      add_namespace(std::move(change));
      continue;
    }
    for (std::size_t i = 1; i < spaces_.size(); ++i) {
      if (spaces_[i]->inode == change.id) remove_namespace(i);
    }
  }
}

void Sampler::add_namespace(NamespaceChange change) {
  // One id a label: the series of one that went are taken up by the next of that name. An id is
  // used for another label when neither the namespace nor a group of it is left.
  const auto others = netns_names_.begin() + kNetnsHost + 1;
  auto named = std::find(others, netns_names_.end(), change.label);
  if (named == netns_names_.end()) named = std::find(others, netns_names_.end(), "");
  if (named == netns_names_.end()) named = netns_names_.insert(named, "");
  *named = change.label;
  const auto id = static_cast<NetnsId>(named - netns_names_.begin());
  auto space = std::make_unique<Space>(*this, id, change.label, std::move(*change.sockets));
  space->inode = change.id;
  space->nsid = change.nsid;
  if (reconfiguring_) {
    space->tracker.regroup({}, options_.config.excludes);  // the kernel excludes nothing yet
  } else if (!options_.config.excludes.empty()) {
    auto excluded = space->dump_socket->exclude(options_.config.excludes);
    if (!excluded)
      log_error("netns", {{"netns", space->name}, {"error", excluded.error().message}});
  }
  spaces_.push_back(std::move(space));
  resync_ = true;  // its baseline
}

void Sampler::remove_namespace(std::size_t index) {
  spaces_[index]->tracker.end_all();
  groups_.clear_dump(spaces_[index]->id);
  gone_ += spaces_[index]->tracker.stats();
  spaces_.erase(spaces_.begin() + static_cast<std::ptrdiff_t>(index));
}

void Sampler::start_counting() {
  apply_limits();
  change_namespaces();
  exclude_at_start();
}

void Sampler::apply_limits() {
  const ConnectionsConfig& config = options_.config;
  groups_.set_limit(config.limits.groups);
  shared_.max_connections = config.limits.connections;
  shared_.close_wait_threshold = config.close_wait_threshold;
  watch_namespaces();
  if (!config.group_by.cgroup) {
    cgroups_.reset();
  } else if (cgroups_) {
    cgroups_->set_limit(config.limits.cgroups);
  } else {
    cgroups_ = std::make_unique<CgroupNames>(options_.cgroup_mount(),
                                             CgroupNames::Limits{.names = config.limits.cgroups});
  }
}

void Sampler::exclude_at_start() {
  exclude_error_.reset();
  if (options_.config.excludes.empty()) return;
  auto done = set_excludes(options_.config.excludes);
  if (!done) exclude_error_ = std::move(done.error());
}

Result<void> Sampler::set_excludes(const Excludes& excludes) {
  auto done = events_->exclude(excludes);
  for (auto space = spaces_.begin(); done && space != spaces_.end(); ++space) {
    done = (*space)->dump_socket->exclude(excludes);
  }
  return done;
}

// From here until the next sample ends nothing is excluded by the kernel, so that the trackers see
// what comes and what goes by the change.
void Sampler::begin_reconfiguration() {
  if (reconfiguring_) return;
  {
    const std::lock_guard lock(mutex_);
    reconfiguring_ = std::move(reconfiguration_);
  }
  if (!reconfiguring_) return;
  const Excludes before = options_.config.excludes;
  const Excludes& now = reconfiguring_->config.excludes;
  if (!(now == before)) {
    auto possible = set_excludes(now);
    if (possible) possible = set_excludes({});
    if (!possible) {
      set_excludes(before).ok();
      reconfiguring_->done.set_value(std::move(possible));
      reconfiguring_.reset();
      return;
    }
  }
  options_.config = reconfiguring_->config;
  apply_limits();
  auto grouping = std::make_unique<const Grouping>(options_.config.grouping(options_.ephemeral));
  groups_.rekey([&](const GroupKey& key) { return grouping->translate(*grouping_, key); });
  for (const auto& space : spaces_) {
    space->classifier.set_grouping(*grouping);
    space->tracker.regroup(before, now);
  }
  grouping_ = std::move(grouping);
}

void Sampler::end_reconfiguration() {
  auto excluding = set_excludes(options_.config.excludes);
  if (excluding) {
    read_events();  // that came before the filter
    for (const auto& space : spaces_) space->tracker.kernel_excludes();
  }
  reconfiguring_->done.set_value(std::move(excluding));
  reconfiguring_.reset();
}

void Sampler::start_sample() {
  if (exclude_error_) exclude_at_start();
  dump_start_ = Clock::now();
  dump_start_cpu_ = thread_cpu_seconds();
  dump_bytes_ = 0;
  longest_pause_ = {};
  resync_ = false;
  miss_ends_ = std::exchange(events_lost_, false);
  dumping_ = true;
  dumping_space_ = 0;
  {
    const std::lock_guard lock(mutex_);
    searching_ = std::exchange(searches_, {});
  }
  shared_.begin_dump();
  start_dump();
}

Sampler::Space& Sampler::dumping() { return *spaces_[dumping_space_]; }

void Sampler::start_dump() {
  dump_progress_ = Clock::now();
  dumping().tracker.begin_dump(dump_progress_, miss_ends_);
  const auto detail = searching_.empty() ? DumpDetail::kCounters : DumpDetail::kEverything;
  auto requested = dumping().dump_socket->request_dump(kAllStates, detail);
  if (!requested) fail_dump(std::move(requested.error()));
}

void Sampler::read_dump() {
  auto received = dumping().dump_socket->receive();
  if (!received) return fail_dump(std::move(received.error()));
  const TimePoint now = Clock::now();
  dump_flows_ = !received->datagrams.empty();
  if (!dump_flows_) {
    if (now - dump_progress_ > kDumpSilence) fail_dump({"the kernel stopped answering"});
    return;
  }
  dump_progress_ = now;
  for (const auto& datagram : received->datagrams) {
    dump_bytes_ += datagram.size();
    auto done = add_dump_datagram(datagram);
    if (!done) return fail_dump(std::move(done.error()));
    if (*done) return end_dump();
  }
}

// True at the end of the dump.
Result<bool> Sampler::add_dump_datagram(std::span<const std::byte> datagram) {
  Tracker& tracker = dumping().tracker;
  InetDiagReader reader(datagram);
  SocketRow row;
  for (;;) {
    const auto next = reader.next(row);
    if (next == InetDiagReader::Next::kError) return Error(reader.error());
    if (next != InetDiagReader::Next::kRow) return next == InetDiagReader::Next::kDone;
    tracker.add_row(row);
    if (!searching_.empty()) search_row(row);
  }
}

void Sampler::search_row(const SocketRow& row) {
  if (row.state == TcpState::kListen) return;
  const Tracker::Known found = dumping().tracker.known(row);
  for (const auto& asked : searching_) {
    asked->search.consider(row, found, dump_start_,
                           [this](const GroupKey& key) { return labels(key); });
  }
}

void Sampler::end_dump() {
  Space& space = dumping();
  const bool first = !space.tracker.started();
  space.tracker.end_dump(Clock::now());
  if (first) space.totals_at_start = space.read_totals(space.name);
  next_dump();
}

void Sampler::next_dump() {
  if (++dumping_space_ == spaces_.size()) {
    end_sample();
  } else {
    start_dump();
  }
}

void Sampler::end_sample() {
  const TimePoint now = Clock::now();
  shared_.end_dump();
  groups_.forget_idle(now, options_.config.group_idle);
  if (cgroups_) {
    cgroups_->retain([this](CgroupLabel label) { return groups_.uses_cgroup(label); });
  }
  for (std::size_t id = kNetnsHost + 1; id < netns_names_.size(); ++id) {
    const auto is_it = [&](const auto& space) { return space->id == id; };
    const bool used = std::any_of(spaces_.begin(), spaces_.end(), is_it) ||
                      groups_.uses_netns(static_cast<NetnsId>(id));
    if (!used) netns_names_[id].clear();
  }
  const double cpu = thread_cpu_seconds() - dump_start_cpu_;
  last_.dump_end = now;
  last_.dump_seconds = seconds(now - dump_start_);
  last_.dump_cpu_seconds = cpu;
  last_.dump_bytes = dump_bytes_;
  last_.longest_event_pause_seconds = seconds(longest_pause_);
  ++last_.dumps;
  if (reconfiguring_) end_reconfiguration();
  log_features();
  log_losses();
  dump_error_.reset();
  finish_sample(cpu);
}

void Sampler::fail_dump(Error error) {
  Space& space = dumping();
  space.tracker.abandon_dump();
  if (dumping_space_ > 0) {
    // Another namespace's failure is not ours; most likely it is about to go.
    options_.namespaces->namespace_failed(space.name, error);
    auto reopened = space.dump_socket->reopen();
    if (!reopened) options_.namespaces->namespace_failed(space.name, reopened.error());
    return next_dump();
  }
  events_lost_ = events_lost_ || miss_ends_;
  dump_error_ = std::move(error).in("socket dump");
  auto reopened = space.dump_socket->reopen();
  if (!reopened) dump_error_ = std::move(reopened.error());
  resync_ = resync_ || !space.tracker.started() || miss_ends_;
  finish_sample(0);
  next_dump_ = next_resync_ = Clock::now() + kRetry;
}

// The first resync after a while may begin at once, however long ago the last sample was.
void Sampler::finish_sample(double cpu) {
  dumping_ = false;
  next_dump_ = dump_start_ + duration(cpu / options_.config.cpu_budget);
  if (miss_ends_) next_resync_ = next_dump_;
  for (const auto& asked : searching_) {
    asked->done.set_value(dump_error_ ? Result<SearchResult>(Error(*dump_error_))
                                      : Result<SearchResult>(asked->search.take()));
  }
  searching_.clear();
  answer();
}

GroupLabels Sampler::labels(const GroupKey& key) const {
  GroupLabels labels{grouping_->direction_text(key), grouping_->port_text(key),
                     grouping_->peer_text(key), "", netns_text(key.netns)};
  if (cgroups_) labels.cgroup = cgroups_->name(key.cgroup);
  return labels;
}

std::string Sampler::netns_text(NetnsId id) const {
  return grouping_->by.netns ? netns_names_[id] : "";
}

std::vector<Snapshot::Feature> Sampler::features() const {
  std::vector<Snapshot::Feature> features;
  const std::size_t granted = events_->buffer_bytes();
  features.push_back({"event_buffer_forced",
                      granted >= options_.event_buffer_bytes
                          ? ""
                          : fmt::format("the event buffer has {} bytes instead of {}: raise "
                                        "net.core.rmem_max or give CAP_NET_ADMIN",
                                        granted, options_.event_buffer_bytes)});
  if (cgroups_) features.push_back({"cgroup_names", cgroups_->complaint()});
  if (watcher_) {
    features.push_back({"netns", watcher_->stats().privileged ? "" : "only our own is watched"});
  }
  return features;
}

// Each complaint once.
void Sampler::log_features() {
  for (const Snapshot::Feature& feature : features()) {
    if (feature.name == "netns") continue;  // the watcher does
    std::string& logged = logged_features_[std::string(feature.name)];
    if (logged == feature.missing) continue;
    logged = feature.missing;
    if (!logged.empty()) log_warn(logged, {{"feature", std::string(feature.name)}});
  }
}

// A loss that goes on has a line now and then.
void Sampler::log_losses() {
  const TimePoint now = Clock::now();
  const std::uint64_t lost = events_->dropped() + event_failures_;
  if (lost == logged_losses_ || now < next_losses_log_) return;
  log_warn("events of connections that ended were lost: they came faster than they were read",
           {{"events", fmt::format("{}", lost - logged_losses_)},
            {"buffer_bytes", fmt::format("{}", events_->buffer_bytes())}});
  logged_losses_ = lost;
  next_losses_log_ = now + kLossesLogInterval;
}

std::shared_ptr<const Snapshot> Sampler::snapshot() {
  auto s = std::make_shared<Snapshot>(last_);
  s->config = options_.config;
  s->ephemeral = options_.ephemeral;
  s->groups.reserve(groups_.size());
  for (const GroupTable::Group& group : groups_.groups()) {
    if (group.named) s->groups.push_back({group.key, labels(group.key), group.stats});
  }
  s->tracker = gone_;
  for (const auto& space : spaces_) {
    if (!space->tracker.started()) continue;  // of one without a baseline nothing is true yet
    s->namespaces.push_back(space->report(*grouping_));
    s->tracker += space->tracker.stats();
    s->tracked += space->tracker.tracked();
    s->untracked += space->tracker.untracked();
    s->tracker_bytes += space->tracker.memory_bytes();
    s->info_length = std::max(s->info_length, space->tracker.info_length());
  }
  s->peers = grouping_->peers.size();
  s->groups_overflowed = groups_.overflowed();
  s->groups_forgotten = groups_.forgotten();
  if (cgroups_) {
    s->cgroups = cgroups_->size();
    s->cgroup_names = cgroups_->stats();
  }
  if (watcher_) {
    s->network_namespaces = watcher_->stats();
    s->namespace_failures = options_.namespaces->failures();
  }
  s->features = features();
  s->events_lost = events_->dropped() + event_failures_;
  s->event_overruns = event_overruns_;
  s->event_buffer_bytes = events_->buffer_bytes();
  s->cpu_seconds = thread_cpu_seconds();
  return s;
}

Snapshot::Namespace Sampler::Space::report(const Grouping& grouping) const {
  Snapshot::Namespace report;
  if (grouping.by.netns) report.netns = name;
  report.states = tracker.host_states();
  for (const Listener& listener : listeners.open()) {
    const PortLabel label = grouping.port_label(listener.endpoint.port);
    std::string port = grouping.port_text(label == kPortEphemeral ? listener.endpoint.port : label);
    report.listeners.push_back({listener, std::move(port)});
  }
  report.tracker = tracker.stats();
  const auto now = totals_at_start ? read_totals(name) : std::nullopt;
  if (now) report.since_start = *now - *totals_at_start;
  return report;
}

}  // namespace tcpvitals
