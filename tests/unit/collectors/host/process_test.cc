#include "collectors/host/process.h"

#include <unistd.h>

#include "tests/support/testing.h"

using namespace tcpvitals;
using namespace tcpvitals::testing;

namespace {

// A command that tries to look like the end of itself.
constexpr std::string_view kStat =
    "42 (a) b\n(c) R 1 2 3 0 -1 4194304 102 0 0 0 150 25 7 8 20 0 6 0 143835 2998272 416 "
    "18446744073709551615 1 2 3 0 0 0 0 0 0 0 0 0 17 1 0 0 0 0 0 1 2 3 4 5 6 7 0\n";

}  // namespace

TEST_CASE("process: the standard metrics come out in base units") {
  const ProcSource source = fixture_source("6.18-host");
  const Collected got = collect(*make_process_collector(source));
  REQUIRE(got.outcome.ok());
  const auto ticks = static_cast<double>(sysconf(_SC_CLK_TCK));
  const ProcessStat stat = *parse_process_stat(fixture_text("6.18-host", "self/stat"));
  CHECK(got.at("process_resident_memory_bytes") ==
        stat.resident_pages * static_cast<double>(sysconf(_SC_PAGESIZE)));
  CHECK(got.at("process_virtual_memory_bytes") == 3133440);
  CHECK(got.at("process_threads") == 1);
  CHECK(got.at("process_open_fds") == 5);
  CHECK(got.at("process_max_fds") == 20000);
  CHECK(got.at("process_start_time_seconds") == 1795397790 + stat.start_ticks / ticks);
}

TEST_CASE("process: it measures this very process") {
  const ProcSource source("/proc");
  const Collected got = collect(*make_process_collector(source));
  REQUIRE(got.outcome.ok());
  CHECK(got.at("process_resident_memory_bytes") > 1024 * 1024);
  CHECK(got.at("process_start_time_seconds") <= static_cast<double>(time(nullptr)) + 1);
  CHECK(got.at("process_start_time_seconds") > static_cast<double>(time(nullptr)) - 3600);
  const double before = got.at("process_open_fds");
  const int extra = ::dup(0);
  REQUIRE(extra >= 0);
  const Collected after = collect(*make_process_collector(source));
  ::close(extra);
  CHECK(after.at("process_open_fds") == before + 1);
}

TEST_CASE("process: a command may hold blanks, newlines and parentheses") {
  const auto stat = parse_process_stat(kStat);
  REQUIRE(stat.ok());
  CHECK(*stat == ProcessStat{175, 6, 143835, 2998272, 416});
}

TEST_CASE("process: a limit of open files is a number or none") {
  const std::string head = "Limit                     Soft Limit           Hard Limit\n";
  CHECK(*parse_open_files_limit(head + "Max open files            1024     4096  files\n") == 1024);
  const auto none = parse_open_files_limit(head + "Max open files  unlimited unlimited files\n");
  REQUIRE(none.ok());
  CHECK_FALSE(none->has_value());
  CHECK(parse_open_files_limit(head).error().message == "no line Max open files");
  CHECK(parse_open_files_limit("Max open files\n").error().message == "line 1: no limit");
  CHECK_FALSE(parse_open_files_limit("Max open files many\n").ok());
}

TEST_CASE("process: every prefix of its files is an error or gives the same numbers") {
  check_every_prefix(std::string(kStat), parse_process_stat,
                     [](const ProcessStat&) { return false; });
  const std::string limits = fixture_text("6.18-host", "self/limits");
  const auto limit = *parse_open_files_limit(limits);
  check_every_prefix(limits, parse_open_files_limit,
                     [&](const std::optional<double>& got) { return got == limit; });
  const std::string stat = fixture_text("6.18-host", "stat");
  const double boot_time = *parse_boot_time(stat);
  check_every_prefix(stat, parse_boot_time, [&](double got) { return got == boot_time; });
}

TEST_CASE("process: an error says what is wrong") {
  CHECK(parse_process_stat("1 x R 2\n").error().message == "no command in parentheses");
  CHECK(parse_process_stat("1 (x) R 2\n").error().message == "4 fields, not 52");
  CHECK(parse_boot_time("cpu 1 2\n").error().message == "no line btime");
  CHECK(parse_boot_time("btime x\n").error().message == "line 1: \"x\" is not a number");
}
