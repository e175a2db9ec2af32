#include "base/log.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <csignal>
#include <string>
#include <vector>

#include "base/fd.h"
#include "tests/support/reading.h"

using namespace tcpvitals;
using namespace std::chrono_literals;

namespace {

// While it lives stderr is a small pipe, which nobody reads but the test.
class StalledStderr {
 public:
  StalledStderr() {
    REQUIRE(flush_log(Clock::now() + 10s));
    std::array<int, 2> ends{};
    REQUIRE(::pipe2(ends.data(), O_CLOEXEC) == 0);
    reader = Fd(ends[0]);
    const Fd writer(ends[1]);
    REQUIRE(::fcntl(reader.get(), F_SETFL, O_NONBLOCK) == 0);
    REQUIRE(::fcntl(writer.get(), F_SETPIPE_SZ, 4096) == 4096);
    before_ = Fd(::dup(STDERR_FILENO));
    REQUIRE(::dup2(writer.get(), STDERR_FILENO) == STDERR_FILENO);
  }
  ~StalledStderr() {
    ::dup2(before_.get(), STDERR_FILENO);
    reader.reset();  // whoever still writes to the pipe hears of it
  }
  StalledStderr(const StalledStderr&) = delete;
  StalledStderr& operator=(const StalledStderr&) = delete;

  // All that is written until the log is flushed.
  std::string read_all() const {
    return testing::read_until(reader, [] { return flush_log(Clock::now() + 1ms); });
  }

  Fd reader;

 private:
  Fd before_;
};

std::uint64_t lines_in(const std::string& text) {
  return static_cast<std::uint64_t>(std::count(text.begin(), text.end(), '\n'));
}

}  // namespace

TEST_CASE("nobody waits for a stalled stderr; each line is written or counted as lost") {
  constexpr std::uint64_t kLines = 5 * kLogQueue;
  const StalledStderr pipe;
  const std::uint64_t lost_before = log_lines_lost();
  for (std::uint64_t i = 0; i < kLines; ++i) log_error("line", {{"n", std::to_string(i)}});
  CHECK_FALSE(flush_log(Clock::now() + 20ms));
  const std::uint64_t lost = log_lines_lost() - lost_before;
  CHECK(lost > 0);
  CHECK(lost < kLines);
  const std::string text = pipe.read_all();
  CHECK(lines_in(text) + lost == kLines);
  CHECK(text.find("msg=line n=" + std::to_string(kLines - 1) + "\n") != std::string::npos);
  CHECK(log_lines_lost() - lost_before == lost);
}

TEST_CASE("lines for a closed stderr are lost and counted, and harm nobody") {
  StalledStderr pipe;
  const std::uint64_t lost_before = log_lines_lost();
  pipe.reader.reset();
  for (int i = 0; i < 3; ++i) log_error("line");
  CHECK(flush_log(Clock::now() + 10s));
  CHECK(log_lines_lost() == lost_before + 3);
}

TEST_CASE("a nonblocking stderr gets whole lines, once there is room again") {
  const StalledStderr pipe;
  REQUIRE(::fcntl(STDERR_FILENO, F_SETFL, O_NONBLOCK) == 0);
  const std::uint64_t lost_before = log_lines_lost();
  for (int i = 0; i < 500; ++i) log_error("line");
  CHECK(lines_in(pipe.read_all()) == 500);
  CHECK(log_lines_lost() == lost_before);
}
