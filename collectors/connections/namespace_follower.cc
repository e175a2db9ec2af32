#include "collectors/connections/namespace_follower.h"

#include <utility>

#include "base/log.h"

namespace tcpvitals {

void NamespaceFollower::configure() {
  const ConnectionsConfig& config = host_.config();
  if (sources_ == nullptr) return;
  if (!config.group_by.netns) {
    if (!watcher_) return;
    const bool listened = watcher_->stats().privileged;
    watcher_.reset();
    host_.remove_others();
    auto alone = listened ? events_.listen_to_ours() : Result<void>();
    if (!alone) log_error("netns", {{"error", alone.error().message}});
  } else if (watcher_) {
    watcher_->set_limit(config.limits.namespaces);
  } else {
    watcher_ = std::make_unique<NamespaceWatcher>(
        *sources_, NamespaceOptions{.limit = config.limits.namespaces});
    if (!watcher_->stats().privileged) return;
    auto listening = events_.listen_to_all(watcher_->own_nsid());
    if (!listening) log_error("netns", {{"error", listening.error().message}});
  }
}

void NamespaceFollower::wait_for_first_look() {
  if (watcher_) watcher_->wait_for_first_look();
}

bool NamespaceFollower::take_changes() {
  if (!watcher_) return false;
  bool came = false;
  for (NamespaceChange& change : watcher_->take_changes()) {
    if (change.came()) {
      host_.add(std::move(change));
      came = true;
    } else {
      host_.remove(change.id);
    }
  }
  return came;
}

void NamespaceFollower::failed(const NamespaceAccount& account, const Error& error) const {
  if (sources_ != nullptr) sources_->namespace_failed(account.identity().label, error);
}

void NamespaceFollower::describe(Snapshot& snapshot) const {
  if (!watcher_) return;
  snapshot.network_namespaces = watcher_->stats();
  snapshot.namespace_failures = sources_->failures();
  snapshot.features.push_back(
      {"netns", snapshot.network_namespaces.privileged ? "" : "only our own is watched"});
}

}  // namespace tcpvitals
