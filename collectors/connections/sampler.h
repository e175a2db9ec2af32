// Sampler: the one thread that talks to sock_diag. It owns the sockets and the trackers, alone and
// without locks, and publishes immutable snapshots.
//
//   DESTROY events   at once, in batches; a few milliseconds late at most, even during a dump
//   listener dump    every 100 ms, and when a direction is uncertain
//   full dump        on demand: when a sample is asked for; a few pieces of 32 KiB a turn
//
// A sample is one full dump of each network namespace that is watched. Askers share it (single
// flight). The budget bounds its cost: the next begins no sooner than `last start + CPU time of the
// last / cpu_budget`. Asked earlier, the sampler answers at once: the counters with all events so
// far, the rest as of the last dump, whose age the snapshot tells.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <future>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "base/fd.h"
#include "base/result.h"
#include "collectors/attribution/cgroups.h"
#include "collectors/connections/config.h"
#include "collectors/connections/search.h"
#include "collectors/connections/search_request.h"
#include "collectors/connections/snapshot.h"
#include "collectors/connections/tracker.h"
#include "collectors/namespaces/namespace_watcher.h"
#include "collectors/sock_diag/netlink.h"

namespace tcpvitals {

struct SamplerOptions {
  ConnectionsConfig config;
  PortRange ephemeral = kDefaultEphemeral;
  std::size_t event_buffer_bytes = 0;  // that were wished for

  // Where other network namespaces are watched; null: nowhere. Must outlive the sampler.
  NamespaceSources* namespaces = nullptr;

  // The kernel's own totals in the namespace of that label, now; nothing where they cannot be read.
  std::function<std::optional<HostTotals>(const std::string& netns)> host_totals =
      [](const std::string&) { return std::nullopt; };

  // Where cgroups get their names; asked once, when grouping by cgroup begins.
  std::function<Result<CgroupMount>()> cgroup_mount = [] {
    return Result<CgroupMount>(Error::absent("no cgroup v2 mount"));
  };
};

class Sampler {
 public:
  Sampler(DiagSockets sockets, SamplerOptions options);
  ~Sampler();  // stops the thread; nobody may be waiting in it
  Sampler(const Sampler&) = delete;
  Sampler& operator=(const Sampler&) = delete;

  // Any thread. Blocks until there is a snapshot that is not older than this call, budget
  // permitting, but not past `deadline`. Fails if a dump failed or none was complete in time.
  Result<std::shared_ptr<const Snapshot>> sample(TimePoint deadline);

  // Any thread. Counts by `config` from the next dump on, which begins at once; returns when it
  // has ended, or at `deadline`: it is in force then all the same. No counter falls, and those of a
  // group that is still the same go on. Fails, and changes nothing, if the kernel cannot be told
  // the excludes, or if one before was not through by `deadline`.
  Result<void> reconfigure(ConnectionsConfig config, TimePoint deadline);

  // Any thread. Looks at every connection, one by one: a dump, within the budget.
  Result<SearchResult> search(const SearchRequest& query, TimePoint deadline);

 private:
  using SnapshotResult = Result<std::shared_ptr<const Snapshot>>;

  static constexpr auto kListenerInterval = std::chrono::milliseconds(100);
  static constexpr auto kListenerMinimum = std::chrono::milliseconds(2);
  static constexpr auto kDumpSilence = std::chrono::seconds(2);
  static constexpr auto kLossesLogInterval = std::chrono::seconds(10);
  static constexpr auto kRetry = std::chrono::milliseconds(100);  // after a dump that failed

  // One network namespace.
  struct Space {
    Space(Sampler& sampler, NetnsId netns, std::string netns_name, DumpSockets sockets);

    Snapshot::Namespace report(const Grouping& grouping) const;

    const NetnsId id;
    const std::string name;
    std::uint64_t inode = 0;   // of other namespaces than ours
    int nsid = kOwnNamespace;  // by which events name it
    std::unique_ptr<DiagSocket> listener_socket;
    std::unique_ptr<DiagSocket> dump_socket;
    TimePoint last_listeners{};
    ListenerTable listeners;
    Classifier classifier;
    Tracker tracker;
    std::function<std::optional<HostTotals>(const std::string&)> read_totals;
    std::optional<HostTotals> totals_at_start;
    std::optional<Error> listener_error;  // of the last listener dump
  };

  struct Reconfiguration {
    ConnectionsConfig config;
    std::promise<Result<void>> done;
  };

  struct Search {
    ConnectionSearch search;
    std::promise<Result<SearchResult>> done;
  };

  struct Asked {
    bool sample;
    bool search;
  };

  // All below: the sampler's thread.
  void run();
  void wait();
  Asked asked();

  void read_events();
  void read_event_batch(const Received& batch);
  void fail_events(Error error);

  void refresh_all_listeners();
  bool refresh_listeners(Space& space);
  Result<void> dump_listeners(Space& space);

  void watch_namespaces();
  void change_namespaces();
  void add_namespace(NamespaceChange change);
  void remove_namespace(std::size_t index);
  Space* space_of(int nsid);

  void start_counting();
  void apply_limits();
  void exclude_at_start();
  Result<void> set_excludes(const Excludes& excludes);
  void begin_reconfiguration();
  void end_reconfiguration();

  void start_sample();
  Space& dumping();
  void start_dump();
  void read_dump();
  Result<bool> add_dump_datagram(std::span<const std::byte> datagram);
  void search_row(const SocketRow& row);
  void end_dump();
  void end_sample();
  void next_dump();
  void fail_dump(Error error);
  void finish_sample(double cpu);

  void answer();
  SnapshotResult outcome();
  std::shared_ptr<const Snapshot> snapshot();
  GroupLabels labels(const GroupKey& key) const;
  std::string netns_text(NetnsId id) const;
  std::vector<Snapshot::Feature> features() const;
  void log_features();
  void log_losses();

  std::unique_ptr<DiagSocket> events_;
  SamplerOptions options_;  // with the configuration in force
  const Clock::duration
      event_pause_;  // how long events may gather in the buffer before they are read

  std::unique_ptr<const Grouping> grouping_;
  std::unique_ptr<CgroupNames> cgroups_;  // null while not grouped by
  GroupTable groups_;
  TrackerShared shared_;
  std::vector<std::unique_ptr<Space>> spaces_;  // ours first
  std::vector<std::string> netns_names_;        // by NetnsId; empty: free
  std::unique_ptr<NamespaceWatcher> watcher_;   // null while not grouped by
  TrackerStats gone_;                           // of namespaces that are
  std::vector<std::pair<Space*, SocketRow>> rows_;

  TimePoint next_listeners_{};
  TimePoint events_quiet_until_{};
  std::size_t dumping_space_ = 0;
  bool dumping_ = false;
  bool dump_flows_ = false;  // the last look found a piece of it
  bool resync_ =
      true;  // a dump is due though nobody asked: at the start, and after events were lost
  bool events_lost_ = false;         // since the last sample began
  bool miss_ends_ = false;           // in the running sample: events were lost before it
  bool waiting_for_budget_ = false;  // a search does
  TimePoint dump_start_{};
  TimePoint dump_progress_{};
  double dump_start_cpu_ = 0;
  std::uint64_t dump_bytes_ = 0;
  TimePoint last_events_{};          // when they were looked for
  Clock::duration longest_pause_{};  // between two looks, in the running sample
  TimePoint next_dump_{};            // by the budget
  TimePoint next_resync_{};          // likewise, for those that nobody asked for
  std::uint64_t event_overruns_ = 0;
  std::uint64_t event_failures_ = 0;    // datagrams that could not be read
  std::optional<Error> event_error_;    // since the last answer
  std::optional<Error> exclude_error_;  // of the first attempt to exclude
  std::optional<Error> dump_error_;     // of the last full dump
  Snapshot last_;                       // what the last complete sample said of itself

  std::map<std::string, std::string> logged_features_;
  std::uint64_t logged_losses_ = 0;
  TimePoint next_losses_log_{};

  std::unique_ptr<Reconfiguration> reconfiguring_;  // until a sample ends
  std::vector<std::unique_ptr<Search>> searching_;  // in the running sample

  // Shared with askers.
  Fd wake_;
  std::mutex mutex_;
  std::condition_variable answered_changed_;
  std::uint64_t asked_ = 0;                           // under mutex_
  std::uint64_t answered_ = 0;                        // under mutex_
  SnapshotResult latest_;                             // under mutex_
  std::unique_ptr<Reconfiguration> reconfiguration_;  // under mutex_: not begun
  std::vector<std::unique_ptr<Search>> searches_;     // under mutex_: not begun
  std::atomic<bool> stopping_{false};

  std::thread thread_;  // last: everything it uses is there before it starts
};

}  // namespace tcpvitals
