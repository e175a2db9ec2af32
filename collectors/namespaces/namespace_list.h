// Which network namespaces there are, what each is called, and which of them are watched.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace tcpvitals {

class KernelSource;

struct FoundNamespace {
  std::uint64_t id = 0;  // inode number
  std::string name;      // its entry in /run/netns; empty: it has none
  std::string path;      // what to open to enter it

  bool operator==(const FoundNamespace&) const = default;
};

struct NamespaceList {
  // Each once: those with a name first, by name; then the others, by id. Two names: the first by
  // alphabet.
  std::vector<FoundNamespace> namespaces;
  std::size_t unreadable = 0;  // processes whose namespace may not be asked for: CAP_SYS_PTRACE
};

// All that have a name in `names_directory` (as ip-netns(8) makes them) or a process in `procfs`,
// but for the one whose id is `own`. A directory that is not there has none.
NamespaceList list_namespaces(const std::string& names_directory, const std::string& procfs,
                              std::uint64_t own);

// As NamespaceList::namespaces wants it; `own` is left out. Pure.
std::vector<FoundNamespace> sorted_unique(std::vector<FoundNamespace> found, std::uint64_t own);

struct WatchedNamespace {
  std::uint64_t id = 0;
  std::string label;
  std::shared_ptr<const KernelSource> files;  // those of namespace_files()
};

// What changes between two looks.
struct NamespacePlan {
  std::vector<std::uint64_t> departures;  // neither a name nor a process holds them any more
  std::vector<FoundNamespace> arrivals;   // in the list's order
  std::vector<std::uint64_t> left_out;    // no room for them
};

// Those that are watched stay, in their order, as long as `limit` allows; then come the others, in
// the list's order. Pure.
NamespacePlan plan_namespaces(const std::vector<WatchedNamespace>& watched,
                              const std::vector<FoundNamespace>& found, std::size_t limit);

inline constexpr std::string_view kOwnNamespaceLabel = "host";
inline constexpr std::string_view kOtherNamespacesLabel = "other";  // of groups over their limit

// The value of the label `netns`: the name if it has one that nobody else carries, else the id. It
// stays what it was when the namespace came. Pure.
std::string namespace_label(const FoundNamespace& found,
                            const std::vector<WatchedNamespace>& watched);

}  // namespace tcpvitals
