#include "server/worker.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <limits>
#include <utility>

#include "base/thread.h"

namespace tcpvitals {
namespace {

constexpr int kEventsPerTurn = 256;
constexpr std::size_t kDuePerTurn = 256;

// A connection's tag never has generation 0: these stand for the listener of an index, and the
// mailbox.
constexpr std::uint64_t kMailboxTag = 0xffffffff;
bool is_listener(std::uint64_t tag) { return tag < kMailboxTag; }

}  // namespace

bool watch_fd(const Fd& epoll, int operation, int fd, std::uint32_t events, std::uint64_t tag) {
  epoll_event event{};
  event.events = events;
  event.data.u64 = tag;
  return ::epoll_ctl(epoll.get(), operation, fd, &event) == 0;
}

Result<std::unique_ptr<Worker>> Worker::create(WorkerOptions options) {
  Fd epoll(::epoll_create1(EPOLL_CLOEXEC));
  if (!epoll.valid()) return errno_error("epoll_create1", errno);
  Fd wake(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
  if (!wake.valid()) return errno_error("eventfd", errno);
  if (!watch_fd(epoll, EPOLL_CTL_ADD, wake.get(), EPOLLIN, kMailboxTag)) {
    return errno_error("epoll_ctl", errno);
  }
  return std::unique_ptr<Worker>(new Worker(options, std::move(epoll), std::move(wake)));
}

Worker::Worker(WorkerOptions options, Fd epoll, Fd wake)
    : options_(options),
      epoll_(std::move(epoll)),
      wake_(std::move(wake)),
      read_buffer_(std::make_unique<char[]>(kReadBuffer)) {}

Worker::~Worker() {
  stop();
  join();
}

void Worker::start() {
  runs_ = true;
  thread_ = start_thread("server-" + std::to_string(options_.number), [this] { run(); });
}

Result<void> Worker::change(std::vector<PortChange> changes) {
  if (!runs_) {
    const int error = ports_.change(std::move(changes));
    if (error != 0) return errno_error("epoll_ctl", error);
    return {};
  }
  const std::lock_guard lock(mutex_);
  changes_.push_back(std::move(changes));
  wake();
  return {};
}

void Worker::join() {
  if (thread_.joinable()) thread_.join();
}

void Worker::wake() {
  const std::uint64_t one = 1;
  // Can only fail if 2^64 wake-ups are pending.
  [[maybe_unused]] const ssize_t n = ::write(wake_.get(), &one, sizeof one);
}

void Worker::drain() {
  const std::lock_guard lock(mutex_);
  drain_requested_ = true;
  wake();
}

void Worker::stop() {
  const std::lock_guard lock(mutex_);
  stop_requested_ = true;
  wake();
}

std::uint64_t Worker::request_report() {
  const std::lock_guard lock(mutex_);
  wake();
  return ++requested_;
}

Result<std::shared_ptr<const WorkerReport>> Worker::wait_report(std::uint64_t ticket,
                                                                TimePoint deadline) {
  std::unique_lock lock(mutex_);
  if (!published_.wait_until(lock, deadline, [&] { return answered_ >= ticket; })) {
    return Error{"worker " + std::to_string(options_.number) + " did not answer in time"};
  }
  return report_;
}

void Worker::run() {
  std::array<epoll_event, kEventsPerTurn> events;
  while (!stopping_) {
    const int n = ::epoll_wait(epoll_.get(), events.data(), kEventsPerTurn, wait_ms());
    now_ = Clock::now();
    const std::uint32_t before = std::exchange(tick_, tick_of(now_));
    for (int i = 0; i < n; ++i) dispatch(events[static_cast<std::size_t>(i)]);
    more_due_ =
        wheel_.advance(tick_, kDuePerTurn, [&](std::uint32_t slot) { on_due(slab_.at(slot)); });
    if (now_ >= ports_.next_look()) ports_.look();
    if (tick_ != before) {
      for (const Port& port : ports_) {
        if (port.handler) port.handler->on_second();
      }
    }
    settle_touched();
    resume_ports();
    if (slab_.live() > 0 && now_ >= next_sweep_) sweep();
    if (draining_ && slab_.live() == 0) drained_.store(true, std::memory_order_release);
  }
  close_ports();
  slab_.for_each([&](Connection& c) { doom(c, CloseCause::kShutdown); });
  settle_touched();
  publish(std::numeric_limits<std::uint64_t>::max());
}

// The clock moves from 0 while the first second runs, so no tick is 0.
std::uint32_t Worker::tick_of(TimePoint t) const {
  return 1 + static_cast<std::uint32_t>(
                 std::chrono::duration_cast<std::chrono::seconds>(t - started_).count());
}

int Worker::wait_ms() const {
  if (more_due_) return 0;
  TimePoint next = TimePoint::max();
  if (slab_.live() > 0) next = std::min(next_sweep_, started_ + std::chrono::seconds(tick_));
  next = std::min(next, ports_.next_look());
  for (const Port& port : ports_) {
    if (port.paused) next = std::min(next, port.resume_at);
  }
  if (next == TimePoint::max()) return -1;
  const auto wait = std::chrono::ceil<std::chrono::milliseconds>(next - Clock::now()).count();
  return static_cast<int>(std::clamp<std::int64_t>(wait, 0, std::numeric_limits<int>::max()));
}

void Worker::dispatch(const epoll_event& event) {
  if (event.data.u64 == kMailboxTag) return read_mailbox();
  if (is_listener(event.data.u64)) {
    accept_from(event.data.u64);
    return settle_touched();
  }
  Connection* c = slab_.find(event.data.u64);
  if (c == nullptr || c->doomed) return;
  serve(*c, event.events);
  if (!touched_.empty()) settle_touched();
}

void Worker::read_mailbox() {
  std::uint64_t wakes;
  [[maybe_unused]] const ssize_t n = ::read(wake_.get(), &wakes, sizeof wakes);
  std::uint64_t ticket;
  bool asked;
  bool drain;
  std::vector<std::vector<PortChange>> changes;
  {
    const std::lock_guard lock(mutex_);
    changes.swap(changes_);
    stopping_ = stop_requested_;
    drain = drain_requested_ && !draining_;
    ticket = requested_;
    asked = requested_ > answered_;
  }
  for (auto& change : changes) {
    if (!draining_) ports_.change(std::move(change));
  }
  settle_touched();
  draining_ = draining_ || drain;
  if (drain) ports_.drain();
  if (asked && !stopping_) publish(ticket);
}

void Worker::sweep() {
  sweep_chunk_ = (sweep_chunk_ + 1) % slab_.chunks();
  slab_.for_each_in(sweep_chunk_, [&](Connection& c) {
    if (!c.outbound) sample(c);
  });
  next_sweep_ = now_ + options_.sweep_interval / static_cast<std::int64_t>(slab_.chunks());
}

// A report samples one more chunk, so that a small server is never behind, and the connections that
// it names, so that those are of this moment.
WorkerReport Worker::report() {
  if (slab_.live() > 0) sweep();
  const ConnectionSeriesOptions& series = options_.series.options();
  const std::vector<std::uint64_t> held = options_.series.ids();
  std::vector<Connection*> told;
  std::vector<Connection*> others;
  slab_.for_each([&](Connection& c) {
    if (c.outbound || !options_of(c).connection_series) return;
    (std::binary_search(held.begin(), held.end(), c.id) ? told : others).push_back(&c);
  });
  const auto tell_worst = [&] {
    const auto end =
        others.begin() + static_cast<std::ptrdiff_t>(std::min(others.size(), series.slots));
    std::partial_sort(others.begin(), end, others.end(),
                      [](const Connection* a, const Connection* b) { return worse(*a, *b); });
    told.insert(told.end(), others.begin(), end);
    others.erase(others.begin(), end);
  };
  tell_worst();
  std::erase_if(others, [&](Connection* c) { return now_ - c->opened < series.lowest_age; });
  tell_worst();

  WorkerReport report;
  for (Connection* c : told) {
    sample(*c);
    report.connections.push_back({c->id, ports_[c->port].listener, now_ - c->opened, c->vitals});
  }
  report.listeners = ports_.statistics();
  return report;
}

void Worker::publish(std::uint64_t ticket) {
  auto made = std::make_shared<const WorkerReport>(report());
  const std::lock_guard lock(mutex_);
  report_ = std::move(made);
  answered_ = ticket;
  published_.notify_all();
}

}  // namespace tcpvitals
