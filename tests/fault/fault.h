// Makes one system call of this process fail.
//
// fault.cc defines these functions of the C library anew, so whatever is linked with it calls
// those; they go on to the kernel, but for the one call that is to fail.
#pragma once

#include <cstdint>
#include <string_view>

namespace tcpvitals::fault {

enum class Call : std::uint8_t {
  kAccept,
  kRecv,
  kSend,
  kWrite,
  kRead,
  kEpollCtl,
  kEpollWait,
  kEpollCreate,
  kEventfd,
  kTcpInfo,      // getsockopt(TCP_INFO)
  kSocketError,  // getsockopt(SO_ERROR)
  kSetsockopt,
  kGetsockname,
  kShutdown,
  kSocket,
  kBind,
  kListen,
  kConnect,
};

// Instead of an error: the call moves one byte and no more.
inline constexpr int kShort = 0;

// The k-th of these calls from now on, counted from 1, fails with `error`; no other does.
void arm(Call call, std::uint64_t k, int error);
// How many there were since then.
std::uint64_t disarm();

// While it lives, what its thread calls is neither counted nor failed.
class Exempt {
 public:
  Exempt();
  ~Exempt();
};

}  // namespace tcpvitals::fault
