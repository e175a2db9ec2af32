// EventShards: the event socket, made of several that share the events between them.
//
// A socket's receive buffer is what bounds a burst of events. Without a privilege the kernel grants
// net.core.rmem_max, on most hosts 212,992: 425,984 bytes, 330 events, a burst of 8 ms at 20,000
// closes a second. Each socket has a buffer of its own, so eight hold eight times as much. Measured
// at that limit, with a reader that sleeps 20 ms between looks at 40,000 events: one socket keeps a
// third, eight keep all; churn is as fast with eight as with one.
//
// A classic BPF filter gives each socket its share: the events whose cookie's low bits are its
// number. The kernel numbers sockets one after the other, so the shares are even whatever the ports
// are, a single pair of ports that is used again and again included; and each socket that ends
// sends one event, to one shard, whatever is left of its ports.
//
// Order: events of one socket stay in order. What waited in all shards when receive() was called
// comes together, up to kEventBatch of each shard; between sockets there is no order within that.
// So the event of a listener that closed comes at the latest with those of its connections that
// the kernel sent after it, unless more than a batch waits.
#pragma once

#include <linux/filter.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "base/fd.h"
#include "collectors/sock_diag/netlink.h"

namespace tcpvitals {

inline constexpr std::size_t kEventShards = 8;
inline constexpr std::size_t kEventBatch = 32;  // of one shard, read with one system call

// One socket's share of the events. `of` is a power of two, at most 256.
struct EventShard {
  std::uint32_t index = 0;
  std::uint32_t of = 1;
};

// Classic BPF, kShardInstructions long, that goes on with what is appended to it where an event
// belongs to `shard`, and drops the event otherwise. Pure.
inline constexpr std::size_t kShardInstructions = 4;
std::vector<sock_filter> shard_filter(const EventShard& shard);

class EventShards final : public DiagSocket {
 public:
  // At least one, each with its own share of the events, none bound to another namespace.
  static Result<std::unique_ptr<EventShards>> join(std::vector<std::unique_ptr<DiagSocket>> shards);

  int fd() const override { return epoll_.get(); }
  Result<void> request_dump(std::uint32_t states, DumpDetail detail) override;
  Result<void> exclude(const Excludes& excludes) override;  // in all shards, or in none
  Result<void> reopen() override;
  Result<void> listen_all_namespaces(int own_nsid) override;
  Result<void> listen_own_namespace() override;
  Result<Received> receive() override;
  std::uint64_t dropped() override;
  std::size_t buffer_bytes() const override;

 private:
  EventShards(std::vector<std::unique_ptr<DiagSocket>> shards, Fd epoll)
      : shards_(std::move(shards)), epoll_(std::move(epoll)) {}

  std::vector<std::unique_ptr<DiagSocket>> shards_;
  Fd epoll_;
  Excludes excludes_;
  std::vector<std::span<const std::byte>> datagrams_;
  std::vector<int> nsids_;
  std::optional<Result<Received>> held_;  // what went wrong after others had brought events
};

}  // namespace tcpvitals
