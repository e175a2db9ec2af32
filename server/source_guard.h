// SourceGuard: lets nobody connect to a listening IPv4 socket of ours but from the ends that are
// named, without any privilege: to all others the port is silent.
//
// A second socket listens beside the first, both of one SO_REUSEPORT group, and a classic BPF
// program tells the kernel which of them a SYN is for. The second is never accepted from, and drops
// what has not the highest TTL: who sets that fills its queue of one.
#pragma once

#include <linux/filter.h>

#include <span>
#include <utility>
#include <vector>

#include "base/fd.h"
#include "base/ip.h"
#include "base/result.h"

namespace tcpvitals {

// Not thread-safe. With it the guard ends: the listener is open to all.
class SourceGuard {
 public:
  // Nobody can connect to `listener` until admit(). Fails where the kernel refuses any part of it:
  // the listener is open to all then.
  static Result<SourceGuard> open(int listener);

  // From now on these can, and no one else; sorted; some 4,000 at most. What is connected already
  // is not concerned. On failure those before can.
  Result<void> admit(std::span<const Endpoint> sources) const;

 private:
  explicit SourceGuard(Fd second) : second_(std::move(second)) {}

  Fd second_;
};

}  // namespace tcpvitals
