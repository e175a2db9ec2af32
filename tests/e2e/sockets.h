// Blocking TCP for the load programs. What fails ends the process with one line and status 1: a
// load that is not exactly what was asked for must not pass for one that is.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "base/fd.h"

namespace tcpvitals::load {

[[noreturn]] inline void die(const char* what) {
  std::fprintf(stderr, "tcp_load: %s: %s\n", what, std::strerror(errno));
  std::exit(1);
}

template <typename T>
T must(T value, const char* what) {
  if (value < 0) die(what);
  return value;
}

struct Address {
  sockaddr_storage storage{};
  socklen_t size = 0;

  int family() const { return storage.ss_family; }
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
};

// An IPv4 or IPv6 literal. `port` 0 leaves the choice to the kernel.
inline Address address_of(const std::string& text, std::uint16_t port) {
  Address address;
  auto* v4 = reinterpret_cast<sockaddr_in*>(&address.storage);
  auto* v6 = reinterpret_cast<sockaddr_in6*>(&address.storage);
  if (inet_pton(AF_INET, text.c_str(), &v4->sin_addr) == 1) {
    v4->sin_family = AF_INET;
    v4->sin_port = htons(port);
    address.size = sizeof *v4;
  } else if (inet_pton(AF_INET6, text.c_str(), &v6->sin6_addr) == 1) {
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(port);
    address.size = sizeof *v6;
  } else {
    errno = EINVAL;
    die(text.c_str());
  }
  return address;
}

inline Fd new_socket(const Address& address) {
  return Fd(must(::socket(address.family(), SOCK_STREAM | SOCK_CLOEXEC, 0), "socket"));
}

inline Fd listen_on(const Address& address) {
  Fd fd = new_socket(address);
  const int on = 1;
  ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  must(::bind(fd.get(), address.get(), address.size), "bind");
  must(::listen(fd.get(), 4096), "listen");
  return fd;
}

inline Fd accept_from(const Fd& listener) {
  return Fd(must(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC), "accept"));
}

inline Fd connect_to(const Address& address) {
  Fd fd = new_socket(address);
  must(::connect(fd.get(), address.get(), address.size), "connect");
  return fd;
}

// From a given local address, its port left to connect(): one more set of ephemeral ports.
inline Fd connect_from(const Address& source, const Address& address) {
  Fd fd = new_socket(address);
  const int on = 1;
  ::setsockopt(fd.get(), IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
  must(::bind(fd.get(), source.get(), source.size), "bind");
  must(::connect(fd.get(), address.get(), address.size), "connect");
  return fd;
}

inline void shutdown_writing(const Fd& fd) { must(::shutdown(fd.get(), SHUT_WR), "shutdown"); }

inline void send_bytes(const Fd& fd, std::uint64_t size) {
  static const std::vector<char> zeros(256 * 1024);
  while (size > 0) {
    const std::size_t piece = size < zeros.size() ? size : zeros.size();
    size -= static_cast<std::uint64_t>(
        must(::send(fd.get(), zeros.data(), piece, MSG_NOSIGNAL), "send"));
  }
}

// Up to `size` bytes, fewer only at the end of the stream.
inline std::uint64_t receive_bytes(const Fd& fd, std::uint64_t size) {
  thread_local std::vector<char> buffer(256 * 1024);
  std::uint64_t total = 0;
  while (total < size) {
    const std::size_t piece = size - total < buffer.size() ? size - total : buffer.size();
    const ssize_t n = must(::recv(fd.get(), buffer.data(), piece, 0), "recv");
    if (n == 0) break;
    total += static_cast<std::uint64_t>(n);
  }
  return total;
}

inline void expect_end(const Fd& fd) {
  errno = EPROTO;
  if (receive_bytes(fd, 1) != 0) die("bytes after the last");
}

inline void wait_for_reset(const Fd& fd) {
  char byte;
  if (::recv(fd.get(), &byte, 1, 0) == 0 || errno != ECONNRESET) die("expected a reset");
}

// Closes with a reset instead of a FIN.
inline void abort_connection(Fd fd) {
  const linger zero{1, 0};
  must(::setsockopt(fd.get(), SOL_SOCKET, SO_LINGER, &zero, sizeof zero), "SO_LINGER");
  fd.reset();
}

// Tells the parent that the load stands, then waits until it closes our stdin.
inline void ready_until_stdin_closes(const std::string& json) {
  std::printf("%s\n", json.c_str());
  std::fflush(stdout);
  char ignored;
  while (::read(STDIN_FILENO, &ignored, 1) > 0) {
  }
}

}  // namespace tcpvitals::load
