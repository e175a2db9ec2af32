// Worker: one epoll loop on one thread, with its own listening sockets, connections and statistics.
//
// The loop's thread alone touches connections and statistics, without locks. Other threads reach it
// through a mailbox (a mutex, two numbers and an eventfd) that it reads between turns: they leave a
// ticket for a report, or ask it to stop.
//
// One turn: wait; serve at most 256 events, with at most one read each and at most 64 accepts a
// listener; then, if due, sample the TCP_INFO of one chunk of connections. A sweep visits every
// connection once in the sweep interval, its chunks spread evenly over it.
#pragma once

#include <sys/epoll.h>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "base/fd.h"
#include "base/result.h"
#include "server/connection.h"
#include "server/listener.h"
#include "server/statistics.h"

namespace tcpvitals {

struct WorkerOptions {
  unsigned number = 0;
  Clock::duration sweep_interval;
  std::size_t max_connection_series;
  std::atomic<std::uint64_t>& next_connection_id;  // outlives the worker
};

class Worker {
 public:
  struct Port {
    ServerListener& listener;  // outlives the worker
    Fd socket;
    TimePoint resume_at{};  // when accepting goes on, if `paused`
    bool paused = false;
  };

  static Result<std::unique_ptr<Worker>> create(WorkerOptions options, std::vector<Port> ports);
  ~Worker();  // stop() and join()

  // Starts the thread; once.
  void start();

  // Asks the thread to close its listeners and connections and to end; join() waits for that. A
  // worker that ended still answers with its final report.
  void stop();
  void join();

  // Any thread: asks for a report, and gets the first that was made after it was asked for. Fails
  // if it is not there by `deadline`.
  std::uint64_t request_report();
  Result<std::shared_ptr<const WorkerReport>> wait_report(std::uint64_t ticket, TimePoint deadline);

 private:
  Worker(WorkerOptions options, std::vector<Port> ports, Fd epoll, Fd wake);

  void run();
  int wait_ms() const;
  void dispatch(const epoll_event& event);
  void read_mailbox();
  void wake();

  void accept_from(std::size_t index);
  void pause(Port& port, PauseReason reason);
  void resume_ports();
  void open(std::size_t listener, Fd fd);

  void read_from(Connection& c);
  void write_to(Connection& c, std::span<const char> bytes);
  void flush(Connection& c);
  void finish(Connection& c);
  void await_final_ack(Connection& c, bool failed);
  void watch(Connection& c, std::uint32_t events);
  std::uint8_t sample(Connection& c);
  void fail(Connection& c, int error);
  void close(Connection& c, CloseCause cause);
  void release(Connection& c, CloseCause cause);

  void sweep();
  WorkerReport report();
  void publish(std::uint64_t ticket);

  const WorkerOptions options_;
  std::vector<Port> ports_;
  const Fd epoll_;
  const Fd wake_;
  const std::unique_ptr<char[]> read_buffer_;
  ConnectionSlab slab_;
  std::vector<ListenerStatistics> statistics_;  // by listener index
  TimePoint now_{};                             // of this turn
  TimePoint next_sweep_{};
  std::size_t sweep_chunk_ = 0;
  bool stopping_ = false;

  std::mutex mutex_;
  std::condition_variable published_;
  std::uint64_t requested_ = 0;  // these four under mutex_
  std::uint64_t answered_ = 0;
  bool stop_requested_ = false;
  std::shared_ptr<const WorkerReport> report_;

  std::thread thread_;
};

}  // namespace tcpvitals
