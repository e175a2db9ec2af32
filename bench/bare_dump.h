// The baseline: a loop that takes a sock_diag dump as fast as the kernel gives it and looks at
// nothing in it but the end.
#pragma once

#include <vector>

#include "base/fd.h"

namespace tcpvitals::bench {

class BareDump {
 public:
  BareDump();

  // All states of IPv4, then of IPv6, with tcp_info, in 32 KiB pieces: two walks of the kernel's
  // table.
  void two_families();

  // The same rows by the older request, in one walk.
  void one_walk();

 private:
  void request(const void* message, std::size_t size) const;
  void receive_until_done();

  Fd fd_;
  std::vector<char> buffer_;
};

}  // namespace tcpvitals::bench
