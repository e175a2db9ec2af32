#include "collectors/connections/sampler.h"

#include <fmt/format.h>
#include <poll.h>
#include <time.h>

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "base/thread.h"
#include "collectors/connections/snapshot_builder.h"

namespace tcpvitals {
namespace {

constexpr auto kLossesLogInterval = std::chrono::seconds(10);
constexpr auto kListenerTurn = std::chrono::milliseconds(1);

// For those who ask for no longer than `source` is there.
std::shared_ptr<const KernelSource> unowned(const KernelSource* source) {
  return {std::shared_ptr<const KernelSource>(), source};
}

}  // namespace

Sampler::Sampler(DiagSockets sockets, SamplerOptions options)
    : wished_buffer_bytes_(options.event_buffer_bytes),
      host_({std::move(sockets.listeners), std::move(sockets.dump)}, unowned(options.files),
            std::move(options.config)),
      events_(std::move(sockets.events), host_),
      namespaces_(options.namespaces, host_, events_),
      reconfiguration_(events_, host_),
      round_(host_, [this](const NamespaceAccount& account, const Error& error) {
        namespaces_.failed(account, error);
      }) {
  thread_ = start_thread("sampler", [this] { run(); });
}

Sampler::~Sampler() {
  stopping_ = true;
  requests_.wake();
  thread_.join();
}

void Sampler::run() {
  namespaces_.configure();
  namespaces_.wait_for_first_look();
  namespaces_.take_changes();
  exclude_at_start();
  while (!stopping_) {
    wait();
    read_events();
    dump_due_listeners();
    if (round_.running()) {
      round_.read();
      if (!round_.running()) end_sample();
    } else {
      if (namespaces_.take_changes()) demand_.resync = true;
      begin_reconfiguration();
      decide();
    }
  }
}

// Until there is something to do: an asker, an event, a piece of a dump, or a time that has come.
void Sampler::wait() {
  const int dump_fd = round_.running() ? round_.fd() : -1;
  if (round_.running() && dump_fd < 0) return;
  const TimePoint now = Clock::now();
  const bool gathering = now < events_.quiet_until();
  pollfd fds[] = {{requests_.fd(), POLLIN, 0},
                  {gathering ? -1 : events_.fd(), POLLIN, 0},
                  {dump_fd, POLLIN, 0}};
  TimePoint until = next_listeners_;
  if (gathering) until = std::min(until, events_.quiet_until());
  if (!round_.running()) until = std::min(until, next_dump(demand_, times_));
  const auto left = std::max(Clock::duration::zero(), until - now);
  const auto nanoseconds = std::chrono::duration_cast<std::chrono::nanoseconds>(left).count();
  const timespec timeout{nanoseconds / 1'000'000'000, nanoseconds % 1'000'000'000};
  ::ppoll(fds, std::size(fds), &timeout, nullptr);
  if ((fds[0].revents & POLLIN) != 0) requests_.woken();
}

void Sampler::read_events() {
  events_.read();
  if (events_.take_loss()) demand_.resync = events_lost_ = true;
}

void Sampler::dump_due_listeners() {
  const TimePoint start = Clock::now();
  if (start < next_listeners_) return;
  next_listeners_ = TimePoint::max();
  const Clock::duration all = host_.listener_cost();
  for (const auto& account : host_.namespaces()) {
    const bool due = start >= next_listener_dump(account->last_listener_dump(), all);
    // What this turn has no time for is due in the next.
    if (due && Clock::now() - start < kListenerTurn)
      account->dump_listeners(ListenerTable::Look::kRegular);
    next_listeners_ =
        std::min(next_listeners_, next_listener_dump(account->last_listener_dump(), all));
  }
}

void Sampler::exclude_at_start() {
  exclude_error_.reset();
  if (host_.config().excludes.empty()) return;
  auto done = exclude(events_, host_, host_.config().excludes);
  if (!done) exclude_error_ = std::move(done.error());
}

void Sampler::begin_reconfiguration() {
  if (reconfiguration_.running()) return;
  auto request = requests_.take_reconfiguration();
  if (request && reconfiguration_.begin(std::move(request))) namespaces_.configure();
}

void Sampler::decide() {
  demand_.sample = requests_.wants_sample();
  demand_.search = requests_.wants_search();
  demand_.reconfiguration = reconfiguration_.running();
  const bool can_answer = host_.own().tracker().started() || round_.report().error;
  switch (next_step(demand_, times_, can_answer, Clock::now())) {
    case DumpStep::kDump:
      return begin_sample();
    case DumpStep::kAnswer:
      return requests_.answer(outcome());
    case DumpStep::kWait:
      return;
  }
}

void Sampler::begin_sample() {
  if (exclude_error_) exclude_at_start();
  events_.take_longest_pause();
  demand_.resync = false;
  round_.begin({.events_lost = std::exchange(events_lost_, false),
                .regrouped = reconfiguration_.running(),
                .searches = requests_.take_searches()});
}

void Sampler::end_sample() {
  const DumpRound::Report& report = round_.report();
  if (report.error) {
    events_lost_ |= report.events_lost;
    demand_.resync |= report.events_lost || !host_.own().tracker().started();
    times_ = after_failed_sample(report.end);
  } else {
    last_.dump_end = report.end;
    last_.dump_seconds = seconds(report.end - report.start);
    last_.dump_cpu_seconds = report.cpu_seconds;
    last_.dump_bytes = report.bytes;
    last_.namespaces_dumped = report.namespaces;
    last_.longest_event_pause_seconds = seconds(events_.take_longest_pause());
    ++last_.dumps;
    if (reconfiguration_.running()) reconfiguration_.end();
    times_ = after_sample(times_, report.start, report.cpu_seconds, host_.config().cpu_budget,
                          report.events_lost);
    log_losses();
  }
  round_.answer_searches();
  requests_.answer(outcome());
}

SnapshotResult Sampler::outcome() {
  if (exclude_error_) return Error(*exclude_error_);
  if (round_.report().error) return Error(*round_.report().error);
  if (host_.own().listener_error()) return Error(*host_.own().listener_error());
  if (auto error = events_.take_error()) return std::move(*error);
  return snapshot();
}

std::shared_ptr<const Snapshot> Sampler::snapshot() {
  auto s = std::make_shared<Snapshot>(last_);
  describe(events_, wished_buffer_bytes_, *s);
  describe(host_, *s);
  namespaces_.describe(*s);
  s->cpu_seconds = thread_cpu_seconds();
  log_features(*s);
  return s;
}

// Each complaint once.
void Sampler::log_features(const Snapshot& snapshot) {
  for (const Snapshot::Feature& feature : snapshot.features) {
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
  const std::uint64_t lost = events_.lost();
  if (lost == logged_losses_ || now < next_losses_log_) return;
  log_warn("events of connections that ended were lost: they came faster than they were read",
           {{"events", fmt::format("{}", lost - logged_losses_)},
            {"buffer_bytes", fmt::format("{}", events_.buffer_bytes())}});
  logged_losses_ = lost;
  next_losses_log_ = now + kLossesLogInterval;
}

}  // namespace tcpvitals
