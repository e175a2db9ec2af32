// Sampler: the one thread that talks to sock_diag. It decides what is done next; what is done
// stands in the parts it is made of. It publishes immutable snapshots.
//
//   DESTROY events   at once, in batches; a few milliseconds late at most, even during a dump
//   listener dumps   every 100 ms while they are cheap, and when a direction is uncertain
//   full dumps       on demand: when a sample is asked for; a few pieces of 32 KiB a turn
//
// Each kind of work has its share of the time (pace.h), so that none starves another.
//
// A sample is one full dump of each network namespace that is watched. Askers share it (single
// flight). The budget bounds its cost: the next begins no sooner than `last start + CPU time of the
// last / cpu_budget`. Asked earlier, the sampler answers at once: the counters with all events so
// far, the rest as of the last dump, whose age the snapshot tells.
#pragma once

#include <atomic>
#include <cstddef>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>

#include "base/clock.h"
#include "base/result.h"
#include "collectors/connections/config.h"
#include "collectors/connections/dump_round.h"
#include "collectors/connections/event_reader.h"
#include "collectors/connections/host_account.h"
#include "collectors/connections/namespace_follower.h"
#include "collectors/connections/pace.h"
#include "collectors/connections/reconfiguration.h"
#include "collectors/connections/sampler_requests.h"
#include "collectors/connections/search_request.h"
#include "collectors/connections/snapshot.h"
#include "collectors/sock_diag/netlink.h"

namespace tcpvitals {

struct SamplerOptions {
  ConnectionsConfig config;
  std::size_t event_buffer_bytes = 0;  // that were wished for

  // The files of our own namespace; null: none can be read. Must outlive the sampler.
  const KernelSource* files = nullptr;

  // Where other network namespaces are watched; null: nowhere. Must outlive the sampler.
  NamespaceSources* namespaces = nullptr;
};

class Sampler {
 public:
  Sampler(DiagSockets sockets, SamplerOptions options);
  ~Sampler();  // stops the thread; nobody may be waiting in it
  Sampler(const Sampler&) = delete;
  Sampler& operator=(const Sampler&) = delete;

  // Any thread. Blocks until there is a snapshot that is not older than this call, budget
  // permitting. Shortly before `deadline` it gives the last one there was, whose age tells that a
  // dump takes longer. Fails if the last dump failed, or if none was ever complete.
  SnapshotResult sample(TimePoint deadline) { return requests_.sample(deadline); }

  // Any thread. Counts by `config` from the next dump on, which begins at once; returns when it
  // has ended, or at `deadline`: it is in force then all the same. No counter falls, and those of a
  // group that is still the same go on. Fails, and changes nothing, if the kernel cannot be told
  // the excludes, or if one before was not through by `deadline`.
  Result<void> reconfigure(ConnectionsConfig config, TimePoint deadline) {
    return requests_.reconfigure(std::move(config), deadline);
  }

  // Any thread. Looks at every connection, one by one: a dump, within the budget.
  Result<SearchResult> search(const SearchRequest& request, TimePoint deadline) {
    return requests_.search(request, deadline);
  }

 private:
  // All below: the sampler's thread.
  void run();
  void wait();
  void read_events();
  void dump_due_listeners();
  void exclude_at_start();
  void begin_reconfiguration();
  void decide();
  void begin_sample();
  void end_sample();
  SnapshotResult outcome();
  std::shared_ptr<const Snapshot> snapshot();
  void log_features(const Snapshot& snapshot);
  void log_losses();

  const std::size_t wished_buffer_bytes_;
  SamplerRequests requests_;
  HostAccount host_;
  EventReader events_;
  NamespaceFollower namespaces_;
  Reconfiguration reconfiguration_;
  DumpRound round_;

  DumpDemand demand_{.resync = true};
  DumpTimes times_;
  TimePoint next_listeners_{};
  bool events_lost_ = false;            // since the last sample began
  std::optional<Error> exclude_error_;  // of the first attempt to exclude
  Snapshot last_;                       // what the last complete sample said of itself

  std::map<std::string, std::string> logged_features_;
  std::uint64_t logged_losses_ = 0;
  TimePoint next_losses_log_{};

  std::atomic<bool> stopping_{false};
  std::thread thread_;  // last: everything it uses is there before it starts
};

}  // namespace tcpvitals
