#include "collectors/namespaces/namespace_watcher.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <functional>
#include <map>
#include <utility>

#include "base/fd.h"
#include "base/log.h"
#include "base/thread.h"
#include "collectors/host/host_collectors.h"
#include "collectors/namespaces/netns.h"

namespace tcpvitals {
namespace {

constexpr double kCpuBudget = 0.01;  // of one core

// As the calling thread's namespace has it.
std::string full_path(const std::string& procfs, const std::string& path) {
  return fmt::format("{}/{}{}", procfs, path.starts_with("net/") ? "thread-self/" : "", path);
}

// How many of the files this kernel has: more, once a module was loaded.
std::size_t count_files(const std::string& procfs) {
  const auto files = namespace_files();
  return static_cast<std::size_t>(std::count_if(files.begin(), files.end(), [&](const auto& path) {
    return ::access(full_path(procfs, path).c_str(), F_OK) == 0;
  }));
}

Result<Fd> open_namespace(const FoundNamespace& found) {
  Fd netns(::open(found.path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!netns.valid()) return errno_error(found.path, errno);
  struct stat status {};
  if (::fstat(netns.get(), &status) < 0) return errno_error(found.path, errno);
  if (status.st_ino != found.id) return Error{found.path + ": another one by now"};
  return netns;
}

// The files of one namespace, opened inside it: whoever reads them reads that namespace, from
// anywhere and even when no process is left in it. /proc/sys/net shows the namespace of the thread
// that opens a file there, and the file stays that namespace's.
class NamespaceFiles final : public KernelSource {
 public:
  // In the namespace of the calling thread. A file that cannot be opened is told to its readers; to
  // be out of descriptors or memory is an error here.
  static Result<std::shared_ptr<const NamespaceFiles>> open(const std::string& procfs) {
    auto files = std::make_shared<NamespaceFiles>();
    for (const std::string& path : namespace_files()) {
      const std::string full = full_path(procfs, path);
      Fd fd(::open(full.c_str(), O_RDONLY | O_CLOEXEC));
      const int error = fd.valid() ? 0 : errno;
      if (error == EMFILE || error == ENFILE || error == ENOMEM) return errno_error(full, error);
      files->opened_.emplace(path, Opened{std::move(fd), error});
    }
    return std::shared_ptr<const NamespaceFiles>(std::move(files));
  }

  Result<std::string> read(std::string_view path) const override {
    const auto known = opened_.find(path);
    if (known == opened_.end() || known->second.error == ENOENT) {
      return Error::absent(std::string(path) + ": not in this namespace");
    }
    const auto& [file, error] = known->second;
    if (error != 0) return errno_error(path, error);
    // In one piece: the kernel writes such a file anew for each reader that begins, and another may
    // begin at any time.
    std::string text(kMaxFile, '\0');
    ssize_t n = 0;
    do {
      n = ::pread(file.get(), text.data(), text.size(), 0);
    } while (n < 0 && errno == EINTR);
    if (n < 0) return errno_error(path, errno);
    if (static_cast<std::size_t>(n) == text.size()) {
      return Error{std::string(path) + ": larger than 64 KiB"};
    }
    text.resize(static_cast<std::size_t>(n));
    return text;
  }

  Result<std::size_t> count_entries(std::string_view path) const override {
    return Error::absent(std::string(path) + ": not in this namespace");
  }

 private:
  static constexpr std::size_t kMaxFile = std::size_t{64} * 1024;  // they have a few KiB

  struct Opened {
    Fd file;
    int error = 0;  // errno, where it could not be opened
  };
  std::map<std::string, Opened, std::less<>> opened_;
};

Result<std::shared_ptr<const KernelSource>> open_files(int netns, const std::string& procfs) {
  std::shared_ptr<const KernelSource> files;
  auto entered = in_namespace(netns, [&]() -> Result<void> {
    auto opened = NamespaceFiles::open(procfs);
    if (!opened) return std::move(opened.error());
    files = std::move(*opened);
    return {};
  });
  if (!entered) return std::move(entered.error());
  return files;
}

}  // namespace

NamespaceWatcher::NamespaceWatcher(NamespaceSources& sources, NamespaceOptions options)
    : sources_(sources), options_(std::move(options)) {
  stats_.limit = options_.limit;
  publish();
  const std::string missing = missing_namespace_privileges();
  stats_.privileged = missing.empty();
  if (!missing.empty()) {
    log_warn("netns: only our own namespace is watched",
             {{"needs", "CAP_SYS_ADMIN, CAP_NET_BROADCAST, CAP_NET_ADMIN"}, {"lacks", missing}});
    return;
  }
  auto own = own_namespace();
  auto ids = NamespaceIds::open();
  if (!own || !ids) {
    log_error("netns: only our own namespace is watched",
              {{"error", own ? ids.error().message : own.error().message}});
    stats_.privileged = false;
    return;
  }
  own_ = *own;
  const Fd own_netns(::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
  const auto own_nsid = ids->find(own_netns.get());
  if (own_nsid) own_nsid_ = *own_nsid;
  ids_ = std::move(*ids);
  thread_ = start_thread("namespaces", [this] { run(); });
}

NamespaceWatcher::~NamespaceWatcher() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
  sources_.publish("", {});
}

std::vector<NamespaceChange> NamespaceWatcher::take_changes() {
  const std::lock_guard lock(mutex_);
  return std::exchange(changes_, {});
}

void NamespaceWatcher::set_limit(std::size_t limit) {
  const std::lock_guard lock(mutex_);
  stats_.limit = limit;
}

NamespaceStats NamespaceWatcher::stats() const {
  const std::lock_guard lock(mutex_);
  return stats_;
}

void NamespaceWatcher::wait_for_first_look() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return looked_ || !stats_.privileged; });
}

void NamespaceWatcher::run() {
  std::chrono::duration<double> rest{};
  std::unique_lock lock(mutex_);
  while (!changed_.wait_for(lock, rest, [this] { return stopping_; })) {
    lock.unlock();
    const double start = thread_cpu_seconds();
    look();
    const double used = thread_cpu_seconds() - start;
    rest = std::max<decltype(rest)>(options_.interval, decltype(rest)(used / kCpuBudget));
    lock.lock();
    looked_ = true;
    changed_.notify_all();
  }
}

void NamespaceWatcher::look() {
  const NamespaceList list = list_namespaces(options_.names_directory, options_.procfs, own_);
  const std::size_t limit = std::max<std::size_t>(stats().limit, 1) - 1;  // one is ours
  const NamespacePlan plan = plan_namespaces(watched_, list.namespaces, limit);

  // The departures first: who takes them makes room, and lets an id be used again.
  for (const std::uint64_t id : plan.departures) {
    std::erase_if(watched_, [&](const auto& w) { return w.id == id; });
    const std::lock_guard lock(mutex_);
    // Of one whose arrival nobody took there is nothing to tell.
    if (std::erase_if(changes_, [&](const auto& c) { return c.id == id && c.came(); }) == 0) {
      changes_.push_back({.id = id});
    }
  }
  const std::size_t files = count_files(options_.procfs);
  if (files > std::exchange(files_, files)) open_files_again(list.namespaces);
  std::set<std::uint64_t> unopened;
  for (const FoundNamespace& found : plan.arrivals) {
    auto opened = open(found);
    if (opened) continue;
    if (unopened_.empty() && unopened.empty()) {  // one line, until all are well again
      log_warn("netns: a namespace is not watched",
               {{"netns", namespace_label(found, watched_)}, {"error", opened.error().message}});
    }
    unopened.insert(found.id);
  }
  unopened_ = std::move(unopened);
  publish();

  const std::set<std::uint64_t> left_out(plan.left_out.begin(), plan.left_out.end());
  const std::lock_guard lock(mutex_);
  for (const std::uint64_t id : left_out) stats_.overflowed += left_out_.contains(id) ? 0 : 1;
  left_out_ = left_out;
  stats_.watched = watched_.size() + 1;
  stats_.left_out = left_out_.size();
  stats_.unopened = unopened_.size();
  stats_.unreadable = list.unreadable;
  stats_.departures += plan.departures.size();
}

Result<void> NamespaceWatcher::open(const FoundNamespace& found) {
  auto opened = open_namespace(found);
  if (!opened) return std::move(opened.error());
  const auto netns = std::make_shared<const Fd>(std::move(*opened));
  const auto nsid = ids_->assign(netns->get());
  if (!nsid) return nsid.error();

  auto files = open_files(netns->get(), options_.procfs);
  if (!files) return std::move(files.error());
  auto sockets = open_dump_sockets([netns](const std::function<Result<void>()>& work) {
    return in_namespace(netns->get(), work);
  });
  if (!sockets) return std::move(sockets.error());

  const std::string label = namespace_label(found, watched_);
  watched_.push_back({found.id, label, *files});
  const std::lock_guard lock(mutex_);
  ++stats_.arrivals;
  changes_.push_back({found.id, label, *nsid, std::move(*sockets), std::move(*files)});
  return {};
}

// Those that cannot be opened keep the files they have.
void NamespaceWatcher::open_files_again(const std::vector<FoundNamespace>& found) {
  for (WatchedNamespace& w : watched_) {
    const auto here = std::find_if(found.begin(), found.end(),
                                   [&](const FoundNamespace& f) { return f.id == w.id; });
    if (here == found.end()) continue;
    const auto netns = open_namespace(*here);
    if (!netns) continue;
    auto files = open_files(netns->get(), options_.procfs);
    if (files) w.files = std::move(*files);
  }
}

void NamespaceWatcher::publish() {
  std::vector<NamespaceSource> others;
  others.reserve(watched_.size());
  for (const WatchedNamespace& w : watched_) others.push_back({w.label, w.files});
  sources_.publish(std::string(kOwnNamespaceLabel), std::move(others));
}

}  // namespace tcpvitals
