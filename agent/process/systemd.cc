#include "agent/process/systemd.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "base/clock.h"

namespace tcpvitals {
namespace {

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

template <typename T>
bool parse_number(std::string_view text, T& out) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  return error == std::errc() && end == text.data() + text.size();
}

int option(const Fd& fd, int name) {
  int value = -1;
  socklen_t size = sizeof value;
  return ::getsockopt(fd.get(), SOL_SOCKET, name, &value, &size) == 0 ? value : -1;
}

bool listens_for_tcp(const Fd& fd) {
  const int domain = option(fd, SO_DOMAIN);
  return (domain == AF_INET || domain == AF_INET6) && option(fd, SO_TYPE) == SOCK_STREAM &&
         option(fd, SO_ACCEPTCONN) == 1;
}

// As many descriptors as there can be from `first` on.
int most_passed(int first) {
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  constexpr rlim_t kMostEver = 1 << 30;
  return std::max(0, static_cast<int>(std::min(limit.rlim_cur, kMostEver)) - first);
}

bool set_flags(const Fd& fd) {
  const int flags = ::fcntl(fd.get(), F_GETFL);
  return ::fcntl(fd.get(), F_SETFD, FD_CLOEXEC) == 0 && flags >= 0 &&
         ::fcntl(fd.get(), F_SETFL, flags | O_NONBLOCK) == 0;
}

}  // namespace

Result<std::vector<PassedSocket>> take_passed_sockets(int first) {
  const std::string for_whom = environment("LISTEN_PID");
  const std::string how_many = environment("LISTEN_FDS");
  const std::string names = environment("LISTEN_FDNAMES");
  for (const char* name : {"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"}) ::unsetenv(name);

  std::vector<PassedSocket> sockets;
  if (for_whom != std::to_string(::getpid())) return sockets;
  int count = 0;
  const int most = most_passed(first);
  if (!parse_number(how_many, count) || count < 0 || count > most) {
    return Error{fmt::format("LISTEN_FDS: \"{}\": expected a number from 0 to {}", how_many, most)};
  }
  std::string_view rest = names;
  for (int fd = first; fd < first + count; ++fd) {
    const auto colon = rest.find(':');
    sockets.push_back({std::string(rest.substr(0, colon)), Fd(fd)});
    rest.remove_prefix(colon == std::string_view::npos ? rest.size() : colon + 1);
  }
  if (!rest.empty()) {
    return Error{fmt::format("LISTEN_FDNAMES: \"{}\": expected {} names", names, count)};
  }
  for (const PassedSocket& socket : sockets) {
    if (!listens_for_tcp(socket.fd) || !set_flags(socket.fd)) {
      return Error{fmt::format("LISTEN_FDS: descriptor {} \"{}\": expected a listening TCP socket",
                               socket.fd.get(), socket.name)};
    }
  }
  return sockets;
}

ServiceManager ServiceManager::from_environment() {
  ServiceManager manager;
  manager.address_ = environment("NOTIFY_SOCKET");
  const std::string for_whom = environment("WATCHDOG_PID");
  std::int64_t timeout_us = 0;
  if ((for_whom.empty() || for_whom == std::to_string(::getpid())) &&
      parse_number(environment("WATCHDOG_USEC"), timeout_us) && timeout_us > 1) {
    manager.watchdog_interval_ = std::chrono::microseconds(timeout_us / 2);
  }
  return manager;
}

// The time tells its "READY=1" apart from one that was under way.
Result<void> ServiceManager::reloading() const {
  const auto now =
      std::chrono::duration_cast<std::chrono::microseconds>(Clock::now().time_since_epoch());
  return send(fmt::format("RELOADING=1\nMONOTONIC_USEC={}", now.count()));
}

Result<void> ServiceManager::send(std::string_view message) const {
  if (!listens()) return {};
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if ((address_[0] != '/' && address_[0] != '@') || address_.size() >= sizeof address.sun_path) {
    return Error{fmt::format("NOTIFY_SOCKET: \"{}\": expected a path or @name", address_)};
  }
  std::memcpy(address.sun_path, address_.data(), address_.size());
  if (address_[0] == '@') address.sun_path[0] = '\0';
  const Fd fd(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + address_.size());
  if (::sendto(fd.get(), message.data(), message.size(), MSG_NOSIGNAL,
               reinterpret_cast<const sockaddr*>(&address), size) < 0) {
    return errno_error("NOTIFY_SOCKET: \"" + address_ + "\"", errno);
  }
  return {};
}

}  // namespace tcpvitals
