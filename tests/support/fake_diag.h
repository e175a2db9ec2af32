// A kernel of the test's own making behind DiagSocket: it holds sockets, answers dumps with them,
// sends events, and fails when it is told to.
#pragma once

#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "base/fd.h"
#include "collectors/sock_diag/exclude.h"
#include "collectors/sock_diag/netlink.h"
#include "tests/support/diag_builder.h"

namespace tcpvitals::testing {

// Thread-safe: the test changes it while the sampler reads.
struct FakeKernel {
  std::mutex mutex;
  std::vector<FakeSocket> sockets;
  std::deque<std::pair<int, Bytes>> events;  // with the nsid that each comes from
  Excludes event_excludes;
  Excludes dump_excludes;
  bool all_namespaces = false;  // the event socket receives
  bool overrun = false;
  std::uint64_t dropped = 0;
  int event_fd = -1;

  int calls = 0;                    // of every socket
  int fail_call = -1;               // the number of the one call that fails
  bool garbage = false;             // dumps answer with bytes that are no messages
  bool truncate = false;            // dumps answer with a datagram cut short
  bool silent = false;              // dumps never end
  bool fail_listeners = false;      // only their dumps fail
  std::optional<Excludes> refused;  // these, by the sockets that dump: the event socket takes them

  int full_dumps = 0;  // asked for
  int listener_dumps = 0;

  void send(const Bytes& event, int nsid = kOwnNamespace) {
    const std::lock_guard lock(mutex);
    SocketRow row;
    if (InetDiagReader(event).next(row) == InetDiagReader::Next::kRow &&
        excluded(event_excludes, row)) {
      return;
    }
    events.push_back({nsid, event});
    ::eventfd_write(event_fd, 1);
  }
  void set(std::vector<FakeSocket> now) {
    const std::lock_guard lock(mutex);
    sockets = std::move(now);
  }
  void lose_events(std::uint64_t count) {
    const std::lock_guard lock(mutex);
    overrun = true;
    dropped += count;
    ::eventfd_write(event_fd, 1);
  }
  bool call_fails() { return calls++ == fail_call; }
};

class FakeDiagSocket final : public DiagSocket {
 public:
  enum class Role { kEvents, kListeners, kDump };

  FakeDiagSocket(FakeKernel& kernel, Role role)
      : kernel_(kernel), role_(role), fd_(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {
    if (role == Role::kEvents) kernel.event_fd = fd_.get();
  }

  int fd() const override { return fd_.get(); }

  Result<void> request_dump(std::uint32_t states, DumpDetail) override {
    const std::lock_guard lock(kernel_.mutex);
    if (kernel_.call_fails()) return errno_error("request", EIO);
    ++(role_ == Role::kListeners ? kernel_.listener_dumps : kernel_.full_dumps);
    if (role_ == Role::kListeners && kernel_.fail_listeners) return errno_error("request", EIO);
    pending_.clear();
    Bytes datagram;
    for (const FakeSocket& s : kernel_.sockets) {
      if ((states >> static_cast<unsigned>(s.state) & 1) == 0) continue;
      const Bytes one = message(s);
      if (excluded(kernel_.dump_excludes, first_row(one))) continue;
      datagram.insert(datagram.end(), one.begin(), one.end());
    }
    if (kernel_.garbage) datagram = Bytes(100, std::byte{0xa5});
    if (kernel_.truncate) datagram.resize(datagram.size() - 8);
    if (!datagram.empty()) pending_.push_back({kOwnNamespace, datagram});
    if (!kernel_.silent) pending_.push_back({kOwnNamespace, done()});
    ::eventfd_write(fd_.get(), 1);
    return {};
  }

  Result<void> exclude(const Excludes& excludes) override {
    const std::lock_guard lock(kernel_.mutex);
    if (kernel_.call_fails() || (role_ != Role::kEvents && kernel_.refused == excludes)) {
      return errno_error("exclude", ENOMEM);
    }
    (role_ == Role::kEvents ? kernel_.event_excludes : kernel_.dump_excludes) = excludes;
    return {};
  }

  Result<void> reopen() override {
    const std::lock_guard lock(kernel_.mutex);
    if (kernel_.call_fails()) return errno_error("reopen", EMFILE);
    pending_.clear();
    return {};
  }

  Result<void> listen_all_namespaces(int) override {
    kernel_.all_namespaces = true;
    return {};
  }
  Result<void> listen_own_namespace() override {
    kernel_.all_namespaces = false;
    return {};
  }

  Result<Received> receive() override {
    const std::lock_guard lock(kernel_.mutex);
    if (kernel_.call_fails()) return errno_error("receive", ENOMEM);
    Received received;
    if (role_ == Role::kEvents) {
      eventfd_t ignored;
      ::eventfd_read(fd_.get(), &ignored);
      if (std::exchange(kernel_.overrun, false)) {
        received.overrun = true;
        return received;
      }
    }
    auto& queue = role_ == Role::kEvents ? kernel_.events : pending_;
    if (queue.empty()) return received;
    current_ = std::move(queue.front());
    queue.pop_front();
    span_ = current_.second;
    received.datagrams = {&span_, 1};
    received.nsids = {&current_.first, 1};
    return received;
  }

  std::uint64_t dropped() override { return kernel_.dropped; }
  std::size_t buffer_bytes() const override { return 1 << 20; }

 private:
  FakeKernel& kernel_;
  const Role role_;
  Fd fd_;
  std::deque<std::pair<int, Bytes>> pending_;
  std::pair<int, Bytes> current_;
  std::span<const std::byte> span_;
};

inline DumpSockets fake_dump_sockets(FakeKernel& kernel) {
  return {std::make_unique<FakeDiagSocket>(kernel, FakeDiagSocket::Role::kListeners),
          std::make_unique<FakeDiagSocket>(kernel, FakeDiagSocket::Role::kDump)};
}

inline DiagSockets fake_sockets(FakeKernel& kernel) {
  auto [listeners, dump] = fake_dump_sockets(kernel);
  return {std::make_unique<FakeDiagSocket>(kernel, FakeDiagSocket::Role::kEvents),
          std::move(listeners), std::move(dump)};
}

inline FakeSocket fake_listener(std::uint16_t port) {
  return {.cookie = 1000U + port,
          .state = TcpState::kListen,
          .local = "0.0.0.0",
          .local_port = port,
          .remote = "0.0.0.0",
          .remote_port = 0,
          .has_info = false};
}

}  // namespace tcpvitals::testing
