// Worker: one epoll loop on one thread, with its own listening sockets, connections and statistics.
//
// The loop's thread alone touches connections and statistics, without locks. Other threads reach it
// through a mailbox (a mutex, a few words and an eventfd) that it reads between turns: they leave a
// ticket for a report, change its ports, or ask it to drain or to stop.
//
// One turn: wait; serve at most 256 events, with at most one read each and at most 64 accepts a
// listener; close those whose deadline came, at most 256; then, if due, sample the TCP_INFO of one
// chunk of connections. A sweep visits every connection once in the sweep interval, its chunks
// spread evenly over it.
//
// Whatever a handler does to a connection, its own or another, is noted and settled after the call:
// no connection is released while a handler or the loop still holds it.
//
// worker.cc has the loop, worker_accept.cc the listening side, worker_stream.cc the life of a
// connection, worker_end.cc its deadlines and its end, ports.cc what a reload changes.
#pragma once

#include <sys/epoll.h>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/fd.h"
#include "base/result.h"
#include "server/audit/audit.h"
#include "server/connection.h"
#include "server/connection_series.h"
#include "server/deadlines.h"
#include "server/handler.h"
#include "server/listener.h"
#include "server/options.h"
#include "server/ports.h"
#include "server/statistics.h"
#include "server/timer_wheel.h"

namespace tcpvitals {

// Descriptors that connections may still take. Thread-safe, but for resize(): one thread at a time.
class DescriptorPool {
 public:
  // Holds so many in all from now on; those that are taken count.
  void resize(std::uint32_t descriptors) {
    left_ += std::int64_t{descriptors} - std::exchange(all_, descriptors);
  }
  // False: there are fewer, and none is taken.
  bool take(std::uint32_t descriptors) {
    std::int64_t left = left_.load(std::memory_order_relaxed);
    while (left >= descriptors) {
      if (left_.compare_exchange_weak(left, left - descriptors, std::memory_order_relaxed)) {
        return true;
      }
    }
    return false;
  }
  void give(std::uint32_t descriptors) { left_.fetch_add(descriptors, std::memory_order_relaxed); }

 private:
  std::int64_t all_ = 0;
  std::atomic<std::int64_t> left_{0};  // below 0: more are taken than there should be
};

// What all workers of a server share. Thread-safe.
struct ServerShared {
  std::atomic<std::uint64_t> next_connection_id;
  DescriptorPool descriptors;
  DescriptorPool reserve;  // of the essential listeners
  AuditLog* audit = nullptr;

  DescriptorPool& pool(const ListenerOptions& listener) {
    return listener.essential ? reserve : descriptors;
  }
};

struct WorkerOptions {
  unsigned number = 0;
  Clock::duration sweep_interval;
  const ConnectionSeries& series;  // both outlive the worker
  ServerShared& shared;
};

// Of a listening socket: of the workers that share it one is woken for a connection.
inline constexpr std::uint32_t kAcceptEvents = EPOLLIN | EPOLLEXCLUSIVE;

// epoll_ctl. False for want of memory, or of watches that this user may have.
bool watch_fd(const Fd& epoll, int operation, int fd, std::uint32_t events, std::uint64_t tag);

class Worker {
 public:
  static constexpr std::size_t kReadBuffer = 64 << 10;

  static Result<std::unique_ptr<Worker>> create(WorkerOptions options);
  ~Worker();  // stop() and join()

  // Starts the thread; once.
  void start();

  // Puts the changes in force together, and with no other between them. Any thread: in the worker's
  // next turn, before it answers any later request for a report. Before start(): at once, and it
  // fails for want of memory, or of watches that this user may have.
  Result<void> change(std::vector<PortChange> changes);

  // Asks the thread to accept no more, and to end every connection, as soon as nothing moves on it
  // or after a second, as its handler sees fit.
  void drain();
  // Asks the thread to close its listeners and connections and to end; join() waits for that. A
  // worker that ended still answers with its final report.
  void stop();
  void join();

  // Any thread: whether it drains and no connection is left.
  bool drained() const { return drained_.load(std::memory_order_acquire); }

  // Any thread: asks for a report, and gets the first that was made after it was asked for. Fails
  // if it is not there by `deadline`.
  std::uint64_t request_report();
  Result<std::shared_ptr<const WorkerReport>> wait_report(std::uint64_t ticket, TimePoint deadline);

 private:
  friend class Ports;
  friend class Stream;

  struct LinksOf {
    ConnectionSlab& slab;
    WheelLinks& operator()(std::uint32_t slot) { return slab.at(slot).timer; }
  };

  Worker(WorkerOptions options, Fd epoll, Fd wake);

  // worker.cc
  void run();
  int wait_ms() const;
  void dispatch(const epoll_event& event);
  void read_mailbox();
  void wake();
  void sweep();
  WorkerReport report();
  void publish(std::uint64_t ticket);
  std::uint32_t tick_of(TimePoint t) const;

  // worker_accept.cc
  void accept_from(std::size_t index);
  bool accept_one(std::size_t index, const Fd& socket);
  bool has_spare(Port& port) const;
  bool watch_port(std::size_t index);
  void unwatch_port(std::size_t index);
  void count_rejected(std::size_t index, const Endpoint& client, RejectReason reason,
                      std::optional<Endpoint> via = {});
  void pause(std::size_t index, PauseReason reason);
  void resume_ports();
  void close_ports();
  void open(std::size_t index, Fd fd, const Endpoint& peer, bool counted);
  Connection& add(std::size_t index, Fd fd, const Endpoint& peer, Phase first);
  Result<Fd> take_socket(Connection& from, const Endpoint& to);
  void drop_spare(Connection& c);
  Result<Connection*> connect(Connection& from, const Endpoint& to,
                              const std::function<void(const Endpoint&)>& bound);

  // worker_stream.cc
  void serve(Connection& c, std::uint32_t events);
  void begin(Connection& c, Phase phase);
  void begin_stream(Connection& c);
  void read_proxy_header(Connection& c, bool peer_ended);
  void take_proxied(Connection& c, const ProxyHeader& header);
  void begin_handshake(Connection& c);
  void shake_hands(Connection& c);
  void end_handshake(Connection& c, TlsOutcome outcome);
  void finish_connect(Connection& c);
  void become_open(Connection& c);
  void read_from(Connection& c, bool more_than_data = false);
  void take_bytes(Connection& c, std::span<const char> bytes);
  void end_of_stream(Connection& c);
  TlsStep read_tls(Connection& c, std::span<char> room);
  struct Sent {
    std::size_t bytes = 0;
    int error = 0;
  };
  Sent transmit(Connection& c, std::span<const char> bytes);
  bool write_to(Connection& c, std::span<const char> bytes);
  void drop_output(Connection& c);
  void go_on_writing(Connection& c);
  void flush(Connection& c);
  void touch(Connection& c);
  void settle_touched();
  void settle(Connection& c);
  std::uint32_t wanted_events(const Connection& c) const;
  void watch(Connection& c);
  void watch_anew(Connection& c);

  // worker_end.cc
  static bool has_unread(const Connection& c);
  void lose(Connection& c, int error);
  void end_lost(Connection& c);
  void fail(Connection& c, int error);
  void doom(Connection& c, CloseCause cause);
  void break_off(Connection& c, CloseCause cause);
  void send_fin(Connection& c);
  void await_final_ack(Connection& c, bool failed);
  void expect_progress(Connection& c);
  void look(Connection& c);
  Due due(const Connection& c) const;
  void schedule(Connection& c);
  void on_due(Connection& c);
  std::uint8_t sample(Connection& c);
  void release(Connection& c, CloseCause cause);
  AuditLog* audit_of(const Connection& c) const;
  void audit_open(Connection& c);
  void audit_close(Connection& c, CloseCause cause);
  Endpoint server_end(const Connection& c) const;

  const ListenerOptions& options_of(const Connection& c) const { return ports_[c.port].options(); }
  Handler& handler_of(const Connection& c) { return *ports_[c.port].handler; }
  ListenerStatistics& statistics_of(const Connection& c) { return *ports_[c.port].statistics; }

  const WorkerOptions options_;
  Ports ports_{*this};
  const Fd epoll_;
  const Fd wake_;
  const std::unique_ptr<char[]> read_buffer_;
  ConnectionSlab slab_;
  TimerWheel<LinksOf> wheel_{LinksOf{slab_}};
  std::vector<std::uint32_t> touched_;  // slots to settle
  const TimePoint started_ = Clock::now();
  TimePoint now_{};         // of this turn
  std::uint32_t tick_ = 1;  // seconds since the start, of this turn; never 0
  TimePoint next_sweep_{};
  std::size_t sweep_chunk_ = 0;
  bool more_due_ = false;  // deadlines that passed are left for the next turn
  bool draining_ = false;
  bool stopping_ = false;
  std::atomic<bool> drained_{false};

  std::mutex mutex_;
  std::condition_variable published_;
  std::vector<std::vector<PortChange>> changes_;  // these six under mutex_
  std::uint64_t requested_ = 0;
  std::uint64_t answered_ = 0;
  bool drain_requested_ = false;
  bool stop_requested_ = false;
  std::shared_ptr<const WorkerReport> report_;

  bool runs_ = false;  // from start() on
  std::thread thread_;
};

}  // namespace tcpvitals
