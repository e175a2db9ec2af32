// The cgroup v2 tree: where it is, and one walk through it.
//
// The kernel translates a cgroup's id for nobody without a privilege, but it is the inode of a
// directory. A walk costs one stat a directory, and one listing for those that have children: 5,000
// directories take about 15 ms.
#pragma once

#include <absl/container/flat_hash_map.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace tcpvitals {

struct CgroupMount {
  std::string path;
  bool hybrid = false;  // cgroup v1 is mounted too
};

// From the text of /proc/self/mountinfo. Error::absent if there is no such mount.
Result<CgroupMount> parse_cgroup_mount(std::string_view mountinfo);

struct CgroupTree {
  absl::flat_hash_map<std::uint64_t, std::string> names;  // short ones, by id
  std::size_t unreadable = 0;  // directories whose children nobody may see
  bool cut_off = false;        // it is larger than the limits
  double cpu_seconds = 0;      // that the walk took
};

struct CgroupTreeLimits {
  std::size_t directories = 20'000;
  int depth = 32;
};

// Any thread. What cannot be read is left out.
CgroupTree walk_cgroups(const std::string& path, const CgroupTreeLimits& limits);

}  // namespace tcpvitals
