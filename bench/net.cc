#include "bench/net.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <thread>

#include "base/clock.h"
#include "base/fd.h"

namespace tcpvitals::bench {

void enter_new_network() {
  if (::unshare(CLONE_NEWNET) < 0 && ::unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0) {
    die(fmt::format("needs a network namespace (root, or user namespaces allowed): {}",
                    std::strerror(errno)));
  }
  const Fd any(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ifreq loopback{};
  std::strcpy(loopback.ifr_name, "lo");
  loopback.ifr_flags = IFF_UP;
  if (::ioctl(any.get(), SIOCSIFFLAGS, &loopback) < 0) die("bring loopback up");
}

std::string program_directory() {
  return std::filesystem::read_symlink("/proc/self/exe").parent_path();
}

HeldConnections::HeldConnections(std::size_t connections) {
  constexpr std::size_t kMost = 9'900;  // of one process: two descriptors each
  const std::size_t ports = std::max<std::size_t>(kHeldPorts, (connections + kMost - 1) / kMost);
  for (std::size_t i = 0; i < ports; ++i) {
    const std::size_t share = connections * (i + 1) / ports - connections * i / ports;
    holders_.emplace_back(
        std::vector<std::string>{program_directory() + "/tcp_load", "hold", "--address",
                                 i + 1 == ports ? "::1" : "127.0.0.1", "--port",
                                 std::to_string(kFirstHeldPort + i), "--connections",
                                 std::to_string(share), "--seconds", "280"},
        Child::Output::kRead);
  }
  for (Child& holder : holders_) holder.read_line();
}

HttpResponse http_get(std::uint16_t port, const std::string& path) {
  const Fd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  to.sin_port = htons(port);
  if (::connect(fd.get(), reinterpret_cast<sockaddr*>(&to), sizeof to) < 0) return {};
  const std::string request =
      fmt::format("GET {} HTTP/1.0\r\nHost: 127.0.0.1:{}\r\n\r\n", path, port);
  ::send(fd.get(), request.data(), request.size(), MSG_NOSIGNAL);
  std::string answer;
  char buffer[8 * 1024];
  for (ssize_t n; (n = ::recv(fd.get(), buffer, sizeof buffer, 0)) > 0;) {
    answer.append(buffer, static_cast<std::size_t>(n));
  }
  const std::size_t head = answer.find("\r\n\r\n");
  if (head == std::string::npos || answer.size() < 12) return {};
  return {std::stoi(answer.substr(9, 3)), answer.substr(head + 4)};
}

void wait_until_served(std::uint16_t port, const std::string& path) {
  const TimePoint start = Clock::now();
  while (http_get(port, path).status != 200) {
    if (seconds_since(start) > 10) die(fmt::format("127.0.0.1:{}{} does not answer", port, path));
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
}

}  // namespace tcpvitals::bench
