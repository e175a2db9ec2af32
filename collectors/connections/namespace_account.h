// NamespaceAccount: all that is kept of one network namespace: sockets to dump it with, who listens
// in it, its connections, and its kernel's own totals.
//
// Not thread-safe: the sampler's thread only.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "base/clock.h"
#include "base/result.h"
#include "collectors/attribution/classify.h"
#include "collectors/attribution/listeners.h"
#include "collectors/connections/host_totals.h"
#include "collectors/connections/namespace_activity.h"
#include "collectors/connections/pace.h"
#include "collectors/connections/snapshot.h"
#include "collectors/connections/tracker.h"
#include "collectors/kernel_source.h"
#include "collectors/sock_diag/netlink.h"

namespace tcpvitals {

struct NamespaceIdentity {
  NetnsId netns = kNetnsHost;
  std::string label;         // of `netns`
  std::uint64_t inode = 0;   // 0: it is ours
  int nsid = kOwnNamespace;  // by which events name it
};

class NamespaceAccount {
 public:
  // `files`: below /proc, as that namespace sees them; null: none can be read. `shared` and
  // `grouping` must outlive it.
  NamespaceAccount(NamespaceIdentity identity, DumpSockets sockets,
                   std::shared_ptr<const KernelSource> files, TrackerShared& shared,
                   const Grouping& grouping, Classifier::FindCgroup find_cgroup);

  const NamespaceIdentity& identity() const { return identity_; }
  Tracker& tracker() { return tracker_; }
  const Tracker& tracker() const { return tracker_; }
  void set_grouping(const Grouping& grouping) { classifier_.set_grouping(grouping); }

  // Takes a listener dump now. True if the table is renewed.
  bool dump_listeners(ListenerTable::Look look);
  const ListenerDump& last_listener_dump() const { return last_listeners_; }
  const std::optional<Error>& listener_error() const { return listener_error_; }  // of that dump

  // A DESTROY event that may be a listener's.
  void note_closed_listener(const SocketRow& event, TimePoint now);

  // Looks at the namespace before a dump of it, and tells whether it needs one. Ours always does.
  DumpNeed look(TimePoint now, bool everything);

  // One full dump: begin, the rows that come from dump_socket(), then end or abandon.
  // `events_lost`: see Tracker::begin_dump().
  Result<void> begin_dump(TimePoint now, bool events_lost, DumpDetail detail);
  void add_row(const SocketRow& row);
  void end_dump(TimePoint now);
  Result<void> abandon_dump();  // fails if the socket cannot be opened anew
  DiagSocket& dump_socket() { return *dump_socket_; }

  // In place of a dump that is not needed: the last one is still true, or there are no sockets.
  void confirm(TimePoint now) { as_of_ = now; }
  void end_empty_dump(TimePoint now, bool events_lost);

  // Of the rows that all dumps showed, counters and all: how many there were, and how many told
  // their cgroup.
  std::uint64_t rows() const { return rows_; }
  std::uint64_t rows_with_cgroup() const { return rows_with_cgroup_; }

  // Read before each dump; nothing where they cannot be read.
  const std::optional<LocalPorts>& local_ports() const { return classifier_.local_ports(); }

  // After a round: see Classifier.
  void forget_ports(TimePoint now) { classifier_.forget_ports(now, groups_); }

  Snapshot::Namespace report(const Grouping& grouping) const;

 private:
  bool refresh_listeners();
  Result<void> read_listeners();
  std::optional<HostTotals> read_totals() const;

  const NamespaceIdentity identity_;
  const std::shared_ptr<const KernelSource> files_;
  const std::unique_ptr<DiagSocket> listener_socket_;
  const std::unique_ptr<DiagSocket> dump_socket_;
  const GroupTable& groups_;
  ListenerTable listeners_;
  ListenerDump last_listeners_;
  std::optional<Error> listener_error_;
  Classifier classifier_;
  Tracker tracker_;
  std::optional<HostTotals> totals_at_start_;  // when the first dump ended
  std::optional<NamespaceActivity> activity_;  // when it was looked at
  LastDump last_dump_;
  TimePoint as_of_{};               // when what is told of it was true
  std::uint64_t queued_bytes_ = 0;  // in the running dump
  std::uint64_t rows_ = 0;
  std::uint64_t rows_with_cgroup_ = 0;
};

}  // namespace tcpvitals
