#include "collectors/connections/host_account.h"

#include <algorithm>
#include <utility>

#include "base/log.h"

namespace tcpvitals {

HostAccount::HostAccount(DumpSockets sockets, std::shared_ptr<const KernelSource> files,
                         ConnectionsConfig config)
    : files_(std::move(files)),
      config_(std::move(config)),
      grouping_(std::make_unique<const Grouping>(config_.grouping())),
      groups_(config_.limits.groups),
      shared_{groups_} {
  apply_limits();
  namespaces_.push_back(std::make_unique<NamespaceAccount>(
      NamespaceIdentity{.label = netns_names_.name(kNetnsHost)}, std::move(sockets), files_,
      shared_, *grouping_, find_cgroup()));
}

NamespaceAccount* HostAccount::account_of(int nsid) const {
  const auto account = std::find_if(namespaces_.begin(), namespaces_.end(), [&](const auto& other) {
    return other->identity().nsid == nsid;
  });
  return account == namespaces_.end() ? nullptr : account->get();
}

void HostAccount::add(NamespaceChange change) {
  NamespaceIdentity identity{.netns = netns_names_.id_of(change.label),
                             .label = change.label,
                             .inode = change.id,
                             .nsid = change.nsid};
  auto account = std::make_unique<NamespaceAccount>(std::move(identity), std::move(*change.sockets),
                                                    std::move(change.files), shared_, *grouping_,
                                                    find_cgroup());
  if (kernel_excludes_ == config_.excludes) {
    auto excluded = account->dump_socket().exclude(kernel_excludes_);
    if (!excluded)
      log_error("netns", {{"netns", change.label}, {"error", excluded.error().message}});
  } else {
    account->tracker().regroup({}, config_.excludes);
  }
  namespaces_.push_back(std::move(account));
}

void HostAccount::remove(std::uint64_t inode) {
  const auto gone =
      std::find_if(namespaces_.begin() + 1, namespaces_.end(),
                   [&](const auto& other) { return other->identity().inode == inode; });
  if (gone == namespaces_.end()) return;
  (*gone)->tracker().end_all();
  groups_.clear_dump((*gone)->identity().netns);
  gone_ += (*gone)->tracker().stats();
  namespaces_.erase(gone);
}

void HostAccount::remove_others() {
  while (namespaces_.size() > 1) remove(namespaces_.back()->identity().inode);
}

void HostAccount::configure(ConnectionsConfig config) {
  const Excludes before = std::exchange(config_, std::move(config)).excludes;
  apply_limits();
  auto grouping = std::make_unique<const Grouping>(config_.grouping());
  groups_.rekey([&](const GroupKey& key) { return grouping->translate(*grouping_, key); });
  for (const auto& account : namespaces_) {
    account->set_grouping(*grouping);
    account->tracker().regroup(before, config_.excludes);
  }
  grouping_ = std::move(grouping);
}

void HostAccount::apply_limits() {
  groups_.set_limit(config_.limits.groups);
  shared_.max_connections = config_.limits.connections;
  shared_.close_wait_threshold = config_.close_wait_threshold;
  if (!config_.group_by.cgroup) {
    cgroups_.reset();
  } else if (cgroups_) {
    cgroups_->set_limit(config_.limits.cgroups);
  } else {
    auto mount = files_ ? read_parsed(*files_, "self/mountinfo", parse_cgroup_mount)
                        : Result<CgroupMount>(Error::absent("no cgroup v2 mount"));
    cgroups_ = std::make_unique<CgroupNames>(std::move(mount),
                                             CgroupNames::Limits{.names = config_.limits.cgroups});
  }
}

Classifier::FindCgroup HostAccount::find_cgroup() {
  return
      [this](std::uint64_t cgroup) { return cgroups_ ? cgroups_->find(cgroup) : kCgroupUnknown; };
}

Result<void> HostAccount::exclude(const Excludes& excludes) {
  Result<void> done;
  for (auto account = namespaces_.begin(); done && account != namespaces_.end(); ++account) {
    done = (*account)->dump_socket().exclude(excludes);
  }
  if (done) kernel_excludes_ = excludes;
  return done;
}

void HostAccount::kernel_excludes() {
  for (const auto& account : namespaces_) account->tracker().kernel_excludes();
}

// New names of cgroups first: what was unknown has one as soon as it is seen.
void HostAccount::begin_dump() {
  shared_.begin_dump();
  if (!cgroups_) return;
  const CgroupNames::Ids found = cgroups_->take_news();
  for (const auto& account : namespaces_) account->tracker().add_found_cgroups(found);
}

bool HostAccount::renames(const NamespaceAccount& account) const {
  const auto& groups = groups_.groups();
  return account.tracker().has_found_cgroups() &&
         std::any_of(groups.begin(), groups.end(), [&](const GroupTable::Group& g) {
           return g.references > 0 && g.key.netns == account.identity().netns &&
                  g.key.cgroup == kCgroupUnknown;
         });
}

void HostAccount::keep_dump(const NamespaceAccount& account) {
  groups_.keep_dump(account.identity().netns);
}

void HostAccount::end_dump(TimePoint now) {
  shared_.end_dump();
  groups_.forget_idle(now, config_.group_idle);
  for (const auto& account : namespaces_) account->forget_ports(now);
  if (cgroups_) {
    for (const auto& account : namespaces_) {
      if (account->rows() > 0) cgroups_->saw_rows(account->rows_with_cgroup() > 0);
    }
    cgroups_->retain([this](CgroupLabel label) { return groups_.uses_cgroup(label); });
  }
  netns_names_.retain([this](NetnsId id) {
    return groups_.uses_netns(id) ||
           std::any_of(namespaces_.begin(), namespaces_.end(),
                       [&](const auto& account) { return account->identity().netns == id; });
  });
}

Clock::duration HostAccount::listener_cost() const {
  Clock::duration cost{};
  for (const auto& account : namespaces_) cost += account->last_listener_dump().cost;
  return cost;
}

GroupLabels HostAccount::labels(const GroupKey& key) const {
  GroupLabels labels{grouping_->direction_text(key), grouping_->port_text(key),
                     grouping_->peer_text(key), "",
                     grouping_->by.netns ? netns_names_.name(key.netns) : ""};
  if (cgroups_) labels.cgroup = cgroups_->name(key.cgroup);
  return labels;
}

}  // namespace tcpvitals
