// Sampler: the one thread that talks to sock_diag. It owns the sockets and the tracker, alone and
// without locks, and publishes immutable snapshots.
//
//   DESTROY events   at once, in batches; a few milliseconds late at most, even during a dump
//   listener dump    every 100 ms, and when a direction is uncertain
//   full dump        on demand: when a sample is asked for; a few pieces of 32 KiB a turn
//
// Askers share one dump (single flight). The budget bounds its cost: the next dump begins no sooner
// than `last start + CPU time of the last / cpu_budget`. Asked earlier, the sampler answers at
// once: the counters with all events so far, the rest as of the last dump, whose age the snapshot
// tells.
#pragma once

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "base/fd.h"
#include "base/result.h"
#include "collectors/connections/netlink.h"
#include "collectors/connections/tracker.h"

namespace tcpvitals {

struct SamplerOptions {
  double cpu_budget = 0.05;  // of one core
  Tracker::Limits limits;
  std::size_t max_groups = 200;
  PortRange ephemeral = kDefaultEphemeral;
};

// What is known at one moment. Immutable once published.
struct Snapshot {
  struct Group {
    Direction direction;
    std::string port;
    std::string peer;
    GroupStats stats;
  };

  TimePoint dump_end;  // of the last complete dump: what is not a counter is as old as this
  double dump_seconds = 0;
  double dump_cpu_seconds = 0;
  std::uint64_t dump_bytes = 0;  // netlink bytes of the last complete dump

  std::array<std::uint32_t, kTcpStates> host_states{};
  std::vector<Group> groups;
  std::vector<Listener> listeners;

  TrackerStats tracker;
  std::size_t tracked = 0;
  std::size_t tracked_limit = 0;
  std::size_t untracked = 0;
  std::size_t tracker_bytes = 0;
  std::size_t groups_limit = 0;
  std::uint64_t groups_overflowed = 0;
  std::uint32_t info_length =
      0;  // bytes of tcp_info this kernel returns: what lies beyond is absent

  std::uint64_t dumps = 0;           // complete ones, ever
  std::uint64_t events_lost = 0;     // the kernel's own count
  std::uint64_t event_overruns = 0;  // times the event buffer was found to have overflowed
  std::size_t event_buffer_bytes = 0;
  double cpu_seconds = 0;  // of the sampler's thread, ever
};

class Sampler {
 public:
  Sampler(DiagSockets sockets, SamplerOptions options);
  ~Sampler();  // stops the thread; nobody may be waiting in sample()
  Sampler(const Sampler&) = delete;
  Sampler& operator=(const Sampler&) = delete;

  // Any thread. Blocks until there is a snapshot that is not older than this call, budget
  // permitting, but not past `deadline`. Fails if a dump failed or none was complete in time.
  Result<std::shared_ptr<const Snapshot>> sample(TimePoint deadline);

 private:
  using SnapshotResult = Result<std::shared_ptr<const Snapshot>>;

  static constexpr auto kListenerInterval = std::chrono::milliseconds(100);
  static constexpr auto kListenerMinimum = std::chrono::milliseconds(2);
  static constexpr auto kDumpSilence = std::chrono::seconds(2);
  static constexpr auto kRetry = std::chrono::milliseconds(100);  // after a dump that failed

  // All below: the sampler's thread.
  void run();
  void wait();
  void read_events();
  void read_event_batch(const Received& batch);
  void fail_events(Error error);
  bool refresh_listeners();
  Result<void> dump_listeners();
  void start_dump();
  void read_dump();
  Result<bool> add_dump_datagram(std::span<const std::byte> datagram);
  void end_dump();
  void fail_dump(Error error);
  void answer();
  SnapshotResult outcome();
  std::shared_ptr<const Snapshot> snapshot();

  DiagSockets sockets_;
  const SamplerOptions options_;
  const Clock::duration
      event_pause_;  // how long events may gather in the buffer before they are read

  ListenerTable listeners_;
  Classifier classifier_;
  GroupTable groups_;
  Tracker tracker_;
  std::vector<SocketRow> rows_;

  TimePoint next_listeners_{};
  TimePoint last_listeners_{};
  TimePoint events_quiet_until_{};
  bool dumping_ = false;
  bool resync_ =
      true;  // a dump is due though nobody asked: at the start, and after events were lost
  TimePoint dump_start_{};
  TimePoint dump_progress_{};
  double dump_start_cpu_ = 0;
  std::uint64_t dump_bytes_ = 0;
  TimePoint next_dump_{};
  std::uint64_t event_overruns_ = 0;
  std::uint64_t event_failures_ = 0;     // datagrams that could not be read
  std::optional<Error> event_error_;     // since the last answer
  std::optional<Error> listener_error_;  // of the last listener dump
  std::optional<Error> dump_error_;      // of the last full dump
  Snapshot last_;                        // what the last complete dump said of itself

  // Shared with askers.
  Fd wake_;
  std::mutex mutex_;
  std::condition_variable answered_changed_;
  std::uint64_t asked_ = 0;     // under mutex_
  std::uint64_t answered_ = 0;  // under mutex_
  SnapshotResult latest_;       // under mutex_
  std::atomic<bool> stopping_{false};

  std::thread thread_;  // last: everything it uses is there before it starts
};

}  // namespace tcpvitals
