// EventReader: the DESTROY events of all namespaces that are watched, from the kernel's buffer to
// the accounts, and what is known of events that were lost.
//
// Not thread-safe: the sampler's thread only.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "collectors/connections/host_account.h"
#include "collectors/sock_diag/netlink.h"

namespace tcpvitals {

class EventReader {
 public:
  // `host` must outlive it.
  EventReader(std::unique_ptr<DiagSocket> socket, HostAccount& host);

  int fd() const { return socket_->fd(); }

  // Until then events gather, and nobody needs to wake up for them.
  TimePoint quiet_until() const { return quiet_until_; }

  // Reads what waits and counts it; no more than the buffer holds. Never blocks.
  void read();

  // See DiagSocket.
  Result<void> exclude(const Excludes& excludes) { return socket_->exclude(excludes); }

  Result<void> listen_to_all(int own_nsid) { return socket_->listen_all_namespaces(own_nsid); }
  Result<void> listen_to_ours();

  // Whether events were lost since the last call: only a dump can tell what is left.
  bool take_loss() { return std::exchange(loss_, false); }

  // Of events that could not be read, since the last call.
  std::optional<Error> take_error() { return std::exchange(error_, std::nullopt); }

  // The longest time between two looks since the last call.
  Clock::duration take_longest_pause() { return std::exchange(longest_pause_, {}); }

  std::uint64_t lost() const { return socket_->dropped() + failures_; }
  std::uint64_t overruns() const { return overruns_; }  // times that some were found lost
  std::size_t buffer_bytes() const { return socket_->buffer_bytes(); }

 private:
  void count(const Received& batch);
  void fail(Error error);

  const std::unique_ptr<DiagSocket> socket_;
  HostAccount& host_;
  const Clock::duration pause_;
  const std::size_t turn_;  // events
  std::vector<std::pair<NamespaceAccount*, SocketRow>> rows_;

  TimePoint quiet_until_{};
  TimePoint last_look_;
  Clock::duration longest_pause_{};
  bool loss_ = false;
  std::uint64_t overruns_ = 0;
  std::uint64_t failures_ = 0;  // datagrams that could not be read
  std::optional<Error> error_;
};

}  // namespace tcpvitals
