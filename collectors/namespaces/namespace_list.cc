#include "collectors/namespaces/namespace_list.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <memory>
#include <optional>
#include <set>
#include <tuple>

namespace tcpvitals {
namespace {

// Calls `use` with the name of each entry that does not begin with a dot.
template <typename Use>
void for_each_entry(const std::string& directory, Use use) {
  const std::unique_ptr<DIR, int (*)(DIR*)> opened(::opendir(directory.c_str()), ::closedir);
  if (!opened) return;
  while (const dirent* entry = ::readdir(opened.get())) {
    if (entry->d_name[0] != '.') use(std::string(entry->d_name));
  }
}

// Of a name that lost its namespace an empty file is left.
std::optional<std::uint64_t> namespace_at(const std::string& path) {
  struct statfs system {};
  struct stat status {};
  if (::statfs(path.c_str(), &system) < 0 || system.f_type != NSFS_MAGIC) return std::nullopt;
  if (::stat(path.c_str(), &status) < 0) return std::nullopt;
  return status.st_ino;
}

// What a link below /proc/PID/ns says: "net:[4026531840]".
std::optional<std::uint64_t> parse_link(std::string_view text) {
  constexpr std::string_view kBefore = "net:[";
  if (!text.starts_with(kBefore) || !text.ends_with(']')) return std::nullopt;
  text.remove_prefix(kBefore.size());
  text.remove_suffix(1);
  std::uint64_t id = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), id);
  if (code != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return id;
}

bool contains(const std::vector<FoundNamespace>& found, std::uint64_t id) {
  return std::any_of(found.begin(), found.end(), [&](const auto& f) { return f.id == id; });
}

}  // namespace

NamespaceList list_namespaces(const std::string& names_directory, const std::string& procfs,
                              std::uint64_t own) {
  NamespaceList list;
  for_each_entry(names_directory, [&](const std::string& name) {
    const std::string path = names_directory + "/" + name;
    if (const auto id = namespace_at(path)) list.namespaces.push_back({*id, name, path});
  });
  std::uint64_t last = own;
  for_each_entry(procfs, [&](const std::string& name) {
    if (name.find_first_not_of("0123456789") != std::string::npos) return;
    const std::string path = procfs + "/" + name + "/ns/net";
    std::array<char, 64> text{};
    const ssize_t n = ::readlink(path.c_str(), text.data(), text.size());
    if (n < 0) {
      if (errno == EACCES || errno == EPERM) ++list.unreadable;
      return;  // else it has ended
    }
    const auto id = parse_link({text.data(), static_cast<std::size_t>(n)});
    // Most processes share the namespace of the one before.
    if (!id || *id == last) return;
    last = *id;
    list.namespaces.push_back({*id, "", path});
  });
  list.namespaces = sorted_unique(std::move(list.namespaces), own);
  return list;
}

std::vector<FoundNamespace> sorted_unique(std::vector<FoundNamespace> found, std::uint64_t own) {
  const auto rank = [](const FoundNamespace& f) {
    return std::tuple(f.name.empty(), std::string_view(f.name), f.id);
  };
  std::sort(found.begin(), found.end(),
            [&](const auto& a, const auto& b) { return rank(a) < rank(b); });
  std::set<std::uint64_t> seen{own};
  std::vector<FoundNamespace> unique;
  for (FoundNamespace& f : found) {
    if (seen.insert(f.id).second) unique.push_back(std::move(f));
  }
  return unique;
}

NamespacePlan plan_namespaces(const std::vector<WatchedNamespace>& watched,
                              const std::vector<FoundNamespace>& found, std::size_t limit) {
  NamespacePlan plan;
  std::size_t room = limit;
  for (const WatchedNamespace& w : watched) {
    if (!contains(found, w.id)) {
      plan.departures.push_back(w.id);
    } else if (room == 0) {
      plan.departures.push_back(w.id);
      plan.left_out.push_back(w.id);
    } else {
      --room;
    }
  }
  for (const FoundNamespace& f : found) {
    if (std::any_of(watched.begin(), watched.end(), [&](const auto& w) { return w.id == f.id; })) {
      continue;
    }
    if (room == 0) {
      plan.left_out.push_back(f.id);
    } else {
      --room;
      plan.arrivals.push_back(f);
    }
  }
  return plan;
}

std::string namespace_label(const FoundNamespace& found,
                            const std::vector<WatchedNamespace>& watched) {
  const bool taken = found.name == kOwnNamespaceLabel || found.name == kOtherNamespacesLabel ||
                     std::any_of(watched.begin(), watched.end(),
                                 [&](const WatchedNamespace& w) { return w.label == found.name; });
  return found.name.empty() || taken ? std::to_string(found.id) : found.name;
}

}  // namespace tcpvitals
