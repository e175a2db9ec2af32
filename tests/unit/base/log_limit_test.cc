#include "base/log_limit.h"

#include <doctest/doctest.h>

using namespace tcpvitals;
using namespace std::chrono_literals;

TEST_CASE("a limited line is admitted so many times a period, and again in the next") {
  const TimePoint start = Clock::now();
  LogLimit limit(LogLevel::kInfo, "line", 2, 1min);
  CHECK(limit.admits(start));
  CHECK(limit.admits(start + 59s));
  CHECK_FALSE(limit.admits(start + 59s));
  CHECK(limit.admits(start + 60s));
  CHECK(limit.admits(start + 61s));
  CHECK_FALSE(limit.admits(start + 119s));
  CHECK(limit.admits(start + 10min));
}
