#include "collectors/sock_diag/event_shards.h"

#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <sys/epoll.h>

#include <array>
#include <bit>
#include <cerrno>
#include <utility>

namespace tcpvitals {
namespace {

// The cookie's lowest byte in a DESTROY datagram: nlmsghdr, inet_diag_msg.
constexpr std::uint32_t kCookie =
    sizeof(nlmsghdr) + offsetof(inet_diag_msg, id) + offsetof(inet_diag_sockid, idiag_cookie);
static_assert(std::endian::native == std::endian::little);

Error no_dumps() { return {"an event socket takes no dumps"}; }

}  // namespace

std::vector<sock_filter> shard_filter(const EventShard& shard) {
  return {BPF_STMT(BPF_LD | BPF_ABS | BPF_B, kCookie), BPF_STMT(BPF_ALU | BPF_AND, shard.of - 1),
          BPF_JUMP(BPF_JMP | BPF_JEQ, shard.index, 1, 0), BPF_STMT(BPF_RET | BPF_K, 0)};
}

Result<std::unique_ptr<EventShards>> EventShards::join(
    std::vector<std::unique_ptr<DiagSocket>> shards) {
  Fd epoll(::epoll_create1(EPOLL_CLOEXEC));
  if (!epoll.valid()) return errno_error("epoll for DESTROY events", errno);
  for (std::uint32_t i = 0; i < shards.size(); ++i) {
    epoll_event wanted{.events = EPOLLIN, .data = {.u32 = i}};
    if (::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, shards[i]->fd(), &wanted) < 0) {
      return errno_error("epoll for DESTROY events", errno);
    }
  }
  return std::unique_ptr<EventShards>(new EventShards(std::move(shards), std::move(epoll)));
}

Result<void> EventShards::request_dump(std::uint32_t /*states*/, DumpDetail /*detail*/) {
  return no_dumps();
}

Result<void> EventShards::reopen() { return no_dumps(); }

Result<void> EventShards::exclude(const Excludes& excludes) {
  for (std::size_t i = 0; i < shards_.size(); ++i) {
    auto done = shards_[i]->exclude(excludes);
    if (done) continue;
    // The kernel takes back what it had: it counts both filters against its limit while it puts
    // one in place of the other, in either direction.
    for (std::size_t changed = 0; changed < i; ++changed) shards_[changed]->exclude(excludes_).ok();
    return done;
  }
  excludes_ = excludes;
  return {};
}

Result<void> EventShards::listen_all_namespaces(int own_nsid) {
  for (const auto& shard : shards_) {
    auto listening = shard->listen_all_namespaces(own_nsid);
    if (!listening) return listening;  // a privilege, which all lack
  }
  return {};
}

Result<void> EventShards::listen_own_namespace() {
  for (const auto& shard : shards_) {
    auto listening = shard->listen_own_namespace();
    if (!listening) return listening;
  }
  return {};
}

Result<Received> EventShards::receive() {
  if (held_) return *std::exchange(held_, std::nullopt);
  datagrams_.clear();
  nsids_.clear();
  std::array<epoll_event, kEventShards> ready;
  const int n = ::epoll_wait(epoll_.get(), ready.data(), static_cast<int>(ready.size()), 0);
  if (n < 0 && errno != EINTR) return errno_error("wait for DESTROY events", errno);
  for (int i = 0; i < n; ++i) {
    auto received = shards_[ready[static_cast<std::size_t>(i)].data.u32]->receive();
    if (!received || received->overrun) {
      if (datagrams_.empty()) return received;
      held_ = std::move(received);
      break;
    }
    datagrams_.insert(datagrams_.end(), received->datagrams.begin(), received->datagrams.end());
    nsids_.insert(nsids_.end(), received->nsids.begin(), received->nsids.end());
  }
  return Received{datagrams_, nsids_};
}

std::uint64_t EventShards::dropped() {
  std::uint64_t all = 0;
  for (const auto& shard : shards_) all += shard->dropped();
  return all;
}

std::size_t EventShards::buffer_bytes() const {
  std::size_t all = 0;
  for (const auto& shard : shards_) all += shard->buffer_bytes();
  return all;
}

}  // namespace tcpvitals
