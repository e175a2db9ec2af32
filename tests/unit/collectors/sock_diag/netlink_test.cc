// What the agent says of a kernel that has no sock_diag, or no TCP in it.
#include "collectors/sock_diag/netlink.h"

#include <doctest/doctest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include <cerrno>
#include <cstddef>
#include <deque>
#include <thread>

#include "tests/support/diag_builder.h"

using namespace tcpvitals;
using namespace tcpvitals::testing;

namespace {

// What a thread gets whose netlink sockets, or whose binds, the kernel refuses with `error`.
Result<DiagSockets> open_where_refused(int error, unsigned call = SYS_socket) {
  Result<DiagSockets> opened = Error{"the test could not set its filter"};
  std::thread([&] {
    sock_filter program[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, args[0])),
        call == SYS_socket ? sock_filter BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AF_NETLINK, 0, 1)
                           : sock_filter BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 0, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | static_cast<unsigned>(error)),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
    const sock_fprog filter{std::size(program), program};
    if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return;
    if (::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) != 0) return;
    opened = open_diag_sockets(1 << 20);
  }).join();
  return opened;
}

// Answers a dump with what it was given.
struct AnsweringSocket final : DiagSocket {
  std::deque<Bytes> answers;
  Bytes current;
  std::span<const std::byte> datagram;
  std::uint32_t states = 0;

  int fd() const override { return -1; }
  Result<void> request_dump(std::uint32_t asked, DumpDetail) override {
    states = asked;
    return {};
  }
  Result<void> exclude(const Excludes&) override { return {}; }
  Result<void> reopen() override { return {}; }
  Result<void> listen_all_namespaces(int) override { return {}; }
  Result<void> listen_own_namespace() override { return {}; }
  Result<Received> receive() override {
    if (answers.empty()) return Received{};
    current = std::move(answers.front());
    answers.pop_front();
    datagram = current;
    return Received{{&datagram, 1}, {&kOwnNamespace, 1}};
  }
  std::uint64_t dropped() override { return 0; }
  std::size_t buffer_bytes() const override { return 0; }
};

Bytes done_with(int error) {
  const std::int32_t status = -error;
  Bytes body;
  append(body, &status, sizeof status);
  return wrap(NLMSG_DONE, body);
}

Result<void> answer(std::deque<Bytes> answers) {
  AnsweringSocket socket;
  socket.answers = std::move(answers);
  auto expected = expect_dumps(socket);
  CHECK(socket.states == 1U << static_cast<unsigned>(TcpState::kListen));
  return expected;
}

}  // namespace

TEST_CASE("a kernel without sock_diag is absent, with the way out; one that denies it fails") {
  for (const int error : {EPROTONOSUPPORT, EAFNOSUPPORT, ESOCKTNOSUPPORT}) {
    CAPTURE(error);
    const auto opened = open_where_refused(error);
    REQUIRE_FALSE(opened.ok());
    CHECK(opened.error().is_absent());
    for (const char* word : {"inet_diag", "tcp_diag", "CONFIG_INET_DIAG", "gVisor"}) {
      CHECK(opened.error().message.find(word) != std::string::npos);
    }
  }
  for (const int error : {EACCES, EPERM, EMFILE}) {
    CAPTURE(error);
    const auto opened = open_where_refused(error);
    REQUIRE_FALSE(opened.ok());
    CHECK_FALSE(opened.error().is_absent());
    CHECK(opened.error().message.find("sock_diag") != std::string::npos);
  }
  const auto unbound = open_where_refused(EPERM, SYS_bind);
  REQUIRE_FALSE(unbound.ok());
  CHECK(unbound.error().message == "bind netlink sock_diag: Operation not permitted");
  CHECK_FALSE(unbound.error().is_absent());
  CHECK(open_diag_sockets(1 << 20).ok());
}

TEST_CASE("a kernel whose sock_diag has no TCP is absent; any other refusal is a failure") {
  for (const int error : {ENOENT, EOPNOTSUPP, EPROTONOSUPPORT, EINVAL}) {
    CAPTURE(error);
    for (const Bytes& refusal : {kernel_error(error), done_with(error)}) {
      const auto expected = answer({refusal});
      REQUIRE_FALSE(expected.ok());
      CHECK(expected.error().is_absent());
      CHECK(expected.error().message.find("tcp_diag") != std::string::npos);
    }
  }
  for (const int error : {EPERM, EACCES, ENOMEM}) {
    const auto expected = answer({kernel_error(error)});
    REQUIRE_FALSE(expected.ok());
    CHECK_FALSE(expected.error().is_absent());
  }
}

TEST_CASE("listeners and the end of the dump are an answer; silence and garbage are failures") {
  const Bytes listener = message({.state = TcpState::kListen, .has_info = false});
  CHECK(answer({join({listener, done()})}).ok());
  CHECK(answer({listener, listener, done()}).ok());
  for (const std::deque<Bytes>& bad :
       {std::deque<Bytes>{}, std::deque<Bytes>{listener}, std::deque<Bytes>{Bytes(9)}}) {
    const auto expected = answer(bad);
    REQUIRE_FALSE(expected.ok());
    CHECK_FALSE(expected.error().is_absent());
  }
}
