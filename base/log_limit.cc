#include "base/log_limit.h"

#include <utility>

namespace tcpvitals {

bool LogLimit::admits(TimePoint now) {
  std::uint64_t left_out = 0;
  {
    const std::lock_guard lock(mutex_);
    if (now >= period_end_) {
      period_end_ = now + period_;
      admitted_ = 0;
    }
    if (admitted_ == lines_) {
      ++left_out_;
      return false;
    }
    ++admitted_;
    left_out = std::exchange(left_out_, 0);
  }
  if (left_out > 0) {
    constexpr decltype(&log_info) kLogs[] = {log_debug, log_info, log_warn, log_error};
    kLogs[static_cast<int>(level_)]("lines left out of the log",
                                    {{"message", message_}, {"lines", std::to_string(left_out)}});
  }
  return true;
}

}  // namespace tcpvitals
