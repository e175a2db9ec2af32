// CgroupNames: short names for the cgroups that sockets belong to, for the `cgroup` label.
//
// A socket tells its cgroup as an id, which is the inode of a directory in the cgroup v2 tree. The
// kernel translates it for nobody without a privilege, so the tree is walked: one stat a directory,
// and one listing for those that have children; 5,000 directories take about 15 ms. A walk happens
// when an id is asked for that no walk has seen, and walks together take 1 % of the time at most.
//
// A host where cgroup v1 is mounted too may keep its processes outside the v2 tree: the sockets of
// those carry the root's id and are named "/".
#pragma once

#include <absl/container/flat_hash_map.h>
#include <absl/container/flat_hash_set.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/result.h"

namespace tcpvitals {

// Where the cgroup v2 tree is.
struct CgroupMount {
  std::string path;
  bool hybrid = false;  // cgroup v1 is mounted too
};

// From the text of /proc/self/mountinfo. Error::absent if there is no such mount.
Result<CgroupMount> parse_cgroup_mount(std::string_view mountinfo);

// What a person calls the cgroup at `path` ("/system.slice/nginx.service"), in at most 64 printable
// ASCII characters: the container's short id ("3f4e8b0a91c2"), or "lxc/web", else the innermost
// systemd unit, else the innermost slice, else the path. A login session is named by its user's
// slice, and a connection's own service ("sshd@7-...service") by its template: those are as many as
// logins. Pure.
std::string short_cgroup_name(std::string_view path);

using CgroupLabel = std::uint16_t;
inline constexpr CgroupLabel kCgroupOff = 0;      // "": the label is not in use
inline constexpr CgroupLabel kCgroupUnknown = 1;  // "unknown": gone, out of sight, or not sent
inline constexpr CgroupLabel kCgroupOther = 2;    // "other": over the bound on names

// Not thread-safe: the sampler's thread only.
class CgroupNames {
 public:
  struct Limits {
    std::size_t names = 100;           // besides unknown and other; at most 65,000
    std::size_t directories = 20'000;  // of the tree; what lies beyond is unknown
    int depth = 32;
  };

  // Totals never fall. The rest is of the last walk.
  struct Stats {
    std::uint64_t walks = 0;
    std::uint64_t overflowed = 0;  // times that a connection fell into `other`
    std::uint64_t unknown = 0;     // times that a connection's cgroup was not found
    double walk_seconds = 0;
    std::size_t directories = 0;
    std::size_t unreadable = 0;  // directories whose children nobody may see
    bool cut_off = false;        // the tree is larger than the limits
  };

  CgroupNames(Result<CgroupMount> mount, Limits limits);

  // The label of a connection in the cgroup `id` (SocketRow::cgroup_id). May walk the tree.
  CgroupLabel find(std::uint64_t id, TimePoint now);

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
  // nothing. Changes with walks.
  std::string complaint() const;

 private:
  struct Walk;

  bool may_walk(std::uint64_t id, TimePoint now);
  void walk(TimePoint now);
  CgroupLabel label_of(const std::string& name);

  const Result<CgroupMount> mount_;
  Limits limits_;
  Stats stats_;
  TimePoint next_walk_{};

  absl::flat_hash_map<std::uint64_t, std::string> tree_;   // by id: what the last walk saw
  absl::flat_hash_set<std::uint64_t> gone_;                // ids that a walk did not find
  absl::flat_hash_map<std::uint64_t, CgroupLabel> known_;  // by id: what was asked for
  absl::flat_hash_map<std::string, CgroupLabel> labels_;   // by name: those in use
  std::vector<std::string> names_;                         // by label; empty: free
  std::vector<CgroupLabel> free_;
};

}  // namespace tcpvitals
