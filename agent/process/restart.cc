#include "agent/process/restart.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/auxv.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string_view>

#include "agent/process/systemd.h"

namespace tcpvitals {
namespace {

constexpr char kReadyFd[] = "TCPVITALS_READY_FD";
constexpr char kListenPid[] = "LISTEN_PID=";
// Said by us, or of this process alone.
constexpr std::string_view kOurs[] = {
    "LISTEN_PID=", "LISTEN_FDS=", "LISTEN_FDNAMES=", "WATCHDOG_PID=", "TCPVITALS_READY_FD="};
constexpr int kNotExecuted = 127;
constexpr std::chrono::milliseconds kLook{500};
// The kernel takes no longer variable (MAX_ARG_STRLEN). Without names the successor goes by
// addresses.
constexpr std::size_t kLongestVariable = 128 << 10;

// What execve() was given; /proc/self/exe is where the links on the way led at that time. Who was
// started by a descriptor has no path.
std::string own_path() {
  const auto* const given = reinterpret_cast<const char*>(::getauxval(AT_EXECFN));
  const bool is_path = given != nullptr && !std::string_view(given).starts_with("/dev/fd/");
  return is_path ? given : "/proc/self/exe";
}

std::vector<std::string> own_arguments() {
  std::ifstream file("/proc/self/cmdline", std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  std::vector<std::string> arguments;
  for (std::size_t begin = 0; begin < text.size(); begin += arguments.back().size() + 1) {
    arguments.emplace_back(text.c_str() + begin);
  }
  return arguments;
}

std::vector<std::string> own_environment() {
  std::vector<std::string> variables;
  for (char** variable = environ; *variable != nullptr; ++variable) {
    const std::string_view text(*variable);
    const auto begins = [&](std::string_view name) { return text.starts_with(name); };
    if (std::none_of(std::begin(kOurs), std::end(kOurs), begins)) variables.emplace_back(text);
  }
  return variables;
}

std::vector<char*> pointers(std::vector<std::string>& texts) {
  std::vector<char*> list;
  for (std::string& text : texts) list.push_back(text.data());
  list.push_back(nullptr);
  return list;
}

// All that the child needs, made before fork(): between that and exec it may not allocate, for
// another thread may have held the lock of the heap.
struct Successor {
  std::string path;
  std::vector<std::string> arguments;
  std::vector<std::string> environment;
  std::vector<int> descriptors;  // to be kFirstPassedFd and up, in this order
  char* pid_digits = nullptr;    // in the environment, with room for them

  std::vector<char*> argv = pointers(arguments);
  std::vector<char*> envp = pointers(environment);

  [[noreturn]] void become() {
    // First out of the way: one of them may stand where another is to go.
    const int above = kFirstPassedFd + static_cast<int>(descriptors.size());
    for (int& fd : descriptors) fd = ::fcntl(fd, F_DUPFD_CLOEXEC, above);
    int place = kFirstPassedFd;
    for (const int fd : descriptors) {
      if (::dup2(fd, place++) < 0) ::_exit(kNotExecuted);
    }
    sigset_t none;
    ::sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);  // a signal to end counts from its first moment
    std::to_chars(pid_digits, pid_digits + std::strlen("4294967295"), ::getpid());
    ::execve(path.c_str(), argv.data(), envp.data());
    ::_exit(kNotExecuted);
  }
};

enum class Start { kReady, kEnded, kLate, kUnwanted };

Start wait_ready(const Fd& pipe, TimePoint deadline, const std::function<bool()>& still_wanted) {
  for (;;) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now());
    pollfd poll{pipe.get(), POLLIN, 0};
    const auto wait = std::clamp<std::int64_t>(left.count(), 0, kLook.count());
    const int n = ::poll(&poll, 1, static_cast<int>(wait));
    char byte;
    if (n > 0) return ::read(pipe.get(), &byte, 1) == 1 ? Start::kReady : Start::kEnded;
    if (Clock::now() >= deadline) return Start::kLate;
    if (!still_wanted()) return Start::kUnwanted;
  }
}

std::string end_of(pid_t pid) {
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  if (WIFSIGNALED(status)) return fmt::format("ended by signal {}", WTERMSIG(status));
  if (WEXITSTATUS(status) == kNotExecuted) return "could not be executed";
  return fmt::format("ended with status {}", WEXITSTATUS(status));
}

}  // namespace

Result<pid_t> start_successor(const std::vector<std::pair<std::string, int>>& sockets,
                              TimePoint deadline, const std::function<bool()>& still_wanted) {
  if (::getpid() == 1) {
    return Error{"this is process 1: its container would end with it; restart the container"};
  }
  const std::string path = own_path();
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) return errno_error("pipe", errno);
  const Fd ours(ends[0]);
  Fd theirs(ends[1]);

  std::vector<std::string> environment = own_environment();
  std::string names;
  std::vector<int> descriptors;
  for (const auto& [name, fd] : sockets) {
    names += (descriptors.empty() ? "" : ":") + name;
    descriptors.push_back(fd);
  }
  environment.push_back(fmt::format("LISTEN_FDS={}", descriptors.size()));
  names.insert(0, "LISTEN_FDNAMES=");
  if (names.size() < kLongestVariable) environment.push_back(std::move(names));
  environment.push_back(fmt::format("{}={}", kReadyFd, kFirstPassedFd + descriptors.size()));
  descriptors.push_back(theirs.get());
  environment.push_back(kListenPid + std::string(16, '\0'));
  Successor successor{.path = path,
                      .arguments = own_arguments(),
                      .environment = std::move(environment),
                      .descriptors = std::move(descriptors)};
  successor.pid_digits = successor.environment.back().data() + std::strlen(kListenPid);

  const pid_t pid = ::fork();
  if (pid < 0) return errno_error("fork", errno);
  if (pid == 0) successor.become();
  theirs.reset();
  const Start start = wait_ready(ours, deadline, still_wanted);
  if (start == Start::kReady) return pid;
  if (start != Start::kEnded) ::kill(pid, SIGKILL);
  const std::string end = end_of(pid);
  if (start == Start::kLate) return Error{path + ": not ready in time"};
  if (start == Start::kUnwanted) return Error{path + ": a signal to end came first"};
  return Error{path + ": " + end};
}

Predecessor Predecessor::from_environment() {
  Predecessor predecessor;
  const char* text = std::getenv(kReadyFd);
  if (text == nullptr) return predecessor;
  int fd = -1;
  const char* const end = text + std::strlen(text);
  const auto parsed = std::from_chars(text, end, fd);
  if (parsed.ec == std::errc() && parsed.ptr == end && fd >= kFirstPassedFd &&
      ::fcntl(fd, F_SETFD, FD_CLOEXEC) == 0) {
    predecessor.pipe_ = Fd(fd);
  }
  ::unsetenv(kReadyFd);
  return predecessor;
}

// If it is gone there is nobody to tell; SIGPIPE is ignored.
void Predecessor::tell_ready() {
  if (!pipe_.valid()) return;
  [[maybe_unused]] const ssize_t n = ::write(pipe_.get(), "1", 1);
  pipe_.reset();
}

}  // namespace tcpvitals
