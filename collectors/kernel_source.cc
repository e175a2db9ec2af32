#include "collectors/kernel_source.h"

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <memory>

#include "base/fd.h"
#include "base/log.h"

namespace tcpvitals {
namespace {

constexpr std::size_t kChunk = std::size_t{16} * 1024;
constexpr std::size_t kMaxFile = std::size_t{4} * 1024 * 1024;  // the largest we read is a few KiB

Error open_error(const std::string& path, int error) {
  Error e = errno_error(path, error);
  if (error == ENOENT) e.kind = Error::Kind::kAbsent;
  return e;
}

// For those who ask for no longer than `source` is there.
std::shared_ptr<const KernelSource> unowned(const KernelSource& source) {
  return {std::shared_ptr<const KernelSource>(), &source};
}

}  // namespace

std::vector<NamespaceSource> KernelSource::namespaces() const { return {{"", unowned(*this)}}; }

void KernelSource::namespace_failed(const std::string& /*label*/, const Error& /*error*/) const {}

Result<std::string> ProcSource::read(std::string_view path) const {
  std::string full = root_;
  full.append("/").append(path);
  const Fd fd(::open(full.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd.valid()) return open_error(full, errno);
  std::string text;
  for (;;) {
    const std::size_t old_size = text.size();
    if (old_size > kMaxFile) return Error{full + ": larger than 4 MiB"};
    text.resize(old_size + kChunk);
    const ssize_t n = ::read(fd.get(), text.data() + old_size, kChunk);
    if (n < 0 && errno == EINTR) {
      text.resize(old_size);
      continue;
    }
    if (n < 0) return errno_error(full, errno);
    text.resize(old_size + static_cast<std::size_t>(n));
    if (n == 0) return text;
  }
}

Result<std::size_t> ProcSource::count_entries(std::string_view path) const {
  std::string full = root_;
  full.append("/").append(path);
  const std::unique_ptr<DIR, int (*)(DIR*)> directory(::opendir(full.c_str()), ::closedir);
  if (!directory) return open_error(full, errno);
  std::size_t count = 0;
  for (errno = 0; const dirent* entry = ::readdir(directory.get());) {
    if (std::string_view(entry->d_name) != "." && std::string_view(entry->d_name) != "..") ++count;
  }
  if (errno != 0) return errno_error(full, errno);
  return count;
}

std::vector<NamespaceSource> NamespaceSources::namespaces() const {
  std::vector<NamespaceSource> all;
  const std::lock_guard lock(mutex_);
  all.reserve(others_.size() + 1);
  all.push_back({own_, unowned(host_)});
  all.insert(all.end(), others_.begin(), others_.end());
  return all;
}

void NamespaceSources::namespace_failed(const std::string& label, const Error& error) const {
  // The first is enough to look at; each is counted.
  if (failures_++ == 0) {
    log_warn("cannot read a namespace", {{"netns", label}, {"error", error.message}});
  }
}

void NamespaceSources::publish(std::string own, std::vector<NamespaceSource> others) {
  const std::lock_guard lock(mutex_);
  own_ = std::move(own);
  others_.swap(others);  // what was there is let go of outside the lock
}

}  // namespace tcpvitals
