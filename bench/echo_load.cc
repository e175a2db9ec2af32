#include "bench/echo_load.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <thread>

#include "base/clock.h"
#include "bench/child.h"

namespace tcpvitals::bench {
namespace {

constexpr std::size_t kMessage = 64;
constexpr std::size_t kBulk = 64 << 10;
constexpr std::size_t kFromOneAddress = 5000;

sockaddr_in loopback(std::uint32_t host, std::uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(host);
  address.sin_port = htons(port);
  return address;
}

Fd connect_from(std::uint32_t source, std::uint16_t port) {
  Fd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const int on = 1;
  ::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  ::setsockopt(fd.get(), IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
  sockaddr_in from = loopback(source, 0);
  if (::bind(fd.get(), reinterpret_cast<sockaddr*>(&from), sizeof from) < 0) return Fd();
  sockaddr_in to = loopback(INADDR_LOOPBACK, port);
  if (::connect(fd.get(), reinterpret_cast<sockaddr*>(&to), sizeof to) < 0) return Fd();
  return fd;
}

Fd must_connect(std::uint32_t source, std::uint16_t port) {
  Fd fd = connect_from(source, port);
  if (!fd.valid()) die("connect to port " + std::to_string(port));
  return fd;
}

// A whole round trip, waited for.
bool echoes(const Fd& fd) {
  std::array<char, kMessage> message{};
  if (::send(fd.get(), message.data(), kMessage, MSG_NOSIGNAL) != kMessage) return false;
  return ::recv(fd.get(), message.data(), kMessage, MSG_WAITALL) == kMessage;
}

double percentile(std::vector<float>& values, double share) {
  if (values.empty()) return 0;
  const auto at =
      values.begin() + static_cast<std::ptrdiff_t>(share * static_cast<double>(values.size() - 1));
  std::nth_element(values.begin(), at, values.end());
  return *at;
}

}  // namespace

void wait_for_listener(std::uint16_t port) {
  const TimePoint start = Clock::now();
  while (!connect_from(INADDR_LOOPBACK, port).valid()) {
    if (seconds_since(start) > 10) die("nobody listens on port " + std::to_string(port));
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
}

RoundTrips ping_pong(std::uint16_t port, std::size_t connections, double duration) {
  const Fd epoll(::epoll_create1(EPOLL_CLOEXEC));
  std::vector<Fd> fds;
  std::vector<TimePoint> sent(connections);
  std::array<char, kMessage> message{};
  for (std::size_t i = 0; i < connections; ++i) {
    fds.push_back(must_connect(INADDR_LOOPBACK, port));
    if (!echoes(fds.back())) die("no echo on port " + std::to_string(port));
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.u64 = i;
    ::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, fds[i].get(), &event);
  }
  const TimePoint begin = Clock::now();
  const auto measured_from = begin + std::chrono::milliseconds(100);
  const auto end = measured_from + std::chrono::duration_cast<Clock::duration>(
                                       std::chrono::duration<double>(duration));
  for (std::size_t i = 0; i < connections; ++i) {
    sent[i] = Clock::now();
    ::send(fds[i].get(), message.data(), kMessage, MSG_NOSIGNAL);
  }
  std::vector<float> times_us;
  times_us.reserve(1 << 20);
  std::array<epoll_event, 128> events;
  TimePoint now = begin;
  while (now < end) {
    const int n = ::epoll_wait(epoll.get(), events.data(), events.size(), 1000);
    if (n <= 0) die("round trips stopped on port " + std::to_string(port));
    for (int k = 0; k < n; ++k) {
      const std::size_t i = events[static_cast<std::size_t>(k)].data.u64;
      if (::recv(fds[i].get(), message.data(), kMessage, 0) != kMessage) die("a short echo");
      now = Clock::now();
      if (now >= measured_from) {
        times_us.push_back(
            static_cast<float>(std::chrono::duration<double>(now - sent[i]).count() * 1e6));
      }
      sent[i] = now;
      ::send(fds[i].get(), message.data(), kMessage, MSG_NOSIGNAL);
    }
  }
  RoundTrips result;
  result.per_second =
      static_cast<double>(times_us.size()) / tcpvitals::seconds(now - measured_from);
  result.p50_us = percentile(times_us, 0.5);
  result.p99_us = percentile(times_us, 0.99);
  return result;
}

double churn_round_trips(std::uint16_t port, double seconds) {
  std::atomic<std::size_t> done{0};
  const TimePoint begin = Clock::now();
  {
    std::vector<std::jthread> threads;
    for (std::uint32_t t = 0; t < 2; ++t) {
      threads.emplace_back([&, t] {
        std::uint32_t n = 0;
        while (seconds_since(begin) < seconds) {
          const Fd fd = must_connect(0x7f000200 + t * 256 + n++ % 200, port);
          if (!echoes(fd)) die("no echo on port " + std::to_string(port));
          done.fetch_add(1, std::memory_order_relaxed);
        }
      });
    }
  }
  return static_cast<double>(done) / seconds_since(begin);
}

double send_in_bulk(std::uint16_t port, std::size_t connections, double seconds) {
  const Fd epoll(::epoll_create1(EPOLL_CLOEXEC));
  std::vector<Fd> fds;
  for (std::size_t i = 0; i < connections; ++i) {
    fds.push_back(must_connect(INADDR_LOOPBACK, port));
    epoll_event event{};
    event.events = EPOLLOUT;
    event.data.u64 = i;
    ::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, fds[i].get(), &event);
  }
  const std::vector<char> bytes(kBulk);
  std::size_t sent = 0;
  std::array<epoll_event, 128> events;
  const TimePoint begin = Clock::now();
  while (seconds_since(begin) < seconds) {
    const int n = ::epoll_wait(epoll.get(), events.data(), events.size(), 1000);
    if (n <= 0) die("nothing is taken on port " + std::to_string(port));
    for (int k = 0; k < n; ++k) {
      const std::size_t i = events[static_cast<std::size_t>(k)].data.u64;
      const ssize_t taken =
          ::send(fds[i].get(), bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
      if (taken < 0 && errno != EAGAIN) die("send to port " + std::to_string(port));
      if (taken > 0) sent += static_cast<std::size_t>(taken);
    }
  }
  return static_cast<double>(sent) / seconds_since(begin);
}

std::vector<Fd> hold_idle(std::uint16_t port, std::size_t connections) {
  std::vector<Fd> fds;
  fds.reserve(connections);
  for (std::size_t i = 0; i < connections; ++i) {
    const auto source = static_cast<std::uint32_t>(0x7f000100 + i / kFromOneAddress);
    fds.push_back(must_connect(source, port));
  }
  return fds;
}

}  // namespace tcpvitals::bench
