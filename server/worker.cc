#include "server/worker.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <limits>
#include <utility>

namespace tcpvitals {
namespace {

constexpr std::size_t kReadBuffer = 64 << 10;
constexpr int kEventsPerTurn = 256;
constexpr int kAcceptsPerTurn = 64;
constexpr Clock::duration kAcceptPause = std::chrono::milliseconds(100);
// How long a closed connection is kept for the acknowledgement that makes its counters final; the
// sweep looks.
constexpr Clock::duration kFinalAckWait = std::chrono::seconds(10);

// A connection's tag never has generation 0: these stand for the listener of an index, and the
// mailbox.
constexpr std::uint64_t kMailboxTag = 0xffffffff;
bool is_listener(std::uint64_t tag) { return tag < kMailboxTag; }

bool watch_fd(const Fd& epoll, int operation, int fd, std::uint32_t events, std::uint64_t tag) {
  epoll_event event{};
  event.events = events;
  event.data.u64 = tag;
  return ::epoll_ctl(epoll.get(), operation, fd, &event) == 0;
}

CloseCause cause_of(int error) {
  switch (error) {
    case ECONNRESET:
    case EPIPE:
      return CloseCause::kPeerRst;
    case ETIMEDOUT:
      return CloseCause::kTimeout;
    default:
      return CloseCause::kError;
  }
}

PauseReason pause_reason_of(int error) {
  return error == EMFILE || error == ENFILE ? PauseReason::kDescriptors : PauseReason::kError;
}

bool try_again(int error) { return error == EAGAIN || error == EINTR; }

}  // namespace

Result<std::unique_ptr<Worker>> Worker::create(WorkerOptions options, std::vector<Port> ports) {
  Fd epoll(::epoll_create1(EPOLL_CLOEXEC));
  if (!epoll.valid()) return errno_error("epoll_create1", errno);
  Fd wake(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
  if (!wake.valid()) return errno_error("eventfd", errno);
  bool watched = watch_fd(epoll, EPOLL_CTL_ADD, wake.get(), EPOLLIN, kMailboxTag);
  for (std::size_t i = 0; i < ports.size() && watched; ++i) {
    watched = watch_fd(epoll, EPOLL_CTL_ADD, ports[i].socket.get(), EPOLLIN, i);
  }
  if (!watched) return errno_error("epoll_ctl", errno);
  return std::unique_ptr<Worker>(
      new Worker(options, std::move(ports), std::move(epoll), std::move(wake)));
}

Worker::Worker(WorkerOptions options, std::vector<Port> ports, Fd epoll, Fd wake)
    : options_(options),
      ports_(std::move(ports)),
      epoll_(std::move(epoll)),
      wake_(std::move(wake)),
      read_buffer_(std::make_unique<char[]>(kReadBuffer)),
      statistics_(ports_.size()) {}

Worker::~Worker() {
  stop();
  join();
}

void Worker::start() {
  // Signals are for the program's own threads.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  thread_ = std::thread([this] { run(); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  pthread_setname_np(thread_.native_handle(),
                     ("server-" + std::to_string(options_.number)).c_str());
}

void Worker::join() {
  if (thread_.joinable()) thread_.join();
}

void Worker::wake() {
  const std::uint64_t one = 1;
  // Can only fail if 2^64 wake-ups are pending.
  [[maybe_unused]] const ssize_t n = ::write(wake_.get(), &one, sizeof one);
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
    for (int i = 0; i < n; ++i) dispatch(events[static_cast<std::size_t>(i)]);
    resume_ports();
    if (slab_.live() > 0 && now_ >= next_sweep_) sweep();
  }
  for (Port& port : ports_) port.socket.reset();
  slab_.for_each([&](Connection& c) { close(c, CloseCause::kShutdown); });
  publish(std::numeric_limits<std::uint64_t>::max());
}

int Worker::wait_ms() const {
  TimePoint next = TimePoint::max();
  if (slab_.live() > 0) next = next_sweep_;
  for (const Port& port : ports_) {
    if (port.paused) next = std::min(next, port.resume_at);
  }
  if (next == TimePoint::max()) return -1;
  const auto wait = std::chrono::ceil<std::chrono::milliseconds>(next - Clock::now()).count();
  return static_cast<int>(std::clamp<std::int64_t>(wait, 0, std::numeric_limits<int>::max()));
}

void Worker::dispatch(const epoll_event& event) {
  if (event.data.u64 == kMailboxTag) return read_mailbox();
  if (is_listener(event.data.u64)) return accept_from(event.data.u64);
  Connection* c = slab_.find(event.data.u64);
  if (c == nullptr) return;
  if (c->finishing) return await_final_ack(*c, (event.events & EPOLLERR) != 0);
  if (c->output) return flush(*c);
  read_from(*c);
}

void Worker::read_mailbox() {
  std::uint64_t wakes;
  [[maybe_unused]] const ssize_t n = ::read(wake_.get(), &wakes, sizeof wakes);
  std::uint64_t ticket;
  bool asked;
  {
    const std::lock_guard lock(mutex_);
    stopping_ = stop_requested_;
    ticket = requested_;
    asked = requested_ > answered_;
  }
  if (asked && !stopping_) publish(ticket);
}

void Worker::accept_from(std::size_t index) {
  Port& port = ports_[index];
  for (int i = 0; i < kAcceptsPerTurn; ++i) {
    if (!port.listener.reserve()) return pause(port, PauseReason::kLimit);
    Fd fd(::accept4(port.socket.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (fd.valid()) {
      open(index, std::move(fd));
      continue;
    }
    const int error = errno;
    port.listener.give_back();
    if (error == EAGAIN) return;
    // A connection that died in the queue, or a network error of its own, says nothing of the next.
    if (error == EINTR || error == ECONNABORTED || error == EPROTO || error == ENETDOWN ||
        error == ENETUNREACH || error == EHOSTDOWN || error == EHOSTUNREACH) {
      continue;
    }
    return pause(port, pause_reason_of(error));
  }
}

// Level-triggered, a listener that cannot accept would be reported again at once and burn the core.
void Worker::pause(Port& port, PauseReason reason) {
  const auto index = static_cast<std::size_t>(&port - ports_.data());
  ++statistics_[index].pauses[static_cast<std::size_t>(reason)];
  watch_fd(epoll_, EPOLL_CTL_MOD, port.socket.get(), 0, index);
  port.paused = true;
  port.resume_at = now_ + kAcceptPause;
}

void Worker::resume_ports() {
  for (std::size_t i = 0; i < ports_.size(); ++i) {
    if (!ports_[i].paused || now_ < ports_[i].resume_at) continue;
    ports_[i].paused = false;
    watch_fd(epoll_, EPOLL_CTL_MOD, ports_[i].socket.get(), EPOLLIN, i);
  }
}

void Worker::open(std::size_t listener, Fd fd) {
  if (slab_.live() == 0) next_sweep_ = now_ + options_.sweep_interval;
  ++statistics_[listener].accepted;
  Connection& c = slab_.acquire(std::move(fd));
  c.id = options_.next_connection_id.fetch_add(1, std::memory_order_relaxed);
  c.listener = static_cast<std::uint16_t>(listener);
  c.opened = now_;
  if (!watch_fd(epoll_, EPOLL_CTL_ADD, c.fd.get(), EPOLLIN, c.tag())) close(c, CloseCause::kError);
}

void Worker::read_from(Connection& c) {
  const std::size_t limit = ports_[c.listener].listener.options().max_output_bytes;
  const ssize_t n = ::recv(c.fd.get(), read_buffer_.get(), std::min(kReadBuffer, limit), 0);
  if (n > 0) return write_to(c, {read_buffer_.get(), static_cast<std::size_t>(n)});
  if (n == 0) return finish(c);
  if (!try_again(errno)) fail(c, errno);
}

// What the socket does not take is kept, and nothing is read until it is gone: no more is ever kept
// than was read at once, and the peer's own sending stops when its window is full.
void Worker::write_to(Connection& c, std::span<const char> bytes) {
  ssize_t n = ::send(c.fd.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
  if (n == static_cast<ssize_t>(bytes.size())) return;
  if (n < 0) {
    if (!try_again(errno)) return fail(c, errno);
    n = 0;
  }
  const auto rest = bytes.subspan(static_cast<std::size_t>(n));
  c.output = std::make_unique_for_overwrite<char[]>(rest.size());
  std::memcpy(c.output.get(), rest.data(), rest.size());
  c.output_begin = 0;
  c.output_end = static_cast<std::uint32_t>(rest.size());
  statistics_[c.listener].output_buffer_bytes += rest.size();
  watch(c, EPOLLOUT);
}

void Worker::flush(Connection& c) {
  const ssize_t n =
      ::send(c.fd.get(), c.output.get() + c.output_begin, c.pending_output(), MSG_NOSIGNAL);
  if (n < 0) {
    if (!try_again(errno)) fail(c, errno);
    return;
  }
  c.output_begin += static_cast<std::uint32_t>(n);
  statistics_[c.listener].output_buffer_bytes -= static_cast<std::uint64_t>(n);
  if (c.pending_output() > 0) return;
  c.output.reset();
  watch(c, EPOLLIN);
}

// The peer ended its stream, and everything read was written, for nothing is read before that. Our
// end is shut too; when the peer has acknowledged it, nothing can be sent again and the counters
// are final. A near peer has done so before shutdown() returns.
void Worker::finish(Connection& c) {
  c.vitals.peer_fin = true;
  if (::shutdown(c.fd.get(), SHUT_WR) != 0) return close(c, CloseCause::kPeerRst);
  if (sample(c) == TCP_CLOSE) return release(c, CloseCause::kPeerFin);
  c.finishing = true;
  c.finishing_since = now_;
  // Shut in both directions it is always readable and hung up: only changes may wake us.
  watch(c, EPOLLET);
}

void Worker::await_final_ack(Connection& c, bool failed) {
  if (failed) return close(c, CloseCause::kPeerRst);
  if (sample(c) == TCP_CLOSE) release(c, CloseCause::kPeerFin);
}

// Fails only for want of memory, and then for good: the connection would never be heard of again.
void Worker::watch(Connection& c, std::uint32_t events) {
  if (!watch_fd(epoll_, EPOLL_CTL_MOD, c.fd.get(), events, c.tag())) close(c, CloseCause::kError);
}

// The only way from TCP_INFO into the totals. The connection's state, as the kernel numbers it.
std::uint8_t Worker::sample(Connection& c) {
  return c.vitals.sample(c.fd.get(), statistics_[c.listener].tcp);
}

void Worker::fail(Connection& c, int error) {
  if (error == EPIPE) c.vitals.peer_fin = true;  // a reset that came after the FIN
  close(c, cause_of(error));
}

void Worker::close(Connection& c, CloseCause cause) {
  sample(c);
  release(c, cause);
}

// Of a connection just sampled.
void Worker::release(Connection& c, CloseCause cause) {
  ListenerStatistics& statistics = statistics_[c.listener];
  ++statistics.closed[static_cast<std::size_t>(cause)];
  statistics.output_buffer_bytes -= c.pending_output();
  statistics.lifetime.observe(static_cast<std::uint64_t>(
      std::chrono::duration_cast<std::chrono::microseconds>(now_ - c.opened).count()));
  c.vitals.finish(statistics.tcp);
  Port& port = ports_[c.listener];
  slab_.release(c);
  port.listener.give_back();
  port.resume_at = now_;  // there is a place and a descriptor again
}

void Worker::sweep() {
  sweep_chunk_ = (sweep_chunk_ + 1) % slab_.chunks();
  slab_.for_each_in(sweep_chunk_, [&](Connection& c) {
    sample(c);
    if (c.finishing && now_ - c.finishing_since >= kFinalAckWait) {
      release(c, CloseCause::kUnacknowledged);
    }
  });
  next_sweep_ = now_ + options_.sweep_interval / static_cast<std::int64_t>(slab_.chunks());
}

// A report samples one more chunk, so that a small server is never behind, and the connections that
// it names, so that those are of this moment.
WorkerReport Worker::report() {
  if (slab_.live() > 0) sweep();
  std::vector<Connection*> live;
  live.reserve(slab_.live());
  slab_.for_each([&](Connection& c) { live.push_back(&c); });
  const auto worst = live.begin() + static_cast<std::ptrdiff_t>(
                                        std::min(live.size(), options_.max_connection_series));
  std::partial_sort(live.begin(), worst, live.end(),
                    [](const Connection* a, const Connection* b) { return worse(*a, *b); });
  live.erase(worst, live.end());

  WorkerReport report;
  for (Connection* c : live) {
    sample(*c);
    report.connections.push_back({c->id, c->listener, now_ - c->opened, c->vitals});
  }
  report.listeners = statistics_;
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
