#include "tests/fault/fault.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>

namespace tcpvitals::fault {
namespace {

constexpr int kNone = -1;

std::atomic<int> armed{kNone};  // a Call
std::atomic<int> error_to_give{0};
std::atomic<std::uint64_t> seen{0};
std::atomic<std::uint64_t> victim{0};
thread_local int exempt = 0;

enum class Fate { kPass, kFail, kShorten };

// With errno set if it is to fail.
Fate fate_of(Call call) {
  if (exempt > 0 || armed != static_cast<int>(call) || ++seen != victim) return Fate::kPass;
  if (error_to_give == kShort) return Fate::kShorten;
  errno = error_to_give;
  return Fate::kFail;
}

bool fails(Call call) { return fate_of(call) == Fate::kFail; }

template <typename... Arguments>
int call(long number, Arguments... arguments) {
  return static_cast<int>(::syscall(number, arguments...));
}

}  // namespace

void arm(Call call, std::uint64_t k, int error) {
  seen = 0;
  victim = k;
  error_to_give = error;
  armed = static_cast<int>(call);
}

std::uint64_t disarm() {
  armed = kNone;
  return seen;
}

Exempt::Exempt() { ++exempt; }
Exempt::~Exempt() { --exempt; }

}  // namespace tcpvitals::fault

using namespace tcpvitals::fault;

extern "C" {

int accept4(int fd, sockaddr* address, socklen_t* length, int flags) {
  return fails(Call::kAccept) ? -1 : call(SYS_accept4, fd, address, length, flags);
}

ssize_t recv(int fd, void* to, std::size_t size, int flags) {
  const Fate fate = fate_of(Call::kRecv);
  if (fate == Fate::kFail) return -1;
  if (fate == Fate::kShorten && (flags & MSG_PEEK) == 0) size = std::min<std::size_t>(size, 1);
  return ::syscall(SYS_recvfrom, fd, to, size, flags, nullptr, nullptr);
}

ssize_t send(int fd, const void* from, std::size_t size, int flags) {
  const Fate fate = fate_of(Call::kSend);
  if (fate == Fate::kFail) return -1;
  if (fate == Fate::kShorten) size = std::min<std::size_t>(size, 1);
  return ::syscall(SYS_sendto, fd, from, size, flags, nullptr, 0);
}

ssize_t write(int fd, const void* from, std::size_t size) {
  const Fate fate = fate_of(Call::kWrite);
  if (fate == Fate::kFail) return -1;
  if (fate == Fate::kShorten) size = std::min<std::size_t>(size, 1);
  return ::syscall(SYS_write, fd, from, size);
}

ssize_t read(int fd, void* to, std::size_t size) {
  return fails(Call::kRead) ? -1 : ::syscall(SYS_read, fd, to, size);
}

int epoll_ctl(int epoll, int operation, int fd, epoll_event* event) noexcept {
  return fails(Call::kEpollCtl) ? -1 : call(SYS_epoll_ctl, epoll, operation, fd, event);
}

int epoll_wait(int epoll, epoll_event* events, int most, int timeout_ms) {
  if (fails(Call::kEpollWait)) return -1;
  return call(SYS_epoll_pwait, epoll, events, most, timeout_ms, nullptr, 0);
}

int epoll_create1(int flags) noexcept {
  return fails(Call::kEpollCreate) ? -1 : call(SYS_epoll_create1, flags);
}

int eventfd(unsigned value, int flags) noexcept {
  return fails(Call::kEventfd) ? -1 : call(SYS_eventfd2, value, flags);
}

int getsockopt(int fd, int level, int option, void* value, socklen_t* length) noexcept {
  const bool info = level == IPPROTO_TCP && option == TCP_INFO;
  const bool error = level == SOL_SOCKET && option == SO_ERROR;
  if ((info && fails(Call::kTcpInfo)) || (error && fails(Call::kSocketError))) return -1;
  return call(SYS_getsockopt, fd, level, option, value, length);
}

int setsockopt(int fd, int level, int option, const void* value, socklen_t length) noexcept {
  if (fails(Call::kSetsockopt)) return -1;
  return call(SYS_setsockopt, fd, level, option, value, length);
}

int getsockname(int fd, sockaddr* address, socklen_t* length) noexcept {
  return fails(Call::kGetsockname) ? -1 : call(SYS_getsockname, fd, address, length);
}

int shutdown(int fd, int how) noexcept {
  return fails(Call::kShutdown) ? -1 : call(SYS_shutdown, fd, how);
}

int socket(int family, int type, int protocol) noexcept {
  return fails(Call::kSocket) ? -1 : call(SYS_socket, family, type, protocol);
}

int bind(int fd, const sockaddr* address, socklen_t length) noexcept {
  return fails(Call::kBind) ? -1 : call(SYS_bind, fd, address, length);
}

int listen(int fd, int backlog) noexcept {
  return fails(Call::kListen) ? -1 : call(SYS_listen, fd, backlog);
}

int connect(int fd, const sockaddr* address, socklen_t length) {
  return fails(Call::kConnect) ? -1 : call(SYS_connect, fd, address, length);
}

}  // extern "C"
