// Reads what somebody writes meanwhile.
#pragma once

#include <unistd.h>

#include <functional>
#include <string>
#include <vector>

#include "base/fd.h"

namespace tcpvitals::testing {

// All that comes to a nonblocking descriptor until flushed() says that nothing more will.
inline std::string read_until(const Fd& fd, const std::function<bool()>& flushed) {
  std::string text;
  std::vector<char> buffer(64 << 10);
  for (bool last = false;;) {
    const ssize_t n = ::read(fd.get(), buffer.data(), buffer.size());
    if (n > 0) {
      text.append(buffer.data(), static_cast<std::size_t>(n));
    } else if (last) {
      return text;
    } else {
      last = flushed();
    }
  }
}

}  // namespace tcpvitals::testing
