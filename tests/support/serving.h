// A server on loopback, and clients that talk to it over real sockets.
#pragma once

#include <doctest/doctest.h>
#include <poll.h>
#include <sys/socket.h>

#include <chrono>
#include <functional>
#include <future>
#include <memory>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include "server/server.h"
#include "server/socket_address.h"

namespace tcpvitals::testing {

using namespace std::chrono_literals;

inline constexpr Clock::duration kNever = 1h;  // a sweep interval that no test reaches

inline std::unique_ptr<Server> start(ServerOptions options) {
  for (ListenerOptions& listener : options.listeners) listener.endpoint.port = 0;
  auto server = Server::start(std::move(options));
  if (!server) FAIL(server.error().message);
  return std::move(*server);
}

inline ServerSnapshot snapshot(Server& server) {
  auto snapshot = server.snapshot(Clock::now() + 10s);
  if (!snapshot) FAIL(snapshot.error().message);
  return *snapshot;
}

inline ListenerStatistics statistics(Server& server, std::size_t listener = 0) {
  return snapshot(server).listeners.at(listener).statistics;
}

// The statistics as soon as they satisfy `done`, or as they are after ten seconds.
inline ListenerStatistics statistics_when(
    Server& server, const std::function<bool(const ListenerStatistics&)>& done) {
  const TimePoint give_up = Clock::now() + 10s;
  for (;;) {
    ListenerStatistics now = statistics(server);
    if (done(now) || Clock::now() > give_up) return now;
    std::this_thread::sleep_for(2ms);
  }
}

inline ListenerStatistics statistics_when_idle(Server& server) {
  return statistics_when(server, [](const auto& s) { return s.live() == 0; });
}

inline std::uint64_t closed(const ListenerStatistics& s, CloseCause cause) {
  return s.closed[static_cast<std::size_t>(cause)];
}
inline std::uint64_t closed_when_idle(Server& server, CloseCause cause) {
  return closed(statistics_when_idle(server), cause);
}

inline std::unique_ptr<Server> start_one(ListenerOptions listener, AuditLog* audit = nullptr) {
  return start({.listeners = {std::move(listener)}, .workers = 1, .audit = audit});
}

inline std::uint64_t pauses(const ListenerStatistics& s, PauseReason reason) {
  return s.pauses[static_cast<std::size_t>(reason)];
}

template <typename Histogram>
std::uint64_t count(const Histogram& h) {
  return std::accumulate(h.counts.begin(), h.counts.end(), std::uint64_t{0});
}

// Each of `rows` on a thread of its own: what waits for a deadline need not wait for the others'.
template <typename Rows, typename Body>
void at_once(const Rows& rows, Body body) {
  std::vector<std::future<void>> running;
  for (const auto& row : rows) {
    running.push_back(std::async(std::launch::async, [&body, &row] { body(row); }));
  }
  for (auto& one : running) one.get();
}

// A blocking client that gives up after ten seconds of silence.
class Client {
 public:
  explicit Client(int family = AF_INET) : fd_(::socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    REQUIRE(fd_.valid());
    const timeval patience{10, 0};
    ::setsockopt(fd_.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    ::setsockopt(fd_.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
  }
  static Client to(const Endpoint& endpoint) {
    Client client(endpoint.address.is_v4() ? AF_INET : AF_INET6);
    client.connect(endpoint);
    return client;
  }

  void connect(const Endpoint& endpoint) { REQUIRE(can_connect(endpoint)); }
  bool can_connect(const Endpoint& endpoint) {
    SocketAddress address(endpoint);
    return ::connect(fd_.get(), address.get(), address.length) == 0;
  }

  void small_receive_buffer() { set_buffer(SO_RCVBUF); }
  void small_send_buffer() { set_buffer(SO_SNDBUF); }

  // False if the peer is gone.
  bool send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t n = ::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (n <= 0) return false;
      bytes.remove_prefix(static_cast<std::size_t>(n));
    }
    return true;
  }

  bool send_urgent(char byte) { return ::send(fd_.get(), &byte, 1, MSG_OOB | MSG_NOSIGNAL) == 1; }

  // Up to `most` bytes, fewer only at the end of the stream.
  std::string receive(std::size_t most) {
    std::string bytes(most, '\0');
    std::size_t size = 0;
    while (size < most) {
      const ssize_t n = ::recv(fd_.get(), bytes.data() + size, most - size, 0);
      if (n <= 0) break;
      size += static_cast<std::size_t>(n);
    }
    bytes.resize(size);
    return bytes;
  }

  // What there is, at least a byte; empty at the end of the stream.
  std::string receive_some() {
    std::string bytes(64 << 10, '\0');
    const ssize_t n = ::recv(fd_.get(), bytes.data(), bytes.size(), 0);
    bytes.resize(n > 0 ? static_cast<std::size_t>(n) : 0);
    return bytes;
  }

  bool echoes(std::string_view bytes) { return send(bytes) && receive(bytes.size()) == bytes; }
  bool at_end() {
    char byte;
    return ::recv(fd_.get(), &byte, 1, 0) == 0;
  }
  bool answered_within(int ms) {
    pollfd poll{fd_.get(), POLLIN, 0};
    return ::poll(&poll, 1, ms) == 1;
  }

  void end_stream() { ::shutdown(fd_.get(), SHUT_WR); }
  void reset() {
    const linger abort{1, 0};
    ::setsockopt(fd_.get(), SOL_SOCKET, SO_LINGER, &abort, sizeof abort);
    fd_.reset();
  }
  void close() { fd_.reset(); }
  const Fd& fd() const { return fd_; }
  Endpoint local() const { return local_endpoint(fd_); }

 private:
  void set_buffer(int option) {
    const int bytes = 4096;
    ::setsockopt(fd_.get(), SOL_SOCKET, option, &bytes, sizeof bytes);
  }

  Fd fd_;
};

inline std::string pattern(std::size_t size) {
  std::string bytes(size, '\0');
  std::uint32_t x = 1;
  for (char& byte : bytes) {
    x = x * 1664525 + 1013904223;
    byte = static_cast<char>(x >> 24);
  }
  return bytes;
}

}  // namespace tcpvitals::testing
