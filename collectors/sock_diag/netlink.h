// DiagSocket: the kernel side of the connections collector, and its one seam for tests and faults.
//
// Three are used, all of NETLINK_SOCK_DIAG, none needs a privilege: one for full dumps, one for
// listener dumps (so that they never wait for a full one), one that receives DESTROY events, which
// is several sockets of the kernel's (see event_shards.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>

#include "base/fd.h"
#include "base/result.h"
#include "collectors/sock_diag/exclude.h"

namespace tcpvitals {

// Received::nsids for events of our own namespace.
inline constexpr int kOwnNamespace = -1;

// What one receive() brought.
struct Received {
  // Each one datagram; valid until the next receive() on the same socket. Empty: nothing is
  // pending.
  std::span<const std::span<const std::byte>> datagrams;
  // The namespace of each, by its nsid in ours; kOwnNamespace unless listen_all_namespaces().
  std::span<const int> nsids;
  // Events were dropped since the last receive(), because the buffer was full (ENOBUFS).
  bool overrun = false;
};

// How much of each socket a dump tells, besides what every row has: addresses, state, queues,
// cgroup.
enum class DumpDetail {
  kNone,
  kCounters,    // tcp_info
  kEverything,  // all that read_detail() reads
};

// Not thread-safe: the sampler's thread only.
class DiagSocket {
 public:
  virtual ~DiagSocket() = default;

  virtual int fd() const = 0;

  // Asks for all TCP sockets, both families in one walk of the kernel's hash table, whose state is
  // in `states` (bit n: state n). The rows come by receive(); the kernel produces them as they are
  // read, at most 32 KiB each time.
  virtual Result<void> request_dump(std::uint32_t states, DumpDetail detail) = 0;

  // From now on the kernel keeps what is excluded out of this socket's dumps and events, in place
  // of what was excluded before; see exclude.h. Events that wait in the buffer, and a dump that is
  // under way, stay as they are. If it fails (more than the kernel can exclude), nothing changes.
  virtual Result<void> exclude(const Excludes& excludes) = 0;

  // After a dump that broke off: forgets what is left of it, but neither what is excluded nor the
  // namespace. The socket's events are lost, so this is for sockets without any.
  virtual Result<void> reopen() = 0;

  // From now on events of every namespace that has an nsid in ours come here too. `own_nsid`: what
  // ours is called by itself, -1 if nothing. Needs CAP_NET_BROADCAST.
  virtual Result<void> listen_all_namespaces(int own_nsid) = 0;

  // From now on only events of our own come. One of another that waits is told as ours.
  virtual Result<void> listen_own_namespace() = 0;

  // Never blocks.
  virtual Result<Received> receive() = 0;

  // Events the kernel could not deliver to this socket, since it was opened. Exact: the kernel's
  // own count of drops.
  virtual std::uint64_t dropped() = 0;

  // The receive buffer the kernel granted, in bytes.
  virtual std::size_t buffer_bytes() const = 0;
};

// Whether the kernel answers `socket` with a dump of TCP sockets, by a dump of the listeners; the
// first one makes it load its modules. Error::absent, with the way out, if it has no TCP in
// sock_diag.
Result<void> expect_dumps(DiagSocket& socket);

struct DiagSockets {
  std::unique_ptr<DiagSocket> events;
  std::unique_ptr<DiagSocket> listeners;
  std::unique_ptr<DiagSocket> dump;
};

// The real ones, in the namespace of the calling thread. `event_buffer_bytes` is what is wished
// for in all shards together: it is forced with CAP_NET_ADMIN, else each shard's part is granted up
// to net.core.rmem_max. Error::absent, with the way out, where the kernel has no sock_diag or no
// TCP in it.
Result<DiagSockets> open_diag_sockets(std::size_t event_buffer_bytes);

struct DumpSockets {
  std::unique_ptr<DiagSocket> listeners;
  std::unique_ptr<DiagSocket> dump;
};

// Runs its argument in the network namespace that a socket belongs to.
using EnterNamespace = std::function<Result<void>(const std::function<Result<void>()>&)>;

// In the namespace that `enter` enters; they are reopened there too.
Result<DumpSockets> open_dump_sockets(EnterNamespace enter);

}  // namespace tcpvitals
