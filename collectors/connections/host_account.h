// HostAccount: everything that is counted: the account of each network namespace, the groups they
// share, and the names of cgroups, by the configuration in force.
//
// Not thread-safe: the sampler's thread only.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "collectors/attribution/cgroups.h"
#include "collectors/attribution/classify.h"
#include "collectors/attribution/groups.h"
#include "collectors/attribution/netns_names.h"
#include "collectors/connections/config.h"
#include "collectors/connections/namespace_account.h"
#include "collectors/connections/snapshot.h"
#include "collectors/connections/tracker.h"
#include "collectors/kernel_source.h"
#include "collectors/namespaces/namespace_watcher.h"
#include "collectors/sock_diag/netlink.h"

namespace tcpvitals {

class HostAccount {
 public:
  // `files`: those of our own namespace; null: none can be read.
  HostAccount(DumpSockets sockets, std::shared_ptr<const KernelSource> files,
              ConnectionsConfig config);

  using Namespaces = std::vector<std::unique_ptr<NamespaceAccount>>;
  const Namespaces& namespaces() const { return namespaces_; }  // ours first
  NamespaceAccount& own() const { return *namespaces_.front(); }
  NamespaceAccount* account_of(int nsid) const;  // null: it is not watched

  // A namespace that came, and one that went: whatever it had has ended.
  void add(NamespaceChange change);
  void remove(std::uint64_t inode);
  void remove_others();

  // Puts a configuration in force but for the excludes: limits at once, groups as connections are
  // seen. Excludes count from the next dump on, which must show what both of them do.
  void configure(ConnectionsConfig config);

  // Has the kernel leave out of all dumps what is excluded; may fail half-way.
  Result<void> exclude(const Excludes& excludes);
  // The kernel leaves out of dumps and events what the configuration excludes.
  void kernel_excludes();

  // Around the dumps of all namespaces.
  void begin_dump();
  // Whether connections of that namespace may move to a cgroup that was found.
  bool renames(const NamespaceAccount& account) const;
  void keep_dump(const NamespaceAccount& account);  // the round leaves it out
  void end_dump(TimePoint now);

  // What the last listener dumps of all namespaces cost together.
  Clock::duration listener_cost() const;

  const ConnectionsConfig& config() const { return config_; }
  const Grouping& grouping() const { return *grouping_; }
  const GroupTable& groups() const { return groups_; }
  const CgroupNames* cgroups() const { return cgroups_.get(); }  // null: not grouped by
  const TrackerStats& gone() const { return gone_; }             // of namespaces that are
  GroupLabels labels(const GroupKey& key) const;

 private:
  void apply_limits();
  Classifier::FindCgroup find_cgroup();

  const std::shared_ptr<const KernelSource> files_;
  ConnectionsConfig config_;
  std::unique_ptr<const Grouping> grouping_;
  std::unique_ptr<CgroupNames> cgroups_;  // null while not grouped by
  GroupTable groups_;
  TrackerShared shared_;
  NetnsNames netns_names_;
  Namespaces namespaces_;
  Excludes kernel_excludes_;  // what the dump sockets leave out
  TrackerStats gone_;
};

}  // namespace tcpvitals
