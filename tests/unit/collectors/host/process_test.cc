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
  const ProcessStat stat = parse_process_stat(fixture_text("6.18-host", "self/stat")).record;
  CHECK(got.at("process_resident_memory_bytes") ==
        *stat.resident_pages * static_cast<double>(sysconf(_SC_PAGESIZE)));
  CHECK(got.at("process_virtual_memory_bytes") == 3133440);
  CHECK(got.at("process_threads") == 1);
  CHECK(got.at("process_open_fds") == 5);
  CHECK(got.at("process_max_fds") == 20000);
  CHECK(got.at("process_start_time_seconds") == 1795397790 + *stat.start_ticks / ticks);
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
  const auto parsed = parse_process_stat(kStat);
  CHECK(parsed.record == ProcessStat{175, 6, 143835, 2998272, 416});
  CHECK(parsed.errors.count == 0);
}

TEST_CASE("process: a limit of open files is a number or none") {
  const std::string head = "Limit                     Soft Limit           Hard Limit\n";
  CHECK(parse_open_files_limit(head + "Max open files            1024     4096  files\n").record ==
        1024);
  const auto none = parse_open_files_limit(head + "Max open files  unlimited unlimited files\n");
  CHECK_FALSE(none.record.has_value());
  CHECK(none.errors.count == 0);
  CHECK(parse_open_files_limit(head).errors.first == "no line Max open files");
  CHECK(parse_open_files_limit("Max open files\n").errors.first == "Max open files: no value");
  CHECK(parse_open_files_limit("Max open files many\n").errors.first ==
        "Max open files: \"many\" is not a count");
}

TEST_CASE("process: every prefix of its files gives the same numbers or none") {
  check_every_prefix(std::string(kStat), parse_process_stat,
                     [](const ProcessStat& stat) { return stat == ProcessStat(); });
  const std::string limits = fixture_text("6.18-host", "self/limits");
  const auto limit = parse_open_files_limit(limits).record;
  REQUIRE(limit.has_value());
  check_every_prefix(limits, parse_open_files_limit,
                     [&](const std::optional<double>& got) { return !got || got == limit; });
  const std::string stat = fixture_text("6.18-host", "stat");
  const auto boot_time = parse_boot_time(stat).record;
  REQUIRE(boot_time.has_value());
  check_every_prefix(stat, parse_boot_time,
                     [&](const std::optional<double>& got) { return !got || got == boot_time; });
}

TEST_CASE("process: a field that is wrong or missing costs itself") {
  const auto bad =
      parse_process_stat("1 (x) S 3 3 3 0 -1 4194304 102 0 0 0 150 y 7 8 20 0 6 0 143835 -1\n");
  CHECK(bad.record == ProcessStat{std::nullopt, 6, 143835, std::nullopt, std::nullopt});
  CHECK(bad.errors.count == 3);
  CHECK(bad.errors.first == "field 15: \"y\" is not a count");
  CHECK(parse_process_stat("1 x R 2\n").errors.first == "no command in parentheses");
  CHECK(parse_process_stat("1 (x) R 2\n").errors.first == "field 14: missing");
  CHECK(parse_process_stat("").errors.first == "empty");
  CHECK(parse_boot_time("cpu 1 2\n").errors.first == "no line btime");
  CHECK(parse_boot_time("btime x\n").errors.first == "btime: \"x\" is not a count");
}

TEST_CASE("process: a negative number of forks is not its business") {
  const TextSource source{{"self/stat", std::string(kStat)},
                          {"stat", "btime 1795881670\nprocesses -2049562273\n"}};
  const Collected got = collect(*make_process_collector(source));
  CHECK(got.at("process_start_time_seconds") ==
        1795881670 + 143835 / static_cast<double>(sysconf(_SC_CLK_TCK)));
  CHECK(got.parse_errors.count == 0);
}

TEST_CASE("process: its start stays what it was when the clock is set") {
  TextSource source{{"self/stat", std::string(kStat)}, {"stat", "btime 1000\n"}};
  const auto collector = make_process_collector(source);
  const double start = collect(*collector).at("process_start_time_seconds");
  source.set("stat", "btime 2000\n");
  CHECK(collect(*collector).at("process_start_time_seconds") == start);
}

TEST_CASE("process: each of its files can be missing or broken and costs its own metrics") {
  const ProcSource real = fixture_source("6.18-host");
  const std::set<std::string> of_stat{"process_cpu_seconds_total", "process_resident_memory_bytes",
                                      "process_virtual_memory_bytes", "process_threads",
                                      "process_start_time_seconds"};
  const std::pair<const char*, std::set<std::string>> rows[] = {
      {"self/stat", of_stat},
      {"stat", {"process_start_time_seconds"}},
      {"self/limits", {"process_max_fds"}},
      {"self/fd", {"process_open_fds"}}};
  for (const auto& row : rows) {
    const char* path = row.first;
    const std::set<std::string>& lost = row.second;
    for (const Fault fault : kFaults) {
      CAPTURE(path);
      CAPTURE(static_cast<int>(fault));
      if (fault == Fault::kTruncated && std::string_view(path) != "self/stat") continue;
      const FailingSource source(real, fault, path);
      const Collected got = collect(*make_process_collector(source));
      REQUIRE(got.outcome.ok());
      CHECK(got.samples.size() == 7 - lost.size());
      for (const std::string& name : lost) CHECK_FALSE(got.has(name));
      CHECK((got.parse_errors.count > 0) == (fault != Fault::kMissing));
    }
  }
}

TEST_CASE("process: no gauge tells of more than can be") {
  const TextSource source{
      {"self/stat",
       "1 (x) S 3 3 3 0 -1 4194304 102 0 0 0 150 25 7 8 20 0 4294967295 0 143835 "
       "18446744073709551615 18446744073709551615\n"},
      {"self/limits", "Max open files 18446744073709551615 4096 files\n"}};
  const Collected got = collect(*make_process_collector(source));
  REQUIRE(got.outcome.ok());
  CHECK(got.samples.size() == 1);
  CHECK(got.has("process_cpu_seconds_total"));
  CHECK(got.parse_errors.count == 4);
}
