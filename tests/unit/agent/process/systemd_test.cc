#include "agent/process/systemd.h"

#include <arpa/inet.h>
#include <doctest/doctest.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <string>

#include "tests/support/service_manager.h"

using namespace tcpvitals;
using namespace tcpvitals::testing;
using namespace std::chrono_literals;

namespace {

// Far above what the tests have open.
constexpr int kFirst = 700;

Fd tcp_socket(int family, bool listening) {
  Fd fd(::socket(family, SOCK_STREAM, 0));
  REQUIRE(fd.valid());
  if (listening) REQUIRE(::listen(fd.get(), 1) == 0);
  return fd;
}

// At kFirst + index, as whoever starts us would leave it there.
void pass(int index, Fd fd) { REQUIRE(::dup2(fd.get(), kFirst + index) == kFirst + index); }

bool is_open(int index) { return ::fcntl(kFirst + index, F_GETFD) >= 0; }

std::string this_process() { return std::to_string(::getpid()); }

std::string complaint() {
  const auto sockets = take_passed_sockets(kFirst);
  return sockets ? "ok" : sockets.error().message;
}

}  // namespace

TEST_CASE("sockets are taken with their names, close on exec and do not block") {
  pass(0, tcp_socket(AF_INET, true));
  pass(1, tcp_socket(AF_INET6, true));
  const Environment env{
      {"LISTEN_PID", this_process()}, {"LISTEN_FDS", "2"}, {"LISTEN_FDNAMES", "web:echo"}};
  auto sockets = take_passed_sockets(kFirst);
  REQUIRE_MESSAGE(sockets.ok(), sockets.error().message);
  REQUIRE(sockets->size() == 2);
  for (int i = 0; i < 2; ++i) {
    const PassedSocket& socket = (*sockets)[static_cast<std::size_t>(i)];
    CHECK(socket.name == (i == 0 ? "web" : "echo"));
    CHECK(socket.fd.get() == kFirst + i);
    CHECK(::fcntl(socket.fd.get(), F_GETFD) == FD_CLOEXEC);
    CHECK((::fcntl(socket.fd.get(), F_GETFL) & O_NONBLOCK) != 0);
  }
  for (const char* name : {"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"}) {
    CHECK(std::getenv(name) == nullptr);
  }
  CHECK(take_passed_sockets(kFirst)->empty());
}

TEST_CASE("more than a thousand sockets are taken") {
  constexpr int kMany = 1100;
  rlimit before{};
  REQUIRE(::getrlimit(RLIMIT_NOFILE, &before) == 0);
  const rlimit enough{kFirst + kMany + 100, before.rlim_max};
  REQUIRE(::setrlimit(RLIMIT_NOFILE, &enough) == 0);
  const Fd socket = tcp_socket(AF_INET, true);
  for (int i = 0; i < kMany; ++i) REQUIRE(::dup2(socket.get(), kFirst + i) == kFirst + i);
  {
    const Environment env{{"LISTEN_PID", this_process()}, {"LISTEN_FDS", std::to_string(kMany)}};
    const auto sockets = take_passed_sockets(kFirst);
    REQUIRE_MESSAGE(sockets.ok(), sockets.error().message);
    CHECK(sockets->size() == kMany);
  }
  ::setrlimit(RLIMIT_NOFILE, &before);
}

TEST_CASE("sockets may come without names") {
  pass(0, tcp_socket(AF_INET, true));
  const Environment env{{"LISTEN_PID", this_process()}, {"LISTEN_FDS", "1"}};
  const auto sockets = take_passed_sockets(kFirst);
  REQUIRE(sockets.ok());
  CHECK(sockets->at(0).name.empty());
}

TEST_CASE("what is meant for another process is left alone") {
  CHECK(take_passed_sockets(kFirst)->empty());
  pass(0, tcp_socket(AF_INET, true));
  for (const std::string& pid :
       {std::to_string(::getppid()), std::string("x"), std::string(), "0" + this_process()}) {
    CAPTURE(pid);
    const Environment env{{"LISTEN_PID", pid}, {"LISTEN_FDS", "1"}};
    CHECK(take_passed_sockets(kFirst)->empty());
    CHECK(is_open(0));
    CHECK(std::getenv("LISTEN_FDS") == nullptr);
  }
  ::close(kFirst);
}

TEST_CASE("what was passed must be listening TCP sockets, as many as it says") {
  const auto complain = [](const std::string& count, const std::string& names) {
    const Environment env{
        {"LISTEN_PID", this_process()}, {"LISTEN_FDS", count}, {"LISTEN_FDNAMES", names}};
    return complaint();
  };
  rlimit descriptors{};
  REQUIRE(::getrlimit(RLIMIT_NOFILE, &descriptors) == 0);
  const auto most = std::min<rlim_t>(descriptors.rlim_cur, 1 << 30) - kFirst;
  for (const std::string& count : {std::string(), std::string("-1"), std::string("1x"),
                                   std::to_string(most + 1), std::string("99999999999999999999")}) {
    CHECK(complain(count, "") ==
          fmt::format("LISTEN_FDS: \"{}\": expected a number from 0 to {}", count, most));
  }
  CHECK(complain("0", "") == "ok");
  CHECK(complain("0", "a") == "LISTEN_FDNAMES: \"a\": expected 0 names");

  pass(0, tcp_socket(AF_INET, true));
  CHECK(complain("1", "a:b") == "LISTEN_FDNAMES: \"a:b\": expected 1 names");
  CHECK_FALSE(is_open(0));

  const std::string not_one = "LISTEN_FDS: descriptor 701 \"b\": expected a listening TCP socket";
  pass(0, tcp_socket(AF_INET, true));
  CHECK(complain("2", "a:b") == not_one);  // there is none
  CHECK_FALSE(is_open(0));
  pass(0, tcp_socket(AF_INET, true));
  pass(1, tcp_socket(AF_INET, false));
  CHECK(complain("2", "a:b") == not_one);
  pass(0, tcp_socket(AF_INET, true));
  pass(1, Fd(::socket(AF_INET, SOCK_DGRAM, 0)));
  CHECK(complain("2", "a:b") == not_one);
  pass(0, tcp_socket(AF_INET, true));
  pass(1, tcp_socket(AF_UNIX, false));
  CHECK(complain("2", "a:b") == not_one);
  pass(0, tcp_socket(AF_INET, true));
  pass(1, Fd(::open("/dev/null", O_RDONLY)));
  CHECK(complain("2", "a:b") == not_one);
}

TEST_CASE("the service manager hears of every step, by a path or an abstract name") {
  for (const std::string& address :
       {"/tmp/tcpvitals-notify-" + this_process(), "@tcpvitals-notify-" + this_process()}) {
    CAPTURE(address);
    const Manager listening(address);
    const Environment env{{"NOTIFY_SOCKET", address}};
    const ServiceManager manager = ServiceManager::from_environment();
    CHECK(manager.listens());
    CHECK(listening.heard() == "nothing");
    CHECK(manager.ready().ok());
    CHECK(listening.heard() == "READY=1");
    CHECK(manager.reloading().ok());
    CHECK(listening.heard().rfind("RELOADING=1\nMONOTONIC_USEC=", 0) == 0);
    CHECK(manager.alive().ok());
    CHECK(listening.heard() == "WATCHDOG=1");
    CHECK(manager.main_pid(77).ok());
    CHECK(listening.heard() == "MAINPID=77");
    CHECK(manager.stopping().ok());
    CHECK(listening.heard() == "STOPPING=1");
  }
}

TEST_CASE("without a service manager nothing is told, and nothing fails") {
  const ServiceManager manager = ServiceManager::from_environment();
  CHECK_FALSE(manager.listens());
  CHECK(manager.ready().ok());
  CHECK_FALSE(manager.watchdog_interval().has_value());
}

TEST_CASE("an address that nobody listens on is an error") {
  const auto told = [](const std::string& address) {
    const Environment env{{"NOTIFY_SOCKET", address}};
    const auto sent = ServiceManager::from_environment().ready();
    return sent ? "ok" : sent.error().message;
  };
  CHECK(told("vsock:2:1") == "NOTIFY_SOCKET: \"vsock:2:1\": expected a path or @name");
  const std::string long_path = "/" + std::string(107, 'x');
  CHECK(told(long_path) == "NOTIFY_SOCKET: \"" + long_path + "\": expected a path or @name");
  CHECK(told("/nowhere/at/all") == "NOTIFY_SOCKET: \"/nowhere/at/all\": No such file or directory");
  CHECK(told("@tcpvitals-nobody") == "NOTIFY_SOCKET: \"@tcpvitals-nobody\": Connection refused");
}

TEST_CASE("the watchdog is fed twice in its time, if it is for this process") {
  const auto interval = [](const std::string& usec, const std::string& pid) {
    const Environment env{{"WATCHDOG_USEC", usec}, {"WATCHDOG_PID", pid}};
    return ServiceManager::from_environment().watchdog_interval();
  };
  CHECK(interval("30000000", this_process()) == 15s);
  CHECK(interval("30000000", "") == 15s);
  CHECK_FALSE(interval("30000000", std::to_string(::getppid())).has_value());
  for (const char* usec : {"", "0", "1", "-5", "soon", "30s"}) {
    CAPTURE(usec);
    CHECK_FALSE(interval(usec, "").has_value());
  }
}
