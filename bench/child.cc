#include "bench/child.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <spawn.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <utility>

namespace tcpvitals::bench {
namespace {

struct Pipe {
  Fd read;
  Fd write;
};

Pipe make_pipe() {
  int fds[2];
  if (::pipe2(fds, O_CLOEXEC) < 0) die("pipe");
  return {Fd(fds[0]), Fd(fds[1])};
}

double to_seconds(const timeval& t) {
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) * 1e-6;
}

// Not by fork(): our pages would be copied at the next write, and what is measured next would pay.
// The program ends with us.
int spawn(pid_t& pid, const std::vector<std::string>& argv, int in, int out) {
  std::vector<const char*> arguments{"setpriv", "--pdeathsig", "KILL", "--"};
  for (const std::string& a : argv) arguments.push_back(a.c_str());
  arguments.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, in, STDIN_FILENO);
  ::posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
  const int error = ::posix_spawnp(&pid, arguments[0], &actions, nullptr,
                                   const_cast<char* const*>(arguments.data()), environ);
  ::posix_spawn_file_actions_destroy(&actions);
  return error;
}

}  // namespace

void die(const std::string& what) {
  fmt::print(stderr, "tcpvitals_bench: {}\n", what);
  std::exit(1);
}

Child::Child(const std::vector<std::string>& argv, Output output) : name_(argv[0]) {
  Pipe in = make_pipe();
  Pipe out = make_pipe();
  const Fd null(::open("/dev/null", O_WRONLY | O_CLOEXEC));
  const int output_fd = output == Output::kRead ? out.write.get() : null.get();
  if (const int error = spawn(pid_, argv, in.read.get(), output_fd); error != 0) {
    die("spawn: " + std::string(std::strerror(error)));
  }
  stdin_ = std::move(in.write);
  stdout_ = std::move(out.read);
}

Child::Child(Child&& other) noexcept
    : name_(std::move(other.name_)),
      pid_(std::exchange(other.pid_, -1)),
      stdin_(std::move(other.stdin_)),
      stdout_(std::move(other.stdout_)) {}

Child::~Child() {
  if (pid_ < 0) return;
  ::kill(pid_, SIGKILL);
  ::waitpid(pid_, nullptr, 0);
}

std::string Child::read_line() {
  std::string line;
  for (char c = 0; ::read(stdout_.get(), &c, 1) == 1;) {
    if (c == '\n') return line;
    line += c;
  }
  die(name_ + " ended early");
}

double Child::wait() {
  int status = 0;
  rusage usage{};
  if (::wait4(pid_, &status, 0, &usage) != pid_) die("wait for " + name_);
  pid_ = -1;
  if (status != 0) die(fmt::format("{} failed with status {}", name_, status));
  return to_seconds(usage.ru_utime) + to_seconds(usage.ru_stime);
}

double Child::cpu_seconds() const {
  clockid_t clock;
  timespec t{};
  if (::clock_getcpuclockid(pid_, &clock) != 0 || ::clock_gettime(clock, &t) != 0) {
    die("read the CPU clock of " + name_);
  }
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}

std::size_t Child::memory(const std::string& field) const {
  std::ifstream status(fmt::format("/proc/{}/status", pid_));
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with(field + ":")) return std::stoul(line.substr(field.size() + 1)) * 1024;
  }
  die(fmt::format("no {} in the status of {}", field, name_));
}

std::size_t Child::descriptors() const {
  const std::filesystem::directory_iterator all(fmt::format("/proc/{}/fd", pid_));
  return static_cast<std::size_t>(std::distance(begin(all), end(all)));
}

}  // namespace tcpvitals::bench
