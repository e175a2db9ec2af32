#include "collectors/connections/sampler.h"

#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <time.h>

#include <algorithm>
#include <cerrno>

#include "base/log.h"

namespace tcpvitals {
namespace {

// What one event takes in the kernel's buffer, and as many as a busy host is taken to send a
// second.
constexpr double kEventBufferBytes = 1280;
constexpr double kEventsPerSecond = 200'000;
constexpr auto kLongestEventPause = std::chrono::microseconds(2000);

constexpr std::uint32_t kAllStates = 0xfff;
constexpr std::uint32_t kListenOnly = 1U << static_cast<unsigned>(TcpState::kListen);

double thread_cpu_seconds() {
  timespec t{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}

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

Sampler::Sampler(DiagSockets sockets, SamplerOptions options)
    : sockets_(std::move(sockets)),
      options_(options),
      event_pause_(event_pause(sockets_.events->buffer_bytes())),
      classifier_(listeners_, options.ephemeral, [this] { return refresh_listeners(); }),
      groups_(options.max_groups),
      tracker_(groups_, classifier_, options.limits),
      wake_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      latest_(Error{"no sample yet"}),
      thread_([this] { run(); }) {
  ::pthread_setname_np(thread_.native_handle(), "sampler");
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
  if (dump_error_) return Error(*dump_error_);
  if (listener_error_) return Error(*listener_error_);
  if (event_error_) return std::move(*std::exchange(event_error_, std::nullopt));
  return snapshot();
}

void Sampler::run() {
  while (!stopping_) {
    wait();
    read_events();
    const TimePoint now = Clock::now();
    if (now >= next_listeners_) refresh_listeners();
    if (dumping_) {
      read_dump();
      continue;
    }
    bool asked;
    {
      const std::lock_guard lock(mutex_);
      asked = asked_ != answered_;
    }
    if ((asked || resync_) && now >= next_dump_) {
      start_dump();
    } else if (asked && (tracker_.started() || dump_error_)) {
      answer();
    }
  }
}

// Until there is something to do: an asker, an event, a chunk of the dump, or a time that has come.
void Sampler::wait() {
  const TimePoint now = Clock::now();
  const bool gathering = now < events_quiet_until_;
  pollfd fds[] = {{wake_.get(), POLLIN, 0},
                  {gathering ? -1 : sockets_.events->fd(), POLLIN, 0},
                  {dumping_ ? sockets_.dump->fd() : -1, POLLIN, 0}};
  TimePoint until = next_listeners_;
  if (gathering) until = std::min(until, events_quiet_until_);
  if (resync_ && !dumping_) until = std::min(until, next_dump_);
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
  for (;;) {
    auto received = sockets_.events->receive();
    if (!received) {
      fail_events(std::move(received.error()));
      return;
    }
    if (received->overrun) {
      ++event_overruns_;
      resync_ = true;
      continue;
    }
    if (received->datagrams.empty()) return;
    events_quiet_until_ = Clock::now() + event_pause_;
    read_event_batch(*received);
  }
}

void Sampler::read_event_batch(const Received& batch) {
  rows_.clear();
  for (const auto& datagram : batch.datagrams) {
    InetDiagReader reader(datagram);
    SocketRow row;
    for (;;) {
      const auto next = reader.next(row);
      if (next == InetDiagReader::Next::kError) fail_events(Error(reader.error()));
      if (next != InetDiagReader::Next::kRow) break;
      rows_.push_back(row);
    }
  }
  // Listeners first: one that lived for milliseconds tells the direction of its connections.
  const TimePoint now = Clock::now();
  for (const SocketRow& row : rows_) {
    if (row.remote_port == 0 && row.local_port != 0 && row.remote_address().is_any()) {
      listeners_.closed(row, now);
    }
  }
  for (const SocketRow& row : rows_) tracker_.add_event(row);
}

// What came in broken was an event all the same: only a dump can tell what is left.
void Sampler::fail_events(Error error) {
  ++event_failures_;
  resync_ = true;
  events_quiet_until_ = Clock::now() + event_pause_;
  event_error_ = std::move(error).in("DESTROY events");
}

bool Sampler::refresh_listeners() {
  const TimePoint now = Clock::now();
  if (now - last_listeners_ < kListenerMinimum) return false;
  last_listeners_ = now;
  next_listeners_ = now + kListenerInterval;
  auto done = dump_listeners();
  if (done) {
    listeners_.commit(now);
    listener_error_.reset();
    return true;
  }
  listener_error_ = std::move(done.error()).in("listener dump");
  auto reopened = sockets_.listeners->reopen();
  if (!reopened) listener_error_ = std::move(reopened.error());
  return false;
}

Result<void> Sampler::dump_listeners() {
  auto requested = sockets_.listeners->request_dump(kListenOnly, DumpDetail::kNone);
  if (!requested) return requested;
  listeners_.begin();
  for (;;) {
    // The kernel has the answer ready when the request returns: nothing to wait for.
    auto received = sockets_.listeners->receive();
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
        if (row.state == TcpState::kListen) listeners_.add(row);
      }
    }
  }
}

void Sampler::start_dump() {
  dump_start_ = dump_progress_ = Clock::now();
  dump_start_cpu_ = thread_cpu_seconds();
  dump_bytes_ = 0;
  resync_ = false;
  dumping_ = true;
  tracker_.begin_dump(dump_start_);
  auto requested = sockets_.dump->request_dump(kAllStates, DumpDetail::kCounters);
  if (!requested) fail_dump(std::move(requested.error()));
}

void Sampler::read_dump() {
  auto received = sockets_.dump->receive();
  if (!received) return fail_dump(std::move(received.error()));
  const TimePoint now = Clock::now();
  if (received->datagrams.empty()) {
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
  InetDiagReader reader(datagram);
  SocketRow row;
  for (;;) {
    const auto next = reader.next(row);
    if (next == InetDiagReader::Next::kError) return Error(reader.error());
    if (next != InetDiagReader::Next::kRow) return next == InetDiagReader::Next::kDone;
    tracker_.add_row(row);
  }
}

void Sampler::end_dump() {
  const TimePoint now = Clock::now();
  const double cpu = thread_cpu_seconds() - dump_start_cpu_;
  tracker_.end_dump(now);
  dumping_ = false;
  next_dump_ = dump_start_ + duration(cpu / options_.cpu_budget);
  last_.dump_end = now;
  last_.dump_seconds = seconds(now - dump_start_);
  last_.dump_cpu_seconds = cpu;
  last_.dump_bytes = dump_bytes_;
  ++last_.dumps;
  dump_error_.reset();
  answer();
}

void Sampler::fail_dump(Error error) {
  tracker_.abandon_dump();
  dumping_ = false;
  next_dump_ = Clock::now() + kRetry;
  resync_ = !tracker_.started();
  dump_error_ = std::move(error).in("socket dump");
  auto reopened = sockets_.dump->reopen();
  if (!reopened) dump_error_ = std::move(reopened.error());
  answer();
}

std::shared_ptr<const Snapshot> Sampler::snapshot() {
  auto s = std::make_shared<Snapshot>(last_);
  s->host_states = tracker_.host_states();
  s->groups.reserve(groups_.keys().size());
  for (std::size_t i = 0; i < groups_.keys().size(); ++i) {
    const GroupKey& key = groups_.keys()[i];
    s->groups.push_back({key.direction, port_label(key.port),
                         std::string(classifier_.peers().name(key.peer)), groups_.stats()[i]});
  }
  s->listeners = listeners_.open();
  s->tracker = tracker_.stats();
  s->tracked = tracker_.tracked();
  s->tracked_limit = tracker_.limit();
  s->untracked = tracker_.untracked();
  s->tracker_bytes = tracker_.memory_bytes();
  s->groups_limit = groups_.limit();
  s->groups_overflowed = groups_.overflowed();
  s->info_length = tracker_.info_length();
  s->events_lost = sockets_.events->dropped() + event_failures_;
  s->event_overruns = event_overruns_;
  s->event_buffer_bytes = sockets_.events->buffer_bytes();
  s->cpu_seconds = thread_cpu_seconds();
  return s;
}

}  // namespace tcpvitals
