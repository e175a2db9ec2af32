#include "collectors/kernel_source.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "base/fd.h"

namespace tcpvitals {
namespace {

constexpr std::size_t kChunk = 16 * 1024;
constexpr std::size_t kMaxFile = 4 * 1024 * 1024;  // the largest we read is a few KiB

}  // namespace

Result<std::string> ProcSource::read(std::string_view path) const {
  std::string full = root_;
  full.append("/").append(path);
  const Fd fd(::open(full.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd.valid()) {
    const int error = errno;
    Error e = errno_error(full, error);
    if (error == ENOENT) e.kind = Error::Kind::kAbsent;
    return e;
  }
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

}  // namespace tcpvitals
