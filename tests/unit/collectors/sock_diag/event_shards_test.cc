// The event socket that is several: each event comes once, whatever its ports, and what is done to
// one shard is done to all.
#include "collectors/sock_diag/event_shards.h"

#include <doctest/doctest.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <deque>
#include <map>
#include <set>

#include "tests/e2e/sockets.h"
#include "tests/support/diag_builder.h"

using namespace tcpvitals;
using namespace tcpvitals::testing;

namespace {

// A shard of the test's own making: what it is given to answer, and what was asked of it.
struct FakeShard final : DiagSocket {
  Fd event{::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)};
  std::deque<Result<std::vector<Bytes>>> answers;  // an empty batch is an overrun
  std::vector<Bytes> current;
  std::vector<std::span<const std::byte>> datagrams;
  std::vector<int> nsids;
  std::vector<Excludes> excludes;
  bool refuses = false;
  int own_nsid = -2;  // of all namespaces; -2: listens to its own
  std::uint64_t lost = 0;

  void answer(Result<std::vector<Bytes>> with) {
    answers.push_back(std::move(with));
    ::eventfd_write(event.get(), 1);
  }

  int fd() const override { return event.get(); }
  Result<void> request_dump(std::uint32_t, DumpDetail) override { return {}; }
  Result<void> reopen() override { return {}; }
  Result<void> exclude(const Excludes& wanted) override {
    if (refuses) return Error{"too many"};
    excludes.push_back(wanted);
    return {};
  }
  Result<void> listen_all_namespaces(int own) override {
    if (refuses) return Error{"not permitted"};
    own_nsid = own;
    return {};
  }
  Result<void> listen_own_namespace() override {
    own_nsid = -2;
    return {};
  }
  Result<Received> receive() override {
    if (answers.empty()) return Received{};
    auto next = std::move(answers.front());
    answers.pop_front();
    eventfd_t ignored;
    if (answers.empty()) ::eventfd_read(event.get(), &ignored);
    if (!next) return std::move(next.error());
    if (next->empty()) return Received{.overrun = true};
    current = std::move(*next);
    datagrams.assign(current.begin(), current.end());
    nsids.assign(current.size(), 7);
    return Received{datagrams, nsids};
  }
  std::uint64_t dropped() override { return lost; }
  std::size_t buffer_bytes() const override { return 1000; }
};

struct Fakes {
  std::vector<FakeShard*> shards;
  std::unique_ptr<EventShards> all;

  Fakes() {
    std::vector<std::unique_ptr<DiagSocket>> made;
    for (std::size_t i = 0; i < 3; ++i) {
      auto shard = std::make_unique<FakeShard>();
      shards.push_back(shard.get());
      made.push_back(std::move(shard));
    }
    auto joined = EventShards::join(std::move(made));
    REQUIRE(joined.ok());
    all = std::move(*joined);
  }
};

std::vector<Bytes> events(std::initializer_list<std::uint64_t> cookies) {
  std::vector<Bytes> all;
  for (const std::uint64_t cookie : cookies) all.push_back(message({.cookie = cookie}));
  return all;
}

std::set<std::uint64_t> cookies(const Received& received) {
  CHECK(received.nsids.size() == received.datagrams.size());
  std::set<std::uint64_t> all;
  for (const auto& datagram : received.datagrams) {
    SocketRow row;
    REQUIRE(InetDiagReader(datagram).next(row) == InetDiagReader::Next::kRow);
    CHECK(all.insert(row.cookie).second);
  }
  return all;
}

bool readable(const DiagSocket& socket) {
  pollfd wait{socket.fd(), POLLIN, 0};
  return ::poll(&wait, 1, 0) == 1;
}

}  // namespace

TEST_CASE("what waits in all shards comes together, and then nothing") {
  Fakes fakes;
  CHECK_FALSE(readable(*fakes.all));
  fakes.shards[0]->answer(events({1, 2}));
  fakes.shards[2]->answer(events({3}));
  CHECK(readable(*fakes.all));
  CHECK(cookies(*fakes.all->receive()) == std::set<std::uint64_t>{1, 2, 3});
  CHECK(fakes.all->receive()->datagrams.empty());
  CHECK_FALSE(readable(*fakes.all));
}

TEST_CASE("an overrun or an error of one shard costs no event of the others") {
  for (const bool error : {false, true}) {
    CAPTURE(error);
    Fakes fakes;
    fakes.shards[0]->answer(events({1}));
    fakes.shards[1]->answer(error ? Result<std::vector<Bytes>>(Error{"no memory"})
                                  : Result<std::vector<Bytes>>(events({})));
    fakes.shards[2]->answer(events({2}));
    std::set<std::uint64_t> seen;
    int failures = 0;
    for (int i = 0; i < 10; ++i) {
      const auto received = fakes.all->receive();
      if (!received || received->overrun) {
        CHECK(received.ok() != error);
        ++failures;
      } else {
        seen.merge(cookies(*received));
      }
    }
    CHECK(failures == 1);
    CHECK(seen == std::set<std::uint64_t>{1, 2});
  }
}

TEST_CASE("excludes that one shard refuses are taken back from the others") {
  const Excludes before{.loopback = true};
  const Excludes refused{.ports = {{80, 80}}};
  for (std::size_t refusing = 0; refusing < 3; ++refusing) {
    CAPTURE(refusing);
    Fakes fakes;
    REQUIRE(fakes.all->exclude(before).ok());
    fakes.shards[refusing]->refuses = true;
    const auto done = fakes.all->exclude(refused);
    REQUIRE_FALSE(done.ok());
    CHECK(done.error().message == "too many");
    for (const FakeShard* shard : fakes.shards) CHECK(shard->excludes.back() == before);
    fakes.shards[refusing]->refuses = false;
    REQUIRE(fakes.all->exclude(refused).ok());
    for (const FakeShard* shard : fakes.shards) CHECK(shard->excludes.back() == refused);
  }
}

TEST_CASE("drops and buffers are of all shards, and all listen to the same namespaces") {
  Fakes fakes;
  for (std::size_t i = 0; i < 3; ++i) fakes.shards[i]->lost = i + 1;
  CHECK(fakes.all->dropped() == 6);
  CHECK(fakes.all->buffer_bytes() == 3000);
  REQUIRE(fakes.all->listen_all_namespaces(5).ok());
  for (const FakeShard* shard : fakes.shards) CHECK(shard->own_nsid == 5);
  REQUIRE(fakes.all->listen_own_namespace().ok());
  for (const FakeShard* shard : fakes.shards) CHECK(shard->own_nsid == -2);
  fakes.shards[1]->refuses = true;
  CHECK_FALSE(fakes.all->listen_all_namespaces(5).ok());
}

TEST_CASE("an event socket takes no dumps") {
  Fakes fakes;
  CHECK_FALSE(fakes.all->request_dump(0xfff, DumpDetail::kNone).ok());
  CHECK_FALSE(fakes.all->reopen().ok());
}

TEST_CASE("an event passes the filter of exactly one shard, and the shares are even") {
  // A socket's filter sees a datagram as an event socket's does.
  std::map<std::uint32_t, std::uint64_t> shares;
  for (std::uint32_t index = 0; index < kEventShards; ++index) {
    int pair[2];
    REQUIRE(::socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) == 0);
    const Fd sender(pair[0]);
    const Fd receiver(pair[1]);
    auto filter = shard_filter({index, kEventShards});
    CHECK(filter.size() == kShardInstructions);
    filter.push_back(BPF_STMT(BPF_RET | BPF_K, ~0U));
    const sock_fprog program{static_cast<unsigned short>(filter.size()), filter.data()};
    REQUIRE(::setsockopt(receiver.get(), SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) ==
            0);
    for (std::uint64_t cookie = 0x100000001; cookie <= 0x100000040; ++cookie) {
      // The same ports each time, and none at the remote end, as a closed listener has it.
      const Bytes sent = message({.cookie = cookie, .remote_port = 0});
      REQUIRE(::send(sender.get(), sent.data(), sent.size(), 0) ==
              static_cast<ssize_t>(sent.size()));
      Bytes got(4096);
      const ssize_t n = ::recv(receiver.get(), got.data(), got.size(), 0);
      if (n < 0) continue;
      CHECK(static_cast<std::size_t>(n) == sent.size());  // whole
      CHECK((cookie & (kEventShards - 1)) == index);
      ++shares[index];
    }
  }
  REQUIRE(shares.size() == kEventShards);
  for (const auto& [index, share] : shares) CHECK(share == 0x40 / kEventShards);
}

TEST_CASE("the kernel's events come once each: closed, aborted, listening, and never connected") {
  using namespace tcpvitals::load;
  auto opened = open_diag_sockets(1 << 20);
  REQUIRE(opened.ok());
  DiagSocket& kernel = *opened->events;
  CHECK(kernel.buffer_bytes() == 2 << 20);  // the kernel doubles what is wished for
  REQUIRE(kernel.exclude({.ports = {{1, 1}}}).ok());
  std::set<std::uint64_t> closed;
  const auto note = [&](const Fd& fd) {
    std::uint64_t cookie = 0;
    socklen_t size = sizeof cookie;
    REQUIRE(::getsockopt(fd.get(), SOL_SOCKET, SO_COOKIE, &cookie, &size) == 0);
    closed.insert(cookie);
  };
  for (int i = 0; i < 40; ++i) {
    Fd listener = listen_on(address_of("127.0.0.1", 0));
    Address at = address_of("127.0.0.1", 0);
    REQUIRE(::getsockname(listener.get(), reinterpret_cast<sockaddr*>(&at.storage), &at.size) == 0);
    Fd client = connect_to(at);
    Fd server = accept_from(listener);
    const Fd unused(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    note(listener);
    note(client);
    note(server);
    note(unused);
    if (i % 2 == 0) abort_connection(std::move(client));
  }
  std::multiset<std::uint64_t> seen;
  for (int tries = 0; tries < 1000 && seen.size() < closed.size(); ++tries) {
    pollfd wait{kernel.fd(), POLLIN, 0};
    ::poll(&wait, 1, 10);
    const auto received = kernel.receive();
    REQUIRE(received.ok());
    for (const auto& datagram : received->datagrams) {
      SocketRow row;
      REQUIRE(InetDiagReader(datagram).next(row) == InetDiagReader::Next::kRow);
      if (closed.count(row.cookie) != 0) seen.insert(row.cookie);
    }
  }
  CHECK(seen == std::multiset<std::uint64_t>(closed.begin(), closed.end()));
  CHECK(kernel.dropped() == 0);
}
