#include "agent/process/restart.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/auxv.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <string>

#include "agent/process/systemd.h"
#include "tests/support/service_manager.h"
#include "tests/support/serving.h"
#include "tests/support/successor.h"

using namespace tcpvitals;
using namespace tcpvitals::testing;

namespace {

constexpr char kRole[] = "TCPVITALS_TEST_SUCCESSOR";
constexpr int kFar = 700;  // a descriptor above what the tests have open

std::string arguments_of(const std::string& process) {
  std::ifstream file("/proc/" + process + "/cmdline", std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

struct Pipe {
  Pipe() {
    std::array<int, 2> ends{};
    REQUIRE(::pipe2(ends.data(), O_CLOEXEC) == 0);
    read = Fd(ends[0]);
    write = Fd(ends[1]);
  }
  Fd read;
  Fd write;
};

// Says on each socket what it was passed as, and to whom.
int serve_once() {
  Predecessor predecessor = Predecessor::from_environment();
  const auto passed = take_passed_sockets();
  if (!passed || !predecessor.is_there()) return 20;
  if (arguments_of("self") != arguments_of(std::to_string(::getppid()))) return 21;
  if (std::getenv("WATCHDOG_PID") != nullptr) return 22;
  predecessor.tell_ready();
  for (const PassedSocket& socket : *passed) {
    pollfd waiting{socket.fd.get(), POLLIN, 0};
    ::poll(&waiting, 1, 10'000);
    const Fd client(::accept(socket.fd.get(), nullptr, nullptr));
    const std::string text = socket.name + " " + std::to_string(::getpid());
    if (::write(client.get(), text.data(), text.size()) < 0) return 23;
  }
  return 0;
}

// As a program that was started by a link: the link leads elsewhere meanwhile.
int restart_by_moved_link() {
  const std::string link = reinterpret_cast<const char*>(::getauxval(AT_EXECFN));
  const std::filesystem::path new_release = link + ".new";
  std::ofstream(new_release) << "#!/bin/sh\nexit 9\n";
  std::filesystem::permissions(new_release, std::filesystem::perms::owner_all);
  std::filesystem::remove(link);
  std::filesystem::create_symlink(new_release, link);
  const auto pid = start_successor({}, Clock::now() + 30s, [] { return true; });
  return !pid && pid.error().message == link + ": ended with status 9" ? 0 : 30;
}

Fd listening_socket() {
  Fd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  SocketAddress any(Endpoint{*parse_ip_address("127.0.0.1"), 0});
  REQUIRE(::bind(fd.get(), any.get(), any.length) == 0);
  REQUIRE(::listen(fd.get(), 1) == 0);
  return fd;
}

bool wanted() { return true; }

std::string why_not_started(const char* role, Clock::duration patience = 10s,
                            const std::function<bool()>& still_wanted = wanted) {
  const Environment env{{kRole, role}};
  const auto pid = start_successor({}, Clock::now() + patience, still_wanted);
  if (pid) return "started";
  const std::string self =
      std::string(reinterpret_cast<const char*>(::getauxval(AT_EXECFN))) + ": ";
  CHECK(pid.error().message.rfind(self, 0) == 0);
  return pid.error().message.substr(self.size());
}

}  // namespace

const char* tcpvitals::testing::successor_role() { return std::getenv(kRole); }

int tcpvitals::testing::be_successor(std::string_view role) {
  if (role == "serves") return serve_once();
  if (role == "waits") ::sleep(60);
  if (role == "dies") ::raise(SIGKILL);
  if (role == "restarts") return restart_by_moved_link();
  return 7;
}

TEST_CASE("a successor has the sockets in their order, and nothing that was said of this process") {
  const Fd first = listening_socket();
  const Fd second = listening_socket();
  const Environment env{{kRole, "serves"},     {"LISTEN_PID", "1"},
                        {"LISTEN_FDS", "77"},  {"LISTEN_FDNAMES", "stale"},
                        {"WATCHDOG_PID", "1"}, {"TCPVITALS_READY_FD", "77"}};
  const auto pid =
      start_successor({{"web", second.get()}, {"echo", first.get()}}, Clock::now() + 30s, wanted);
  REQUIRE_MESSAGE(pid.ok(), pid.error().message);
  const auto said = [](const Fd& socket) {
    return Client::to(local_endpoint(socket)).receive(100);
  };
  CHECK(said(second) == "web " + std::to_string(*pid));
  CHECK(said(first) == "echo " + std::to_string(*pid));
  int status = 0;
  CHECK(::waitpid(*pid, &status, 0) == *pid);
  CHECK(status == 0);
}

TEST_CASE("a successor that does not get ready is waited for, and named with its end") {
  CHECK(why_not_started("leaves") == "ended with status 7");
  CHECK(why_not_started("dies") == "ended by signal 9");
  const TimePoint start = Clock::now();
  CHECK(why_not_started("waits", 100ms) == "not ready in time");
  CHECK(Clock::now() - start < 30s);
  CHECK(why_not_started("waits", 50s, [] { return false; }) == "a signal to end came first");
  CHECK(Clock::now() - start < 30s);
  CHECK(::waitpid(-1, nullptr, WNOHANG) == -1);  // none is left over
  CHECK(errno == ECHILD);
}

TEST_CASE("a successor is what the path of this program leads to now, not what it led to") {
  std::string directory = std::filesystem::temp_directory_path() / "restart-XXXXXX";
  REQUIRE(::mkdtemp(directory.data()) != nullptr);
  std::string link = directory + "/current";
  std::filesystem::create_symlink(std::filesystem::read_symlink("/proc/self/exe"), link);
  const Environment env{{kRole, "restarts"}};
  char* const argv[] = {link.data(), nullptr};
  pid_t pid = -1;
  REQUIRE(::posix_spawn(&pid, link.c_str(), nullptr, nullptr, argv, environ) == 0);
  int status = -1;
  CHECK(::waitpid(pid, &status, 0) == pid);
  CHECK(status == 0);
  std::filesystem::remove_all(directory);
}

TEST_CASE("a predecessor hears once that its successor is ready, and then nothing more") {
  const Pipe pipe;
  REQUIRE(::dup2(pipe.write.get(), kFar) == kFar);
  Predecessor predecessor = [] {
    const Environment env{{"TCPVITALS_READY_FD", std::to_string(kFar)}};
    Predecessor made = Predecessor::from_environment();
    CHECK(std::getenv("TCPVITALS_READY_FD") == nullptr);
    return made;
  }();
  REQUIRE(predecessor.is_there());
  CHECK(::fcntl(kFar, F_GETFD) == FD_CLOEXEC);
  predecessor.tell_ready();
  CHECK_FALSE(predecessor.is_there());
  CHECK(::fcntl(kFar, F_GETFD) == -1);
  predecessor.tell_ready();
  std::array<char, 8> heard{};
  CHECK(::read(pipe.read.get(), heard.data(), heard.size()) == 1);
}

TEST_CASE("a predecessor that is gone is no harm") {
  Pipe pipe;
  REQUIRE(::dup2(pipe.write.get(), kFar) == kFar);
  pipe.read.reset();
  const Environment env{{"TCPVITALS_READY_FD", std::to_string(kFar)}};
  Predecessor predecessor = Predecessor::from_environment();
  const auto before = ::signal(SIGPIPE, SIG_IGN);
  predecessor.tell_ready();
  ::signal(SIGPIPE, before);
  CHECK_FALSE(predecessor.is_there());
}

TEST_CASE("without a predecessor, or with a descriptor that is none, there is none") {
  CHECK_FALSE(Predecessor::from_environment().is_there());
  for (const char* fd : {"", "x", "-1", "0", "2", "700", "700x", " 700", "99999999999"}) {
    CAPTURE(fd);  // 700 is not open
    const Environment env{{"TCPVITALS_READY_FD", fd}};
    CHECK_FALSE(Predecessor::from_environment().is_there());
    CHECK(std::getenv("TCPVITALS_READY_FD") == nullptr);
  }
}
