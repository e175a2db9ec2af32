#include "collectors/attribution/cgroup_tree.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <memory>

#include "base/clock.h"
#include "base/fd.h"
#include "collectors/attribution/cgroup_name.h"

namespace tcpvitals {
namespace {

bool is_octal(char c) { return c >= '0' && c <= '7'; }

// \040 and its like.
std::string mount_path(std::string_view escaped) {
  std::string path;
  while (!escaped.empty()) {
    if (escaped.size() >= 4 && escaped[0] == '\\' && is_octal(escaped[1]) && is_octal(escaped[2]) &&
        is_octal(escaped[3])) {
      path +=
          static_cast<char>((escaped[1] - '0') << 6 | (escaped[2] - '0') << 3 | (escaped[3] - '0'));
      escaped.remove_prefix(4);
    } else {
      path += escaped.front();
      escaped.remove_prefix(1);
    }
  }
  return path;
}

// Takes the first piece off `text`, and the separator after it.
std::string_view take_piece(std::string_view& text, char separator) {
  const auto end = text.find(separator);
  const std::string_view piece = text.substr(0, end);
  text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
  return piece;
}

struct CloseDir {
  void operator()(DIR* d) const { ::closedir(d); }
};

struct Walk {
  const CgroupTreeLimits& limits;
  CgroupTree& tree;
  std::string path{};  // of the directory being listed, from the root of the tree

  void add(std::uint64_t id) {
    tree.names.emplace(id, short_cgroup_name(path.empty() ? "/" : path));
  }

  void list(Fd fd, int depth) {
    const std::unique_ptr<DIR, CloseDir> directory(::fdopendir(fd.get()));
    if (!directory) {
      ++tree.unreadable;
      return;
    }
    fd.release();
    while (const dirent* entry = ::readdir(directory.get())) {
      const std::string_view name = entry->d_name;
      if (entry->d_type != DT_DIR || name == "." || name == "..") continue;
      if (tree.names.size() >= limits.directories || depth >= limits.depth) {
        tree.cut_off = true;
        return;
      }
      visit(::dirfd(directory.get()), entry->d_name, depth + 1);
    }
  }

  void visit(int parent, const char* name, int depth) {
    struct stat status {};
    if (::fstatat(parent, name, &status, AT_SYMLINK_NOFOLLOW) != 0) return;  // just removed
    const std::size_t length = path.size();
    path.append("/").append(name);
    add(status.st_ino);
    // Two links, its own and its parent's: it has no children, which saves a listing.
    if (status.st_nlink != 2) {
      Fd fd(::openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
      if (fd.valid()) {
        list(std::move(fd), depth);
      } else if (errno != ENOENT) {
        ++tree.unreadable;
      }
    }
    path.resize(length);
  }
};

}  // namespace

Result<CgroupMount> parse_cgroup_mount(std::string_view mountinfo) {
  CgroupMount mount;
  while (!mountinfo.empty()) {
    // "35 24 0:30 ROOT MOUNTPOINT rw,nosuid shared:9 - cgroup2 cgroup2 rw": before the dash there
    // may be any number of optional fields.
    std::string_view line = take_piece(mountinfo, '\n');
    const auto dash = line.find(" - ");
    if (dash == std::string_view::npos) continue;
    std::string_view rest = line.substr(dash + 3);
    const std::string_view type = take_piece(rest, ' ');
    if (type == "cgroup") mount.hybrid = true;
    if (type != "cgroup2" || !mount.path.empty()) continue;
    line = line.substr(0, dash);
    for (int field = 1; field < 5; ++field) take_piece(line, ' ');
    mount.path = mount_path(take_piece(line, ' '));
  }
  if (mount.path.empty()) return Error::absent("no cgroup2 mount");
  return mount;
}

CgroupTree walk_cgroups(const std::string& path, const CgroupTreeLimits& limits) {
  const double start = thread_cpu_seconds();
  CgroupTree tree;
  Walk walk{limits, tree};
  Fd root(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  struct stat status {};
  if (root.valid() && ::fstat(root.get(), &status) == 0) {
    walk.add(status.st_ino);
    walk.list(std::move(root), 0);
  } else {
    ++tree.unreadable;
  }
  tree.cpu_seconds = thread_cpu_seconds() - start;
  return tree;
}

}  // namespace tcpvitals
