// NamespaceFollower: has other network namespaces watched if the configuration wants it, and keeps
// the accounts of those that came and lets go of those that went.
//
// Not thread-safe: the sampler's thread only.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "collectors/connections/event_reader.h"
#include "collectors/connections/host_account.h"
#include "collectors/connections/snapshot.h"
#include "collectors/kernel_source.h"
#include "collectors/namespaces/namespace_watcher.h"

namespace tcpvitals {

class NamespaceFollower {
 public:
  // `sources` may be null: no others are ever watched. All must outlive it.
  NamespaceFollower(NamespaceSources* sources, HostAccount& host, EventReader& events)
      : sources_(sources), host_(host), events_(events) {}

  // Begins or ends to watch, as the host's configuration wants it.
  void configure();

  // Waits until the namespaces that are there have been found, so that they are in the first
  // sample.
  void wait_for_first_look();

  // Takes what changed since the last call. True if one came, which needs a baseline.
  bool take_changes();

  // A dump of that namespace failed.
  void failed(const NamespaceAccount& account, const Error& error) const;

  void describe(Snapshot& snapshot) const;

 private:
  NamespaceSources* const sources_;
  HostAccount& host_;
  EventReader& events_;
  std::unique_ptr<NamespaceWatcher> watcher_;  // null while not grouped by
};

}  // namespace tcpvitals
