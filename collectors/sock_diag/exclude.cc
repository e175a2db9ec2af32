#include "collectors/sock_diag/exclude.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <initializer_list>
#include <span>

#include "collectors/sock_diag/event_shards.h"

namespace tcpvitals {
namespace {

// Some leading bits of an address: of its four words, or of one if it is an IPv4 address.
struct Match {
  bool v4;
  std::uint32_t bits;
  std::array<std::uint32_t, 4> words{};  // network order

  explicit Match(const IpPrefix& prefix) : v4(prefix.address.is_v4()), bits(prefix.length) {
    const std::size_t first = v4 ? 12 : 0;
    if (v4) bits -= 96;
    std::memcpy(words.data(), prefix.address.bytes.data() + first, 16 - first);
  }
};

// What to leave out, by family. No prefix lies in another one, and they are sorted.
struct Rules {
  std::vector<IpPrefix> v4;
  std::vector<IpPrefix> v6;
  const std::vector<PortRange>& ports;

  explicit Rules(const Excludes& excludes) : ports(excludes.ports) {
    std::vector<IpPrefix> peers = excludes.peers;
    if (excludes.loopback) {
      for (const char* text : {"127.0.0.0/8", "::1"}) peers.push_back(*parse_ip_prefix(text));
    }
    std::sort(peers.begin(), peers.end());
    for (const IpPrefix& prefix : peers) {
      auto& family = prefix.address.is_v4() ? v4 : v6;
      if (family.empty() || !family.back().contains(prefix.address)) family.push_back(prefix);
    }
  }
};

bool bit(const IpAddress& address, unsigned i) {
  return (address.bytes[i / 8] >> (7 - i % 8) & 1) != 0;
}

// Both machines only jump forward, so a program is put together from its end to its beginning:
// where a jump leads to is there already. A place in it is its distance to the end.
//   prepend_unless_peer   goes on if the peer is in the prefix, else jumps
//   prepend_unless_left   likewise, where all bits of the prefix but the last are known to match
//   prepend_if_port       jumps if the port of either end is in the range, else goes on
//   prepend_start         comes first in a program: goes on if the peer is IPv4, else jumps
using Place = std::size_t;

// INET_DIAG bytecode. An operation that holds goes on with the next one; one that does not hold
// jumps. The end of the program accepts, 4 bytes past it rejects: the distance is from there.
class DumpProgram {
 public:
  static constexpr Place kReject = 0;
  static constexpr Place kAccept = 1;

  Place here() const { return words_.size() + 1; }

  void prepend_jump(Place to) { prepend(INET_DIAG_BC_JMP, {}, to); }

  void prepend_unless_peer(const IpPrefix& prefix, Place otherwise) {
    const Match match(prefix);
    const inet_diag_hostcond any_port{static_cast<std::uint8_t>(match.v4 ? AF_INET : AF_INET6),
                                      static_cast<std::uint8_t>(match.bits), -1};
    std::array<std::uint32_t, 6> arguments{};
    std::memcpy(arguments.data(), &any_port, sizeof any_port);
    std::copy(match.words.begin(), match.words.end(), arguments.begin() + 2);
    prepend(INET_DIAG_BC_D_COND, std::span(arguments).first(match.v4 ? 3 : 6), otherwise);
  }

  void prepend_unless_left(const IpPrefix& left, Place right) { prepend_unless_peer(left, right); }

  void prepend_if_port(const PortRange& range, Place then) {
    for (const auto& [at_least, at_most] : {std::pair{INET_DIAG_BC_D_GE, INET_DIAG_BC_D_LE},
                                            std::pair{INET_DIAG_BC_S_GE, INET_DIAG_BC_S_LE}}) {
      const Place next = here();
      prepend_jump(then);
      prepend_port(at_most, range.last, next);
      prepend_port(at_least, range.first, next);
    }
  }

  // A condition of IPv4 holds for the v4-mapped addresses of IPv6 sockets too.
  void prepend_start(Place v6) { prepend_unless_peer(*parse_ip_prefix("0.0.0.0/0"), v6); }

  std::vector<std::byte> finished() const {
    const std::vector<std::uint32_t> forward(words_.rbegin(), words_.rend());
    const auto bytes = std::as_bytes(std::span(forward));
    return {bytes.begin(), bytes.end()};
  }

 private:
  void prepend_port(int code, std::uint16_t port, Place otherwise) {
    const auto argument = std::bit_cast<std::uint32_t>(inet_diag_bc_op{0, 0, port});
    prepend(code, {&argument, 1}, otherwise);
  }

  void prepend(int code, std::span<const std::uint32_t> arguments, Place otherwise) {
    words_.insert(words_.end(), arguments.rbegin(), arguments.rend());
    const std::size_t next = 4 * (arguments.size() + 1);
    const std::size_t jump = 4 * (here() + 1 - otherwise);
    words_.push_back(std::bit_cast<std::uint32_t>(
        inet_diag_bc_op{static_cast<std::uint8_t>(code), static_cast<std::uint8_t>(next),
                        static_cast<std::uint16_t>(jump)}));
  }

  std::vector<std::uint32_t> words_;  // the last one first
};

// Where things are in a DESTROY datagram: nlmsghdr, inet_diag_msg.
constexpr std::uint32_t kFamily = sizeof(nlmsghdr) + offsetof(inet_diag_msg, idiag_family);
constexpr std::uint32_t kId = sizeof(nlmsghdr) + offsetof(inet_diag_msg, id);
constexpr std::uint32_t kLocalPort = kId + offsetof(inet_diag_sockid, idiag_sport);
constexpr std::uint32_t kRemotePort = kId + offsetof(inet_diag_sockid, idiag_dport);
constexpr std::uint32_t kRemoteAddress = kId + offsetof(inet_diag_sockid, idiag_dst);

// Classic BPF. What it returns is how many bytes of a datagram are kept. The distance is from
// beyond the last instruction.
class EventProgram {
 public:
  static constexpr Place kReject = 1;
  static constexpr Place kAccept = 2;

  EventProgram() { prepend({BPF_STMT(BPF_RET | BPF_K, ~0U), BPF_STMT(BPF_RET | BPF_K, 0)}); }

  Place here() const { return reversed_.size(); }
  std::size_t size() const { return reversed_.size(); }

  void prepend_jump(Place to) {
    prepend({BPF_STMT(BPF_JMP | BPF_JA, static_cast<std::uint32_t>(here() - to))});
  }

  void prepend_unless_peer(const IpPrefix& prefix, Place otherwise) {
    const Match match(prefix);
    if (match.bits == 0) return;
    prepend_jump(otherwise);
    const Place miss = here();
    for (std::uint32_t word = (match.bits + 31) / 32; word-- > 0;) {
      const std::uint32_t bits = std::min(match.bits - 32 * word, 32U);
      const std::uint8_t hit = here() == miss ? 1 : 0;
      prepend({BPF_JUMP(BPF_JMP | BPF_JEQ, ntohl(match.words[word]), hit,
                        static_cast<std::uint8_t>(here() - miss))});
      if (bits < 32) prepend({BPF_STMT(BPF_ALU | BPF_AND, ~0U << (32 - bits))});
      prepend({BPF_STMT(BPF_LD | BPF_MEM, kPeer + word)});
    }
  }

  void prepend_unless_left(const IpPrefix& left, Place right) {
    const std::uint32_t last = Match(left).bits - 1;
    prepend_jump(right);
    prepend({BPF_STMT(BPF_LD | BPF_MEM, kPeer + last / 32),
             BPF_JUMP(BPF_JMP | BPF_JSET, 0x80000000 >> (last % 32), 0, 1)});
  }

  void prepend_if_port(const PortRange& range, Place then) {
    for (const std::uint32_t cell : {kRemote, kLocal}) {
      prepend_jump(then);
      prepend({BPF_STMT(BPF_LD | BPF_MEM, cell), BPF_JUMP(BPF_JMP | BPF_JGE, range.first, 0, 2),
               BPF_JUMP(BPF_JMP | BPF_JGT, range.last, 1, 0)});
    }
  }

  // Gathers what the rules look at.
  void prepend_start(Place v6) {
    prepend({load(BPF_W, kRemoteAddress), store(kPeer)});
    prepend_jump(v6);
    prepend({load(BPF_H, kLocalPort), store(kLocal),                              //
             load(BPF_H, kRemotePort), store(kRemote),                            //
             load(BPF_B, kFamily), BPF_JUMP(BPF_JMP | BPF_JEQ, AF_INET6, 0, 16),  // else: IPv4
             load(BPF_W, kRemoteAddress + 12), store(kPeer + 3),                  //
             load(BPF_W, kRemoteAddress + 8), store(kPeer + 2),                   //
             load(BPF_W, kRemoteAddress + 4), store(kPeer + 1),                   //
             load(BPF_W, kRemoteAddress), store(kPeer),
             // A v4-mapped address, ::ffff:a.b.c.d, is the IPv4 one.
             BPF_JUMP(BPF_JMP | BPF_JEQ, 0, 0, 6),       //
             BPF_STMT(BPF_LD | BPF_MEM, kPeer + 1),      //
             BPF_JUMP(BPF_JMP | BPF_JEQ, 0, 0, 4),       //
             BPF_STMT(BPF_LD | BPF_MEM, kPeer + 2),      //
             BPF_JUMP(BPF_JMP | BPF_JEQ, 0xffff, 0, 2),  //
             BPF_STMT(BPF_LD | BPF_MEM, kPeer + 3),      //
             BPF_STMT(BPF_JMP | BPF_JA, 2)});
  }

  std::vector<sock_filter> finished() const { return {reversed_.rbegin(), reversed_.rend()}; }

 private:
  // Cells of the filter's memory.
  static constexpr std::uint32_t kPeer = 0;  // the address: a word a cell; of IPv4 the first
  static constexpr std::uint32_t kLocal = 4;
  static constexpr std::uint32_t kRemote = 5;

  static sock_filter load(unsigned size, std::uint32_t offset) {
    return BPF_STMT(BPF_LD | BPF_ABS | size, offset);
  }
  static sock_filter store(std::uint32_t cell) { return BPF_STMT(BPF_ST, cell); }

  // In the order they run.
  void prepend(std::initializer_list<sock_filter> instructions) {
    reversed_.insert(reversed_.end(), std::rbegin(instructions), std::rend(instructions));
  }

  std::vector<sock_filter> reversed_;
};

// A decision tree, so that the number of prefixes is hardly felt: at the first bit in which they
// differ they part into left and right.
template <typename Program>
void prepend_peers(Program& program, std::span<const IpPrefix> peers, Place otherwise) {
  if (peers.empty()) return program.prepend_jump(otherwise);
  const IpAddress& first = peers.front().address;
  if (peers.size() == 1) {
    program.prepend_jump(Program::kReject);
    program.prepend_unless_peer(peers.front(), otherwise);
    return;
  }
  std::uint8_t same = 0;
  while (bit(first, same) == bit(peers.back().address, same)) ++same;
  const auto middle = std::partition_point(
      peers.begin(), peers.end(), [&](const IpPrefix& p) { return !bit(p.address, same); });
  const auto left = static_cast<std::size_t>(middle - peers.begin());
  prepend_peers(program, peers.subspan(left), otherwise);
  const Place right = program.here();
  prepend_peers(program, peers.first(left), otherwise);
  program.prepend_unless_left(prefix_of(first, same + 1), right);
}

template <typename Program>
Program assemble(const Rules& rules) {
  Program program;
  for (const PortRange& range : rules.ports) program.prepend_if_port(range, Program::kReject);
  const Place ports = program.here();
  const auto prepend_family = [&](const std::vector<IpPrefix>& peers, std::string_view no_peer) {
    prepend_peers(program, std::span(peers), ports);
    const Place tree = program.here();
    program.prepend_jump(Program::kAccept);
    program.prepend_unless_peer(*parse_ip_prefix(no_peer), tree);
  };
  prepend_family(rules.v6, "::");
  const Place v6 = program.here();
  prepend_family(rules.v4, "0.0.0.0");
  program.prepend_start(v6);
  return program;
}

bool is_loopback(const IpAddress& address) {
  constexpr IpAddress kLoopback6{{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}};
  return address == kLoopback6 || (address.is_v4() && address.bytes[12] == 127);
}

}  // namespace

bool excluded(const Excludes& excludes, const SocketRow& row) {
  const IpAddress peer = row.remote_address();
  if (peer.is_any()) return false;
  if (excludes.loopback && is_loopback(peer)) return true;
  return std::any_of(excludes.peers.begin(), excludes.peers.end(),
                     [&](const IpPrefix& prefix) { return prefix.contains(peer); }) ||
         std::any_of(excludes.ports.begin(), excludes.ports.end(), [&](const PortRange& range) {
           return range.contains(row.local_port) || range.contains(row.remote_port);
         });
}

Result<ExcludePrograms> compile_excludes(const Excludes& excludes) {
  if (excludes.empty()) return ExcludePrograms{};
  const Rules rules(excludes);
  const auto events = assemble<EventProgram>(rules);
  // The bytecode, which has to fit into an attribute of 64 KiB, is far from it then.
  constexpr std::size_t kMost = BPF_MAXINSNS - kShardInstructions;
  if (events.size() > kMost) {
    return Error{fmt::format(
        "{} prefixes and {} ranges of ports are more than the kernel can exclude: they make a "
        "filter of {} instructions, and it takes {}",
        excludes.peers.size(), excludes.ports.size(), events.size(), kMost)};
  }
  return ExcludePrograms{assemble<DumpProgram>(rules).finished(), events.finished()};
}

}  // namespace tcpvitals
