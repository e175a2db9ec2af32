// The programs of exclude.h, run by machines that do what the kernel's do, checks included; and run
// by the kernel itself.
#include "collectors/sock_diag/exclude.h"

#include <arpa/inet.h>
#include <doctest/doctest.h>
#include <linux/inet_diag.h>

#include <algorithm>
#include <random>

#include "collectors/sock_diag/event_shards.h"
#include "tests/support/diag_builder.h"

using namespace tcpvitals;
using namespace tcpvitals::testing;

namespace {

// inet_diag_bc_audit() of net/ipv4/inet_diag.c.
class Bytecode {
 public:
  explicit Bytecode(std::span<const std::byte> program) : program_(program) {}

  bool valid() const {
    std::size_t at = 0;
    while (at < program_.size()) {
      const auto op = read<inet_diag_bc_op>(at);
      const std::size_t left = program_.size() - at;
      std::size_t smallest = sizeof op;
      switch (op.code) {
        case INET_DIAG_BC_JMP:
          break;
        case INET_DIAG_BC_S_GE:
        case INET_DIAG_BC_S_LE:
        case INET_DIAG_BC_D_GE:
        case INET_DIAG_BC_D_LE:
          smallest += sizeof op;
          break;
        case INET_DIAG_BC_D_COND: {
          smallest += sizeof(inet_diag_hostcond);
          if (left < smallest) return false;
          const auto condition = read<inet_diag_hostcond>(at + sizeof op);
          const unsigned bytes = condition.family == AF_INET ? 4 : 16;
          if (condition.prefix_len > 8 * bytes) return false;
          smallest += bytes;
          break;
        }
        default:
          return false;
      }
      if (left < smallest) return false;
      if (op.no < smallest || op.no > left + 4 || op.no % 4 != 0) return false;
      if (op.no < left && !boundary(at + op.no)) return false;
      if (op.yes < smallest || op.yes > left + 4 || op.yes % 4 != 0) return false;
      at += op.yes;
    }
    return at == program_.size();
  }

  // inet_diag_bc_run().
  bool accepts(const SocketRow& row) const {
    std::size_t at = 0;
    while (at < program_.size()) {
      const auto op = read<inet_diag_bc_op>(at);
      at += holds(op, at + sizeof op, row) ? op.yes : op.no;
    }
    return at == program_.size();
  }

 private:
  template <typename T>
  T read(std::size_t at) const {
    T value;
    std::memcpy(&value, program_.subspan(at, sizeof value).data(), sizeof value);
    return value;
  }

  bool boundary(std::size_t target) const {
    std::size_t at = 0;
    while (at < target) at += read<inet_diag_bc_op>(at).yes;
    return at == target;
  }

  bool holds(const inet_diag_bc_op& op, std::size_t arguments, const SocketRow& row) const {
    if (op.code == INET_DIAG_BC_JMP) return false;
    if (op.code == INET_DIAG_BC_D_COND) return peer_matches(arguments, row);
    const std::uint16_t port = read<inet_diag_bc_op>(arguments).no;
    switch (op.code) {
      case INET_DIAG_BC_S_GE:
        return row.local_port >= port;
      case INET_DIAG_BC_S_LE:
        return row.local_port <= port;
      case INET_DIAG_BC_D_GE:
        return row.remote_port >= port;
      default:
        return row.remote_port <= port;
    }
  }

  bool peer_matches(std::size_t arguments, const SocketRow& row) const {
    const auto condition = read<inet_diag_hostcond>(arguments);
    CHECK(condition.port == -1);
    const std::byte* address = row.remote;
    if (condition.family != row.family) {
      if (row.family != AF_INET6 || !row.remote_address().is_v4()) return false;
      address += 12;
    }
    for (unsigned bit = 0; bit < condition.prefix_len; ++bit) {
      const auto wanted = read<std::byte>(arguments + sizeof condition + bit / 8);
      if (((wanted ^ address[bit / 8]) & (std::byte{0x80} >> (bit % 8))) != std::byte{0}) {
        return false;
      }
    }
    return true;
  }

  std::span<const std::byte> program_;
};

// Classic BPF over a datagram, as bpf_check_classic() and the machine of net/core/filter.c.
class Filter {
 public:
  explicit Filter(std::span<const sock_filter> program) : program_(program) {}

  bool valid() const {
    if (program_.empty() || program_.size() > BPF_MAXINSNS) return false;
    for (std::size_t at = 0; at < program_.size(); ++at) {
      const sock_filter& op = program_[at];
      const std::size_t after = program_.size() - at - 1;
      if (op.code == (BPF_JMP | BPF_JA) && op.k >= after) return false;
      const bool branches = BPF_CLASS(op.code) == BPF_JMP && op.code != (BPF_JMP | BPF_JA);
      if (branches && (op.jt >= after || op.jf >= after)) return false;
    }
    return BPF_CLASS(program_.back().code) == BPF_RET;
  }

  bool accepts(std::span<const std::byte> datagram) const {
    std::uint32_t a = 0;
    std::array<std::uint32_t, BPF_MEMWORDS> memory{};
    for (std::size_t at = 0;; ++at) {
      const sock_filter& op = program_[at];
      switch (op.code) {
        case BPF_LD | BPF_ABS | BPF_W:
        case BPF_LD | BPF_ABS | BPF_H:
        case BPF_LD | BPF_ABS | BPF_B: {
          const std::size_t size = BPF_SIZE(op.code) == BPF_W   ? 4
                                   : BPF_SIZE(op.code) == BPF_H ? 2
                                                                : 1;
          if (op.k + size > datagram.size()) return false;
          a = 0;
          for (std::size_t i = 0; i < size; ++i) {
            a = a << 8 | std::to_integer<std::uint32_t>(datagram[op.k + i]);
          }
          break;
        }
        case BPF_LD | BPF_MEM:
          a = memory.at(op.k);
          break;
        case BPF_ST:
          memory.at(op.k) = a;
          break;
        case BPF_ALU | BPF_AND | BPF_K:
          a &= op.k;
          break;
        case BPF_JMP | BPF_JA:
          at += op.k;
          break;
        case BPF_JMP | BPF_JEQ | BPF_K:
          at += a == op.k ? op.jt : op.jf;
          break;
        case BPF_JMP | BPF_JGE | BPF_K:
          at += a >= op.k ? op.jt : op.jf;
          break;
        case BPF_JMP | BPF_JSET | BPF_K:
          at += (a & op.k) != 0 ? op.jt : op.jf;
          break;
        case BPF_JMP | BPF_JGT | BPF_K:
          at += a > op.k ? op.jt : op.jf;
          break;
        case BPF_RET | BPF_K:
          CHECK((op.k == 0 || op.k >= datagram.size()));
          return op.k != 0;
        default:
          FAIL("an instruction of another kind: ", op.code);
      }
    }
  }

 private:
  std::span<const sock_filter> program_;
};

IpPrefix prefix(const char* text) { return *parse_ip_prefix(text); }

// Addresses and ports out of few, so that they meet.
class Random {
 public:
  explicit Random(std::uint64_t seed) : engine_(seed) {}

  std::size_t below(std::size_t n) { return engine_() % n; }

  std::uint16_t port() {
    constexpr std::uint16_t kPorts[] = {0, 1, 22, 80, 443, 8080, 32768, 60999, 65534, 65535};
    return below(3) == 0 ? static_cast<std::uint16_t>(below(65536)) : kPorts[below(10)];
  }

  std::string address() {
    constexpr const char* kAddresses[] = {"0.0.0.0",
                                          "127.0.0.1",
                                          "127.255.0.9",
                                          "10.0.0.1",
                                          "10.0.0.2",
                                          "10.0.1.1",
                                          "192.0.2.1",
                                          "255.255.255.255",
                                          "128.0.0.1",
                                          "::",
                                          "::1",
                                          "::2",
                                          "::ffff:0:0:1",
                                          "2001:db8::1",
                                          "2001:db8:0:1::1",
                                          "2001:db9::1",
                                          "::fffe:10.0.0.1",
                                          "fe80::1",
                                          "ffff::1",
                                          "8000::"};
    if (below(2) == 0) return kAddresses[below(std::size(kAddresses))];
    std::array<std::uint8_t, 16> bytes{};
    for (auto& byte : bytes) byte = below(4) == 0 ? static_cast<std::uint8_t>(engine_()) : 0;
    return to_string(below(2) == 0 ? IpAddress::v4(bytes.data()) : IpAddress::v6(bytes.data()));
  }

  FakeSocket socket() {
    FakeSocket s{
        .local = address(), .local_port = port(), .remote_port = port(), .has_info = false};
    const bool v4 = parse_ip_address(s.local)->is_v4();
    do s.remote = address();
    while (parse_ip_address(s.remote)->is_v4() != v4);
    s.ipv6 = !v4 || below(2) == 0;
    if (below(8) == 0) s.state = TcpState::kListen;
    return s;
  }

  Excludes excludes() {
    Excludes excludes{.loopback = below(4) == 0};
    for (std::size_t i = below(4); i > 0; --i) {
      const std::uint16_t first = port();
      excludes.ports.push_back({first, std::max(first, below(2) == 0 ? first : port())});
    }
    for (std::size_t i = below(10) == 0 ? 60 : below(5); i > 0; --i) {
      const std::string text = address();
      const std::size_t bits = parse_ip_address(text)->is_v4() ? 32 : 128;
      excludes.peers.push_back(prefix((text + "/" + std::to_string(below(bits + 1))).c_str()));
    }
    return excludes;
  }

 private:
  std::mt19937_64 engine_;
};

ExcludePrograms valid_programs(const Excludes& excludes) {
  auto programs = compile_excludes(excludes);
  REQUIRE(programs.ok());
  CHECK(Bytecode(programs->dump).valid());
  CHECK(Filter(programs->events).valid());
  return *programs;
}

}  // namespace

TEST_CASE("what is excluded: by the peer's address or by the port of either end") {
  struct Row {
    Excludes excludes;
    FakeSocket socket;
    bool excluded;
  };
  const Excludes loopback{.loopback = true};
  const Excludes web{.ports = {{80, 80}, {8000, 8999}}};
  const Excludes peers{.peers = {prefix("10.1.0.0/16"), prefix("2001:db8::/32")}};
  const Excludes all6{.peers = {prefix("::/0")}};
  for (const Row& row : std::vector<Row>{
           {{}, {}, false},
           {loopback, {.remote = "127.9.9.9"}, true},
           {loopback, {.local = "127.0.0.1"}, false},
           {loopback, {.local = "::1", .remote = "::1"}, true},
           {loopback, {.local = "::1", .remote = "::2"}, false},
           {loopback, {.local = "127.0.0.1", .remote = "127.0.0.1", .ipv6 = true}, true},
           {web, {.local_port = 80}, true},
           {web, {.local_port = 50000, .remote_port = 8080}, true},
           {web, {.local_port = 9000, .remote_port = 7999}, false},
           {peers, {.remote = "10.1.2.3"}, true},
           {peers, {.remote = "10.1.2.3", .ipv6 = true}, true},
           {peers, {.local = "10.1.2.3"}, false},
           {peers, {.local = "::1", .remote = "2001:db8::9"}, true},
           {all6, {}, false},
           {all6, {.ipv6 = true}, false},
           {all6, {.local = "::1", .remote = "::1"}, true},
           // A zero linger took the remote port, but not the rest.
           {web, {.local_port = 80, .remote_port = 0}, true},
           {web, {.local_port = 50000, .remote_port = 0}, false},
           {peers, {.remote = "10.1.2.3", .remote_port = 0}, true},
           // A listener, in a dump or closed.
           {web, {.state = TcpState::kListen, .local_port = 80, .remote = "0.0.0.0"}, false},
           {web, {.local_port = 80, .remote = "0.0.0.0", .remote_port = 0}, false},
           {all6, {.local = "::", .remote = "::", .remote_port = 0}, false}}) {
    const Bytes bytes = message(row.socket);
    CAPTURE(row.socket.remote);
    CAPTURE(row.socket.local_port);
    CHECK(excluded(row.excludes, first_row(bytes)) == row.excluded);
  }
}

TEST_CASE("both programs leave out what is excluded, and nothing else") {
  const auto seed = std::random_device{}();
  CAPTURE(seed);
  Random random(seed);
  std::size_t out = 0;
  constexpr std::size_t kRows = 100'000;
  for (std::size_t i = 0; i < kRows;) {
    Excludes excludes = random.excludes();
    if (excludes.empty()) excludes.loopback = true;
    const ExcludePrograms programs = valid_programs(excludes);
    const Bytecode dump(programs.dump);
    const Filter events(programs.events);
    for (const std::size_t end = i + 50; i < end; ++i) {
      const Bytes bytes = message(random.socket());
      const SocketRow row = first_row(bytes);
      const bool wanted = !excluded(excludes, row);
      out += wanted ? 0 : 1;
      if (dump.accepts(row) != wanted || events.accepts(bytes) != wanted) {
        CAPTURE(to_string(Endpoint{row.local_address(), row.local_port}));
        CAPTURE(to_string(Endpoint{row.remote_address(), row.remote_port}));
        CHECK(dump.accepts(row) == wanted);
        CHECK(events.accepts(bytes) == wanted);
      }
    }
  }
  CHECK(out > kRows / 20);
  CHECK(out < kRows - kRows / 20);
}

TEST_CASE("what is accepted fits a socket's filter together with that of its shard") {
  Excludes excludes;
  for (std::uint16_t port = 1; port <= 480; ++port) excludes.ports.push_back({port, port});
  std::size_t longest = 0;
  for (std::uint32_t i = 0; i < 100; ++i) {
    const auto raw = htonl(0x0a000000 + i * 2);
    excludes.peers.push_back({IpAddress::v4(&raw), 127});
    const auto programs = compile_excludes(excludes);
    if (!programs) break;
    longest = std::max(longest, programs->events.size() + kShardInstructions);
  }
  CHECK(longest <= BPF_MAXINSNS);
  CHECK(longest > BPF_MAXINSNS - 12);
}

TEST_CASE("no excludes, no programs; too many are refused by their numbers") {
  CHECK(compile_excludes({})->dump.empty());
  CHECK(compile_excludes({})->events.empty());

  Excludes excludes;
  const auto fill = [&](std::size_t prefixes4, std::size_t prefixes6, std::size_t ports) {
    excludes = {};
    for (std::size_t i = 0; i < prefixes4; ++i) {
      const auto raw = htonl(static_cast<std::uint32_t>(0x0a000000 + i * 2));
      excludes.peers.push_back({IpAddress::v4(&raw), 127});
    }
    for (std::size_t i = 0; i < prefixes6; ++i) {
      excludes.peers.push_back(prefix(("2001:db8::" + std::to_string(i % 9999)).c_str()));
    }
    for (std::size_t i = 0; i < ports; ++i) {
      excludes.ports.push_back(
          {static_cast<std::uint16_t>(i + 1), static_cast<std::uint16_t>(i + 1)});
    }
    return compile_excludes(excludes).ok();
  };
  struct Row {
    std::size_t prefixes4;
    std::size_t prefixes6;
    std::size_t ports;
    bool fits;
  };
  for (const Row& row :
       {Row{1, 0, 0, true}, Row{0, 1, 0, true}, Row{0, 0, 1, true}, Row{500, 0, 0, true},
        Row{0, 300, 0, true}, Row{0, 0, 500, true}, Row{200, 100, 100, true}, Row{515, 0, 0, false},
        Row{0, 320, 0, false}, Row{0, 0, 520, false}, Row{20'000, 0, 0, false}}) {
    CAPTURE(row.prefixes4);
    CAPTURE(row.prefixes6);
    CAPTURE(row.ports);
    CHECK(fill(row.prefixes4, row.prefixes6, row.ports) == row.fits);
    if (row.fits) valid_programs(excludes);
  }
  fill(515, 0, 2);
  CHECK(compile_excludes(excludes).error().message.substr(0, 76) ==
        "515 prefixes and 2 ranges of ports are more than the kernel can exclude: the");
}
