#include "server/source_filter.h"

#include <linux/if_ether.h>
#include <sys/socket.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstdint>
#include <cstring>

namespace tcpvitals {
namespace {

// A jump reaches 255 instructions.
constexpr std::size_t kPortsOfBlock = 200;
constexpr std::uint32_t kDrop = 0;
constexpr std::uint32_t kWhole = 0xffffffff;
// The kernel runs the filter at the TCP header; the IP header lies before it.
constexpr auto kSourceAddress = static_cast<std::uint32_t>(SKF_NET_OFF) + 12;
constexpr std::uint32_t kSourcePort = 0;

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

// From this address and one of these ports: let through. Else on with what follows.
void add_block(std::vector<sock_filter>& program, std::span<const Endpoint> sources) {
  constexpr int kIfEqual = BPF_JMP | BPF_JEQ | BPF_K;
  const std::size_t ports = sources.size();
  program.push_back(instruction(BPF_LD | BPF_W | BPF_ABS, kSourceAddress));
  program.push_back(instruction(kIfEqual, ipv4_of(sources.front().address), 0, ports + 2));
  program.push_back(instruction(BPF_LD | BPF_H | BPF_ABS, kSourcePort));
  for (std::size_t i = 0; i < ports; ++i) {
    const bool last = i + 1 == ports;
    program.push_back(instruction(kIfEqual, sources[i].port, ports - 1 - i, last ? 1 : 0));
  }
  program.push_back(instruction(BPF_RET | BPF_K, kWhole));
}

}  // namespace

std::vector<sock_filter> source_filter(std::span<const Endpoint> sources) {
  std::vector<sock_filter> program;
  while (!sources.empty()) {
    const IpAddress& address = sources.front().address;
    const auto end = std::find_if(sources.begin(), sources.end(),
                                  [&](const Endpoint& e) { return e.address != address; });
    const auto ports =
        std::min(kPortsOfBlock, static_cast<std::size_t>(std::distance(sources.begin(), end)));
    add_block(program, sources.first(ports));
    sources = sources.subspan(ports);
  }
  program.push_back(instruction(BPF_RET | BPF_K, kDrop));
  return program;
}

Result<void> attach_filter(int socket, std::span<const sock_filter> program) {
  if (program.size() > BPF_MAXINSNS) return errno_error("SO_ATTACH_FILTER", E2BIG);
  const sock_fprog given{static_cast<unsigned short>(program.size()),
                         const_cast<sock_filter*>(program.data())};
  if (::setsockopt(socket, SOL_SOCKET, SO_ATTACH_FILTER, &given, sizeof given) == 0) return {};
  return errno_error("SO_ATTACH_FILTER", errno);
}

void detach_filter(int socket) {
  const int ignored = 0;
  (void)::setsockopt(socket, SOL_SOCKET, SO_DETACH_FILTER, &ignored, sizeof ignored);
}

}  // namespace tcpvitals
