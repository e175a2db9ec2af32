#include "server/source_guard.h"

#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstdint>
#include <cstring>

#include "server/socket_address.h"

namespace tcpvitals {
namespace {

// A jump reaches 255 instructions.
constexpr std::size_t kPortsOfBlock = 200;
// Positions in the group, in the order in which they came into it.
constexpr std::uint32_t kListener = 0;
constexpr std::uint32_t kSecond = 1;

constexpr auto kIpHeader = static_cast<std::uint32_t>(SKF_NET_OFF);
constexpr std::uint32_t kSourceAddress = kIpHeader + 12;
constexpr std::uint32_t kSourcePort = kIpHeader + 20;
constexpr std::uint32_t kPlainHeader = 0x45;  // IPv4 without options: the ports follow at 20

constexpr int kIfEqual = BPF_JMP | BPF_JEQ | BPF_K;

std::uint32_t ipv4_of(const IpAddress& address) {
  std::uint32_t value = 0;
  for (std::size_t i = 12; i < 16; ++i) value = value << 8 | address.bytes[i];
  return value;
}

sock_filter instruction(int code, std::uint32_t value, std::size_t if_true = 0,
                        std::size_t if_false = 0) {
  return {static_cast<std::uint16_t>(code), static_cast<std::uint8_t>(if_true),
          static_cast<std::uint8_t>(if_false), value};
}

// From this address and one of these ports: for the listener. Else on with what follows.
void add_block(std::vector<sock_filter>& program, std::span<const Endpoint> sources) {
  const std::size_t ports = sources.size();
  program.push_back(instruction(BPF_LD | BPF_W | BPF_ABS, kSourceAddress));
  program.push_back(instruction(kIfEqual, ipv4_of(sources.front().address), 0, ports + 2));
  program.push_back(instruction(BPF_LD | BPF_H | BPF_ABS, kSourcePort));
  for (std::size_t i = 0; i < ports; ++i) {
    const bool last = i + 1 == ports;
    program.push_back(instruction(kIfEqual, sources[i].port, ports - 1 - i, last ? 1 : 0));
  }
  program.push_back(instruction(BPF_RET | BPF_K, kListener));
}

std::vector<sock_filter> program_for(std::span<const Endpoint> sources) {
  std::vector<sock_filter> program{instruction(BPF_LD | BPF_B | BPF_ABS, kIpHeader),
                                   instruction(kIfEqual, kPlainHeader, 1),
                                   instruction(BPF_RET | BPF_K, kSecond)};
  while (!sources.empty()) {
    const IpAddress& address = sources.front().address;
    const auto end = std::find_if(sources.begin(), sources.end(),
                                  [&](const Endpoint& e) { return e.address != address; });
    const auto ports =
        std::min(kPortsOfBlock, static_cast<std::size_t>(std::distance(sources.begin(), end)));
    add_block(program, sources.first(ports));
    sources = sources.subspan(ports);
  }
  program.push_back(instruction(BPF_RET | BPF_K, kSecond));
  return program;
}

Result<void> set_option(int socket, int level, int name, int value, const char* what) {
  if (::setsockopt(socket, level, name, &value, sizeof value) == 0) return {};
  return errno_error(what, errno);
}

}  // namespace

Result<SourceGuard> SourceGuard::open(int listener) {
  SocketAddress address;
  if (::getsockname(listener, address.get(), &address.length) != 0) {
    return errno_error("getsockname", errno);
  }
  Fd second(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!second.valid()) return errno_error("socket", errno);
  auto done = set_option(listener, SOL_SOCKET, SO_REUSEPORT, 1, "SO_REUSEPORT");
  if (done) done = set_option(second.get(), SOL_SOCKET, SO_REUSEPORT, 1, "SO_REUSEPORT");
  if (done) done = set_option(second.get(), IPPROTO_IP, IP_MINTTL, 255, "IP_MINTTL");
  if (!done) return std::move(done.error());
  if (::bind(second.get(), address.get(), address.length) != 0) return errno_error("bind", errno);
  if (::listen(second.get(), 0) != 0) return errno_error("listen", errno);
  SourceGuard guard(std::move(second));
  if (auto closed = guard.admit({}); !closed) return std::move(closed.error());
  return guard;
}

Result<void> SourceGuard::admit(std::span<const Endpoint> sources) const {
  std::vector<sock_filter> program = program_for(sources);
  constexpr const char* kOption = "SO_ATTACH_REUSEPORT_CBPF";
  if (program.size() > BPF_MAXINSNS) return errno_error(kOption, E2BIG);
  const sock_fprog given{static_cast<unsigned short>(program.size()), program.data()};
  if (::setsockopt(second_.get(), SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &given, sizeof given) == 0)
    return {};
  return errno_error(kOption, errno);
}

}  // namespace tcpvitals
