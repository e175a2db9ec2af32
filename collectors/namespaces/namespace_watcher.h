// NamespaceWatcher: finds the network namespaces of this host besides ours, opens in each what the
// sampler and the /proc collectors read from then on, and lets go of it when nobody else holds the
// namespace any more.
//
//   sampler          take_changes(): sockets to dump with, and the nsid that its events carry
//   /proc collectors NamespaceSources: the files of every namespace (host_collectors.h says which)
//
// Our descriptors keep a namespace and its devices alive: one that ended for everybody else ends up
// to an interval later.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "collectors/kernel_source.h"
#include "collectors/namespaces/namespace_ids.h"
#include "collectors/namespaces/namespace_list.h"
#include "collectors/sock_diag/netlink.h"

namespace tcpvitals {

// A namespace that came, or one that went. An id may come again after it went: another namespace.
struct NamespaceChange {
  std::uint64_t id = 0;
  std::string label;               // these only if it came
  int nsid = NamespaceIds::kNone;  // as Received::nsids has it
  std::optional<DumpSockets> sockets;
  std::shared_ptr<const KernelSource> files;  // as WatchedNamespace has them

  bool came() const { return sockets.has_value(); }
};

struct NamespaceStats {
  std::size_t watched = 1;  // ours included; so is the limit
  std::size_t limit = 0;
  std::size_t left_out = 0;      // now, for lack of room
  std::uint64_t overflowed = 0;  // were ever left out, each once as long as it stayed so
  std::size_t unopened = 0;      // now, because they could not be entered or opened
  std::size_t unreadable = 0;    // processes whose namespace may not be asked for
  std::uint64_t arrivals = 0;
  std::uint64_t departures = 0;
  bool privileged = true;  // false: only ours is watched
};

struct NamespaceOptions {
  std::size_t limit = 64;
  std::string names_directory = "/run/netns";
  std::string procfs = "/proc";
  std::chrono::milliseconds interval{2000};  // longer if a look takes more than 1 % CPU of it
};

class NamespaceWatcher {
 public:
  // Looks for the first time in a thread of its own. Without the privileges, which one line in the
  // log names, it watches none but ours. `sources` must outlive it; from the construction to the
  // destruction namespaces are told apart there.
  NamespaceWatcher(NamespaceSources& sources, NamespaceOptions options);
  ~NamespaceWatcher();
  NamespaceWatcher(const NamespaceWatcher&) = delete;
  NamespaceWatcher& operator=(const NamespaceWatcher&) = delete;

  // Any thread. Waits until those that were there when it was made have been looked at.
  void wait_for_first_look();

  // Any thread. What changed since the last call, in the order in which it happened. Who takes an
  // arrival owns its sockets, and closes them at the departure.
  std::vector<NamespaceChange> take_changes();

  // Any thread. By which number our namespace knows itself; NamespaceIds::kNone: by none.
  int own_nsid() const { return own_nsid_; }

  // Any thread. In force from the next look on.
  void set_limit(std::size_t limit);

  // Any thread.
  NamespaceStats stats() const;

 private:
  // All below: the watcher's thread, and the constructor before that runs.
  void run();
  void look();
  Result<void> open(const FoundNamespace& found);
  void open_files_again(const std::vector<FoundNamespace>& found);
  void publish();

  NamespaceSources& sources_;
  const NamespaceOptions options_;
  std::uint64_t own_ = 0;
  int own_nsid_ = NamespaceIds::kNone;  // constant once constructed
  std::optional<NamespaceIds> ids_;
  std::vector<WatchedNamespace> watched_;
  std::size_t files_ = 0;  // that this kernel has
  std::set<std::uint64_t> left_out_;
  std::set<std::uint64_t> unopened_;

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  bool looked_ = false;                   // under mutex_
  bool stopping_ = false;                 // under mutex_
  std::vector<NamespaceChange> changes_;  // under mutex_
  NamespaceStats stats_;                  // under mutex_

  std::thread thread_;  // last: everything it uses is there before it starts
};

}  // namespace tcpvitals
