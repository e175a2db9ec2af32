#include "server/audit_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <optional>
#include <utility>

namespace tcpvitals {
namespace {

// Empty if it is no regular file.
std::optional<off_t> size_of(int fd) {
  struct stat status {};
  if (::fstat(fd, &status) != 0 || !S_ISREG(status.st_mode)) return std::nullopt;
  return status.st_size;
}

// Who appends shares it; whoever has it alone knows that no line is under way.
class Lock {
 public:
  Lock(int fd, int operation) : fd_(fd), held_(::flock(fd, operation) == 0) {}
  ~Lock() {
    if (held_) ::flock(fd_, LOCK_UN);
  }
  Lock(const Lock&) = delete;
  Lock& operator=(const Lock&) = delete;

  bool held() const { return held_; }

 private:
  const int fd_;
  const bool held_;
};

bool ends_within_a_line(const std::string& path, int fd) {
  const auto size = size_of(fd);
  if (!size || *size == 0) return false;
  const Fd readable(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  char last = '\n';
  return ::pread(readable.get(), &last, 1, *size - 1) == 1 && last != '\n';
}

}  // namespace

Result<AuditFile> AuditFile::open(const std::string& path) {
  constexpr int kFlags = O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
  Fd fd(::open(path.c_str(), kFlags, 0640));
  if (!fd.valid()) return errno_error("audit log " + path, errno);
  AuditFile file(std::move(fd));
  const Lock alone(file.fd(), LOCK_EX | LOCK_NB);
  // On failure there is no room: the first line will meet the same.
  if (alone.held() && ends_within_a_line(path, file.fd())) (void)file.write_lines("\n");
  return file;
}

AuditFile::Written AuditFile::append(std::string_view lines) {
  const Lock shared(fd_.get(), LOCK_SH);
  return write_lines(lines);
}

AuditFile::Written AuditFile::write_lines(std::string_view lines) {
  std::size_t at = std::exchange(begun_, 0);
  int error = 0;
  while (at < lines.size() && error == 0) {
    const ssize_t n = ::write(fd_.get(), lines.data() + at, lines.size() - at);
    if (n > 0) {
      at += static_cast<std::size_t>(n);
    } else if (n == 0 || errno != EINTR) {
      error = n == 0 ? EIO : errno;
    }
  }
  const std::size_t whole = lines.substr(0, at).rfind('\n') + 1;  // 0 if there is none
  if (whole < at && !take_back(at - whole)) begun_ = at - whole;
  return {whole, error};
}

bool AuditFile::take_back(std::size_t bytes) {
  const auto size = size_of(fd_.get());
  // Past our end stands what another process has appended: not ours to cut.
  if (!size || ::lseek(fd_.get(), 0, SEEK_CUR) != *size) return false;
  return ::ftruncate(fd_.get(), *size - static_cast<off_t>(bytes)) == 0;
}

}  // namespace tcpvitals
