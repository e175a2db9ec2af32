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

Result<void> KernelSource::read_pieces(std::string_view path, const UsePiece& use) const {
  const auto text = read(path);
  if (!text) return text.error();
  use(*text);
  return {};
}

Result<void> ProcSource::read_pieces(std::string_view path, const UsePiece& use) const {
  std::string full = root_;
  full.append("/").append(path);
  const Fd fd(::open(full.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd.valid()) return open_error(full, errno);
  std::vector<char> piece(kChunk);
  for (;;) {
    const ssize_t n = ::read(fd.get(), piece.data(), piece.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return errno_error(full, errno);
    if (n == 0 || !use({piece.data(), static_cast<std::size_t>(n)})) return {};
  }
}

Result<std::string> ProcSource::read(std::string_view path) const {
  std::string text;
  const auto done = read_pieces(path, [&](std::string_view piece) {
    text.append(piece);
    return text.size() <= kMaxFile;
  });
  if (!done) return done.error();
  if (text.size() > kMaxFile) return Error{root_ + "/" + std::string(path) + ": larger than 4 MiB"};
  return text;
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
