// What could not be parsed: counted every time, logged now and then.
#include "collectors/parse_errors.h"

#include <doctest/doctest.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <string>

#include "base/fd.h"
#include "base/log.h"

using namespace tcpvitals;
using namespace std::chrono_literals;

namespace {

// What `work` logs.
template <typename Work>
std::string logged(Work work) {
  REQUIRE(flush_log(Clock::now() + 10s));
  std::FILE* const file = std::tmpfile();
  REQUIRE(file != nullptr);
  const Fd before(::dup(STDERR_FILENO));
  ::dup2(::fileno(file), STDERR_FILENO);
  work();
  REQUIRE(flush_log(Clock::now() + 10s));
  ::dup2(before.get(), STDERR_FILENO);
  std::array<char, 4096> text{};
  const ssize_t n = ::pread(::fileno(file), text.data(), text.size(), 0);
  std::fclose(file);
  return {text.data(), static_cast<std::size_t>(std::max<ssize_t>(n, 0))};
}

ParseErrors errors(std::initializer_list<const char*> all) {
  ParseErrors made;
  for (const char* one : all) made.add(one);
  return made;
}

}  // namespace

TEST_CASE("parse errors are counted every time; the log names one of them once an hour") {
  ParseErrorTotal total;
  const TimePoint start = Clock::now();
  CHECK(logged([&] { total.add("snmp", {}, start); }).empty());
  CHECK(total.count() == 0);
  const std::string line = logged([&] {
    total.add("snmp", errors({"net/snmp: line 2: x", "second"}), start);
  });
  CHECK(line.find("collector=snmp parts=2 first=\"net/snmp: line 2: x\"") != std::string::npos);
  CHECK(std::count(line.begin(), line.end(), '\n') == 1);
  CHECK(total.count() == 2);
  const auto later = [&](Clock::duration after) {
    return logged([&] { total.add("snmp", errors({"another"}), start + after); });
  };
  CHECK(later(1s).empty());
  CHECK(later(59min).empty());
  CHECK(total.count() == 4);
  CHECK(later(60min).find("first=another") != std::string::npos);
  CHECK(later(61min).empty());
  CHECK(total.count() == 6);
}
