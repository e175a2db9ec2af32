#include "server/audit/audit_file.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <optional>
#include <thread>
#include <utility>

#include "base/clock.h"

namespace tcpvitals {
namespace {

// Empty if it is no regular file.
std::optional<off_t> size_of(int fd) {
  struct stat status {};
  if (::fstat(fd, &status) != 0 || !S_ISREG(status.st_mode)) return std::nullopt;
  return status.st_size;
}

// Who appends shares it; whoever has it alone knows that no line is under way. Never waits.
class Lock {
 public:
  Lock(int fd, int operation) : fd_(fd), held_(::flock(fd, operation | LOCK_NB) == 0) {}
  ~Lock() {
    if (held_) ::flock(fd_, LOCK_UN);
  }
  Lock(const Lock&) = delete;
  Lock& operator=(const Lock&) = delete;

  bool held() const { return held_; }
  bool try_again() {
    held_ = held_ || ::flock(fd_, LOCK_SH | LOCK_NB) == 0;
    return held_ || errno != EWOULDBLOCK;
  }

 private:
  const int fd_;
  bool held_;
};

bool ends_within_a_line(const std::string& path, int fd) {
  const auto size = size_of(fd);
  if (!size || *size == 0) return false;
  const Fd readable(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  char last = '\n';
  return ::pread(readable.get(), &last, 1, *size - 1) == 1 && last != '\n';
}

// Opening the path of a standard stream anew fails for a socket, and for who is not its owner.
int standard_stream(const std::string& path) {
  if (path == "/dev/stdout") return STDOUT_FILENO;
  return path == "/dev/stderr" ? STDERR_FILENO : -1;
}

bool is_socket(int fd) {
  struct stat status {};
  return ::fstat(fd, &status) == 0 && S_ISSOCK(status.st_mode);
}

}  // namespace

AuditFile::AuditFile(Fd fd, bool standard)
    : fd_(std::move(fd)), standard_(standard), socket_(is_socket(fd_.get())) {}

Result<AuditFile> AuditFile::open(const std::string& path) {
  constexpr int kFlags = O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
  const int standard = standard_stream(path);
  Fd fd(standard >= 0 ? ::fcntl(standard, F_DUPFD_CLOEXEC, 0) : ::open(path.c_str(), kFlags, 0640));
  if (!fd.valid()) return errno_error("audit log " + path, errno);
  AuditFile file(std::move(fd), standard >= 0);
  const Lock alone(file.fd(), LOCK_EX);
  // On failure there is no room: the first line will meet the same.
  if (alone.held() && ends_within_a_line(path, file.fd())) (void)file.write_lines("\n");
  return file;
}

bool AuditFile::is_standard(const std::string& path) { return standard_stream(path) >= 0; }

// Another process that has just opened the file has the lock for a moment, a stranger for ever.
AuditFile::Written AuditFile::append(std::string_view lines) {
  Lock shared(fd_.get(), LOCK_SH);
  const TimePoint deadline = Clock::now() + (stranger_ ? Clock::duration() : kLockPatience);
  while (!shared.held() && !shared.try_again() && Clock::now() < deadline) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  stranger_ = !shared.held();
  return write_lines(lines);
}

// A standard stream blocks, so of a pipe there must be room for what is written, which is a page.
long AuditFile::write_some(std::string_view bytes) const {
  if (socket_) return ::send(fd_.get(), bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  if (!standard_) return ::write(fd_.get(), bytes.data(), bytes.size());
  pollfd room{fd_.get(), POLLOUT, 0};
  if (::poll(&room, 1, 0) == 0) {
    errno = EAGAIN;
    return -1;
  }
  return ::write(fd_.get(), bytes.data(), std::min<std::size_t>(bytes.size(), PIPE_BUF));
}

AuditFile::Written AuditFile::write_lines(std::string_view lines) {
  std::size_t at = std::exchange(begun_, 0);
  int error = 0;
  while (at < lines.size() && error == 0) {
    const ssize_t n = write_some(lines.substr(at));
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
