#include "base/result.h"

#include <system_error>

namespace tcpvitals {

Error errno_error(std::string_view what, int errno_value) {
  std::string message(what);
  message += ": ";
  message += std::generic_category().message(errno_value);
  return {std::move(message)};
}

}  // namespace tcpvitals
