// echo_server KIND PORT [FLAG...]: an echo server for the bench to measure: ours, and those it is
// held against. Prints "ready", ends when stdin does. One thread each.
//   poll   poll() over all descriptors, as it was taught for long
//   bare   epoll and nothing else: no limits, no deadlines, no account of anything
//   own    the server of this project; flags: audit=FILE, limits, sweep, tls=CERTIFICATE,KEY,
//          relay=PORT, discard
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "base/log.h"
#include "server/audit/audit.h"
#include "server/server.h"

namespace {

using namespace tcpvitals;

[[noreturn]] void die(const char* what) {
  std::fprintf(stderr, "echo_server: %s: %s\n", what, std::strerror(errno));
  std::exit(1);
}

// Not bound exclusively: two processes may share the port.
Fd listen_on(std::uint16_t port) {
  Fd fd(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  const int on = 1;
  ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
  ::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(port);
  if (::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) < 0) die("bind");
  if (::listen(fd.get(), 4096) < 0) die("listen");
  return fd;
}

int accept_from(const Fd& listener) {
  return ::accept4(listener.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
}

// False: the connection is over.
bool echo(int fd) {
  static char buffer[64 << 10];
  const ssize_t n = ::recv(fd, buffer, sizeof buffer, 0);
  if (n < 0 && errno == EAGAIN) return true;
  return n > 0 && ::send(fd, buffer, static_cast<std::size_t>(n), MSG_NOSIGNAL) == n;
}

void serve_by_poll(std::uint16_t port) {
  const Fd listener = listen_on(port);
  std::vector<pollfd> fds{{listener.get(), POLLIN, 0}};
  for (;;) {
    if (::poll(fds.data(), fds.size(), -1) < 0) die("poll");
    for (std::size_t i = fds.size(); i-- > 1;) {
      if (fds[i].revents == 0 || echo(fds[i].fd)) continue;
      ::close(fds[i].fd);
      fds[i] = fds.back();
      fds.pop_back();
    }
    if (fds[0].revents == 0) continue;
    for (int fd; (fd = accept_from(listener)) >= 0;) fds.push_back({fd, POLLIN, 0});
  }
}

void serve_bare(std::uint16_t port) {
  const Fd listener = listen_on(port);
  const Fd epoll(::epoll_create1(EPOLL_CLOEXEC));
  const auto watch = [&](int fd) {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.fd = fd;
    ::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, fd, &event);
  };
  watch(listener.get());
  std::array<epoll_event, 256> events;
  for (;;) {
    const int n = ::epoll_wait(epoll.get(), events.data(), events.size(), -1);
    for (int i = 0; i < n; ++i) {
      const int fd = events[static_cast<std::size_t>(i)].data.fd;
      if (fd == listener.get()) {
        for (int taken; (taken = accept_from(listener)) >= 0;) watch(taken);
      } else if (!echo(fd)) {
        ::close(fd);
      }
    }
  }
}

void serve_own(std::uint16_t port, const std::vector<std::string_view>& flags) {
  configure_log(LogLevel::kError, LogFormat::kLogfmt);
  std::unique_ptr<AuditLog> audit;
  ListenerOptions listener{.name = "echo"};
  ServerOptions options{.workers = 1, .sweep_interval = std::chrono::hours(1)};
  for (const std::string_view flag : flags) {
    const auto equals = flag.find('=');
    const std::string value(equals == flag.npos ? "" : flag.substr(equals + 1));
    if (flag.starts_with("audit=")) {
      auto log = AuditLog::open({.path = value});
      if (!log) die(log.error().message.c_str());
      audit = std::move(*log);
    } else if (flag == "limits") {
      listener.per_peer = {.max_connections = 100'000, .rate = 1e6, .burst = 1'000'000};
      listener.deny = {*parse_ip_prefix("192.0.2.0/24"), *parse_ip_prefix("2001:db8::/32")};
      listener.accept_rate = {.soft = 1'000'000, .hard = 2'000'000};
      listener.deadlines.idle = std::chrono::seconds(300);
      listener.deadlines.lifetime = std::chrono::hours(1);
    } else if (flag == "sweep") {
      options.sweep_interval = std::chrono::seconds(1);
    } else if (flag.starts_with("tls=")) {
      listener.tls.certificate_file = value.substr(0, value.find(','));
      listener.tls.key_file = value.substr(value.find(',') + 1);
    } else if (flag == "discard") {
      listener.handler = HandlerKind::kDiscard;
    } else if (flag.starts_with("relay=")) {
      listener.handler = HandlerKind::kRelay;
      listener.backend = *parse_endpoint("127.0.0.1:" + value);
    } else {
      die(flag.data());
    }
  }
  options.audit = audit.get();
  options.listeners = {listener};
  std::vector<PassedSocket> passed;
  passed.push_back({"echo", listen_on(port)});
  auto server = Server::start(options, std::move(passed));
  if (!server) die(server.error().message.c_str());
  for (;;) ::pause();
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) die("usage: echo_server KIND PORT [FLAG...]");
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
  ::signal(SIGPIPE, SIG_IGN);
  std::thread([] {
    char byte;
    while (::read(STDIN_FILENO, &byte, 1) > 0) {
    }
    std::_Exit(0);
  }).detach();
  const std::string_view kind = argv[1];
  const auto port = static_cast<std::uint16_t>(std::atoi(argv[2]));
  if (kind == "poll") serve_by_poll(port);
  if (kind == "bare") serve_bare(port);
  if (kind == "own") serve_own(port, {argv + 3, argv + argc});
  die(argv[1]);
}
