// LogLimit: keeps a line that clients can cause from filling the log.
//
//   LogLimit limit_{LogLevel::kDebug, "request", 100, 1s};
//   if (limit_.admits()) log_debug("request", {{"path", path}});
#pragma once

#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "base/log.h"

namespace tcpvitals {

// Thread-safe.
class LogLimit {
 public:
  // At most `lines` lines a `period`; `level` and `message` are the line's.
  LogLimit(LogLevel level, std::string_view message, unsigned lines, Clock::duration period)
      : level_(level), message_(message), lines_(lines), period_(period) {}

  // Whether the line may be written now. Lines that were left out are counted, and a line of its
  // own, at the line's level, tells how many when the next one is admitted.
  bool admits(TimePoint now = Clock::now());

 private:
  const LogLevel level_;
  const std::string message_;
  const unsigned lines_;
  const Clock::duration period_;
  std::mutex mutex_;
  TimePoint period_end_{};
  unsigned admitted_ = 0;  // in this period
  std::uint64_t left_out_ = 0;
};

}  // namespace tcpvitals
