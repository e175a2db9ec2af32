#include "collectors/attribution/cgroups.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <utility>

#include "base/fd.h"

namespace tcpvitals {
namespace {

constexpr std::size_t kMaxName = 64;
constexpr std::size_t kShortId = 12;  // as `docker ps` shows it
constexpr double kWalkShare = 0.01;   // of the time
constexpr std::size_t kMaxGone = 4096;

constexpr std::string_view kHex = "0123456789abcdef";
constexpr std::string_view kDigits = "0123456789";

// Calls use(piece) for each piece between separators, empty ones left out.
template <typename Use>
void split(std::string_view text, std::string_view separators, Use use) {
  for (;;) {
    const auto end = text.find_first_of(separators);
    if (const auto piece = text.substr(0, end); !piece.empty()) use(piece);
    if (end == std::string_view::npos) return;
    text.remove_prefix(end + 1);
  }
}

bool strip_suffix(std::string_view& text, std::string_view suffix) {
  if (!text.ends_with(suffix)) return false;
  text.remove_suffix(suffix.size());
  return true;
}

bool all_of(std::string_view text, std::string_view characters) {
  return !text.empty() && text.find_first_not_of(characters) == std::string_view::npos;
}

// "docker-<64 hex>.scope", "<64 hex>", "...slice:cri-containerd:<64 hex>", and "<32 hex>-<digits>"
// of ECS: the first characters of the id; empty: none of them.
std::string_view container_id(std::string_view component) {
  if (!strip_suffix(component, ".scope")) strip_suffix(component, ".slice");
  const auto last = component.find_last_of("-:_");
  const std::string_view id = component.substr(last == std::string_view::npos ? 0 : last + 1);
  if (id.size() == 64 && all_of(id, kHex)) return id.substr(0, kShortId);
  const std::string_view task = component.substr(0, 32);
  if (last == 32 && all_of(task, kHex) && all_of(id, kDigits)) return task.substr(0, kShortId);
  return {};
}

bool is_unit(std::string_view component) {
  return component.ends_with(".service") || component.ends_with(".scope") ||
         component.ends_with(".socket") || component.ends_with(".mount") ||
         component.ends_with(".swap");
}

// Whether a unit only parts its slice or its manager from the rest of itself.
bool is_inner(std::string_view unit, std::string_view parent) {
  if (unit.starts_with("session-") && parent.starts_with("user-")) return true;
  return unit == "init.scope" && parent.starts_with("user@");
}

// "sshd@7-192.0.2.1:22-198.51.100.7:40000.service": "sshd@.service".
std::string without_addresses(std::string_view unit) {
  const auto at = unit.find('@');
  if (at == std::string_view::npos || unit.find(':', at) == std::string_view::npos) {
    return std::string(unit);
  }
  const auto number_end = unit.find_first_not_of(kDigits, at + 1);
  if (number_end == at + 1 || unit[number_end] != '-') return std::string(unit);
  return std::string(unit.substr(0, at + 1)).append(unit.substr(unit.rfind('.')));
}

int hex_digit(char c) {
  const auto digit = kHex.find(c);
  return digit == std::string_view::npos ? -1 : static_cast<int>(digit);
}

// systemd writes what a unit's name may not hold as \x2d.
std::string unescaped(std::string_view text) {
  std::string plain;
  while (!text.empty()) {
    const int high = text.size() >= 4 && text.starts_with("\\x") ? hex_digit(text[2]) : -1;
    const int low = high >= 0 ? hex_digit(text[3]) : -1;
    plain += low >= 0 ? static_cast<char>(high << 4 | low) : text.front();
    text.remove_prefix(low >= 0 ? 4 : 1);
  }
  return plain;
}

std::string label_value(std::string_view name) {
  std::string value = unescaped(name);
  for (char& c : value) {
    if (c < ' ' || c > '~') c = '_';  // bytes above 0x7f are below zero
  }
  // The innermost part tells more.
  if (value.size() > kMaxName) value.erase(0, value.size() - kMaxName);
  return value;
}

// \040 and its like.
std::string mount_path(std::string_view escaped) {
  std::string path;
  while (!escaped.empty()) {
    if (escaped.size() >= 4 && escaped[0] == '\\' && all_of(escaped.substr(1, 3), "01234567")) {
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

struct CloseDir {
  void operator()(DIR* d) const { ::closedir(d); }
};

}  // namespace

Result<CgroupMount> parse_cgroup_mount(std::string_view mountinfo) {
  CgroupMount mount;
  split(mountinfo, "\n", [&](std::string_view line) {
    // "35 24 0:30 ROOT MOUNTPOINT rw,nosuid shared:9 - cgroup2 cgroup2 rw": before the dash there
    // may be any number of optional fields.
    const auto dash = line.find(" - ");
    if (dash == std::string_view::npos) return;
    const std::string_view rest = line.substr(dash + 3);
    const std::string_view type = rest.substr(0, rest.find(' '));
    if (type == "cgroup") mount.hybrid = true;
    if (type != "cgroup2" || !mount.path.empty()) return;
    std::size_t field = 0;
    split(line.substr(0, dash), " ", [&](std::string_view text) {
      if (++field == 5) mount.path = mount_path(text);
    });
  });
  if (mount.path.empty()) return Error::absent("no cgroup2 mount");
  return mount;
}

std::string short_cgroup_name(std::string_view path) {
  std::string name;
  std::string_view parent;
  bool in_container = false;
  split(path, "/", [&](std::string_view component) {
    const std::string_view outer = std::exchange(parent, component);
    if (const auto id = container_id(component); !id.empty()) {
      name = id;
      in_container = true;
    } else if (in_container) {
      return;  // its own units are not the host's
    } else if (outer == "lxc" || outer == "lxc.payload") {
      name = "lxc/" + std::string(component);
      in_container = true;
    } else if (component.starts_with("lxc.payload.")) {
      name = "lxc/" + std::string(component.substr(std::string_view("lxc.payload.").size()));
      in_container = true;
    } else if (component == "payload" && is_unit(name)) {
      in_container = true;  // of systemd-nspawn, whose unit is its name
    } else if (is_unit(component)) {
      if (!is_inner(component, outer)) name = without_addresses(component);
    } else if (component.ends_with(".slice") && !is_unit(name)) {
      name = component;
    }
  });
  return label_value(name.empty() ? path : name);
}

// One walk of the tree, at most so deep and so large.
struct CgroupNames::Walk {
  const Limits& limits;
  absl::flat_hash_map<std::uint64_t, std::string>& tree;
  Stats& stats;
  std::string path{};  // of the directory being listed, from the root of the tree

  void add(std::uint64_t id) { tree.emplace(id, short_cgroup_name(path.empty() ? "/" : path)); }

  void list(Fd fd, int depth) {
    const std::unique_ptr<DIR, CloseDir> directory(::fdopendir(fd.get()));
    if (!directory) {
      ++stats.unreadable;
      return;
    }
    fd.release();
    while (const dirent* entry = ::readdir(directory.get())) {
      const std::string_view name = entry->d_name;
      if (entry->d_type != DT_DIR || name == "." || name == "..") continue;
      if (tree.size() >= limits.directories || depth >= limits.depth) {
        stats.cut_off = true;
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
        ++stats.unreadable;
      }
    }
    path.resize(length);
  }
};

CgroupNames::CgroupNames(Result<CgroupMount> mount, Limits limits)
    : mount_(std::move(mount)), limits_(limits), names_{"", "unknown", "other"} {}

CgroupLabel CgroupNames::find(std::uint64_t id, TimePoint now) {
  const auto known = known_.find(id);
  if (known != known_.end()) return known->second;
  auto seen = tree_.find(id);
  if (seen == tree_.end() && may_walk(id, now)) {
    walk(now);
    seen = tree_.find(id);
    if (seen == tree_.end()) {
      if (gone_.size() == kMaxGone) gone_.clear();
      gone_.insert(id);
    }
  }
  if (seen == tree_.end()) {
    ++stats_.unknown;
    return kCgroupUnknown;
  }
  const CgroupLabel label = label_of(seen->second);
  if (label == kCgroupOther) {
    ++stats_.overflowed;  // and asked again next time: a name may have been given back
  } else {
    known_.emplace(id, label);
  }
  return label;
}

bool CgroupNames::may_walk(std::uint64_t id, TimePoint now) {
  return id != 0 && mount_.ok() && now >= next_walk_ && !gone_.contains(id);
}

void CgroupNames::walk(TimePoint now) {
  const TimePoint start = Clock::now();
  ++stats_.walks;
  stats_.unreadable = 0;
  stats_.cut_off = false;
  tree_.clear();
  Walk walk{limits_, tree_, stats_};
  Fd root(::open(mount_->path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  struct stat status {};
  if (root.valid() && ::fstat(root.get(), &status) == 0) {
    walk.add(status.st_ino);
    walk.list(std::move(root), 0);
  } else {
    ++stats_.unreadable;
  }
  stats_.directories = tree_.size();
  // The id of a directory that is gone names nothing any more.
  absl::erase_if(known_, [this](const auto& entry) { return !tree_.contains(entry.first); });
  const Clock::duration took = Clock::now() - start;
  stats_.walk_seconds = seconds(took);
  next_walk_ = now + std::chrono::duration_cast<Clock::duration>(took / kWalkShare);
}

CgroupLabel CgroupNames::label_of(const std::string& name) {
  const auto known = labels_.find(name);
  if (known != labels_.end()) return known->second;
  if (labels_.size() >= limits_.names) return kCgroupOther;
  CgroupLabel label;
  if (free_.empty()) {
    label = static_cast<CgroupLabel>(names_.size());
    names_.push_back(name);
  } else {
    label = free_.back();
    free_.pop_back();
    names_[label] = name;
  }
  labels_.emplace(name, label);
  return label;
}

void CgroupNames::retain(const std::function<bool(CgroupLabel)>& used) {
  absl::erase_if(labels_, [&](const auto& entry) {
    if (used(entry.second)) return false;
    names_[entry.second].clear();
    free_.push_back(entry.second);
    return true;
  });
  absl::erase_if(known_, [this](const auto& entry) { return names_[entry.second].empty(); });
}

std::string CgroupNames::complaint() const {
  if (!mount_) return mount_.error().message + ": every connection's cgroup is unknown";
  if (stats_.unreadable > 0) {
    return "unreadable directories: " + std::to_string(stats_.unreadable) +
           ": the cgroups below them are unknown";
  }
  if (stats_.cut_off) {
    return "the tree is larger than " + std::to_string(limits_.directories) +
           " directories or deeper than " + std::to_string(limits_.depth) +
           ": the cgroups beyond are unknown";
  }
  if (mount_->hybrid) return "cgroup v1 is mounted too: a process in that alone is in \"/\"";
  return {};
}

}  // namespace tcpvitals
