// CgroupNames: short names for the cgroups that sockets belong to, for the `cgroup` label.
//
// A socket tells its cgroup as an id, which the walks of the tree translate (cgroup_tree.h). An id
// that no walk has seen asks for one. While the tree is small the answer comes at once; else the
// connection is `unknown` until the walk is through and the connection is seen again.
//
// A host where cgroup v1 is mounted too may keep its processes outside the v2 tree: the sockets of
// those carry the root's id and are named "/".
#pragma once

#include <absl/container/flat_hash_map.h>
#include <absl/container/flat_hash_set.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "collectors/attribution/cgroup_tree.h"
#include "collectors/attribution/cgroup_walker.h"

namespace tcpvitals {

using CgroupLabel = std::uint16_t;
inline constexpr CgroupLabel kCgroupOff = 0;      // "": the label is not in use
inline constexpr CgroupLabel kCgroupUnknown = 1;  // "unknown": gone, out of sight, or not sent
inline constexpr CgroupLabel kCgroupOther = 2;    // "other": over the bound on names

// Not thread-safe: the sampler's thread only.
class CgroupNames {
 public:
  struct Limits {
    std::size_t names = 100;    // besides unknown and other; at most 65,000
    CgroupTreeLimits tree{};    // what lies beyond is unknown
    Clock::duration patience =  // that find() has with a walk, where it needs one
        std::chrono::milliseconds(2);
  };

  // Totals never fall.
  struct Stats {
    std::uint64_t walks = 0;
    std::uint64_t overflowed = 0;  // times that a connection fell into `other`
    std::uint64_t unknown = 0;     // times that a connection fell into `unknown`
  };

  CgroupNames(const Result<CgroupMount>& mount, const Limits& limits);

  // The label of a connection in the cgroup `id` (SocketRow::cgroup_id; 0: it was not sent).
  CgroupLabel find(std::uint64_t id);

  // The ids that were unknown, and have a name since the last call. While some have none, a walk a
  // minute looks for them again: they may have come into sight.
  using Ids = absl::flat_hash_set<std::uint64_t>;
  Ids take_news();

  // Whether a walk was asked for that is not through.
  bool pending() const { return wished_ > fulfilled_; }

  // Whether rows of a dump carried ids. Before Linux 5.8 none does.
  void saw_rows(bool with_id);

  // Valid until the next retain().
  std::string_view name(CgroupLabel label) const { return names_[label]; }

  // Gives back every name of which used(label) is false.
  void retain(const std::function<bool(CgroupLabel)>& used);

  // Takes effect for names that are new.
  void set_limit(std::size_t names) { limits_.names = names; }

  std::size_t size() const { return labels_.size(); }  // names in use
  std::size_t limit() const { return limits_.names; }
  const Stats& stats() const { return stats_; }

  // What keeps connections from their names on this host, in one sentence for a log; empty:
  // nothing.
  std::string complaint() const;

 private:
  const std::string* lookup(std::uint64_t id);
  void ask();
  void take_walk();
  CgroupLabel label_of(const std::string& name);

  Limits limits_;
  Stats stats_;
  std::string mount_error_;
  bool hybrid_ = false;
  bool saw_rows_ = false;
  bool ids_sent_ = false;

  CgroupTree tree_;           // what the last walk saw
  std::uint64_t wished_ = 0;  // the walker's numbers
  std::uint64_t fulfilled_ = 0;
  TimePoint asked_at_{};
  Ids unknown_;  // that were asked for and have no name
  Ids news_;

  absl::flat_hash_map<std::uint64_t, CgroupLabel> known_;  // by id: what was asked for
  absl::flat_hash_map<std::string, CgroupLabel> labels_;   // by name: those in use
  std::vector<std::string> names_;                         // by label; empty: free
  std::vector<CgroupLabel> free_;

  std::optional<CgroupWalker> walker_;  // none where there is no tree
};

}  // namespace tcpvitals
