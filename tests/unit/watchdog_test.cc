// Not one of the unit tests: ctest runs it alone, and it must be ended and named
// (tests/CMakeLists).
#include <doctest/doctest.h>

#include <chrono>
#include <thread>

TEST_CASE("a case that hangs" * doctest::skip()) {
  std::this_thread::sleep_for(std::chrono::hours(1));
}
