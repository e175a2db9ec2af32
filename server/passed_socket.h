// PassedSocket: a listening socket that someone else opened, and which listener it is for.
#pragma once

#include <string>

#include "base/fd.h"

namespace tcpvitals {

struct PassedSocket {
  std::string name;
  Fd fd;
};

}  // namespace tcpvitals
