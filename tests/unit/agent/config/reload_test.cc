#include "agent/config/reload.h"

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <optional>
#include <thread>
#include <vector>

#include "tests/support/testing.h"

using namespace tcpvitals;
using namespace tcpvitals::testing;

namespace {

constexpr char kSuccessful[] = "tcpvitals_config_last_reload_successful";
constexpr char kTimestamp[] = "tcpvitals_config_last_reload_success_timestamp_seconds";
constexpr char kSuccesses[] = "tcpvitals_config_reloads_total{outcome=\"success\"}";
constexpr char kFailures[] = "tcpvitals_config_reloads_total{outcome=\"failure\"}";

// A configuration file, a reloader of it, and what it put in force.
struct Fixture {
  Fixture() { write("connections: {cpu_budget: 0.1}"); }
  ~Fixture() { std::filesystem::remove(path); }

  void write(const std::string& text) const { std::ofstream(path) << text; }

  const std::string path = (std::filesystem::temp_directory_path() /
                            ("tcpvitals-reload-test-" + std::to_string(::getpid()) + ".yml"))
                               .string();
  std::vector<Config> applied;
  std::optional<Error> error;
  Reloader reloader{path, {}, {[this](const Config& config) -> Result<Reloader::Commit> {
                      if (error) return *error;
                      return Reloader::Commit([this, config] { applied.push_back(config); });
                    }}};
  ConfigCollector collector{reloader};
};

}  // namespace

TEST_CASE("a reload puts what the file says now in force") {
  Fixture f;
  f.write("connections: {cpu_budget: 0.2}");
  CHECK(f.reloader.reload().ok());
  f.write("");
  CHECK(f.reloader.reload().ok());
  REQUIRE(f.applied.size() == 2);
  CHECK(f.applied[0].connections.cpu_budget == 0.2);
  CHECK(f.applied[1].connections == ConnectionsConfig{});
}

TEST_CASE("a reload keeps what the flags say above what the file says") {
  Fixture f;
  ConfigFlags flags;
  flags.cpu_budget = 0.5;
  Config applied;
  Reloader reloader(f.path, flags, {[&](const Config& config) {
                      applied = config;
                      return Result<Reloader::Commit>(Reloader::Commit());
                    }});
  CHECK(reloader.reload().ok());
  CHECK(applied.connections.cpu_budget == 0.5);
}

TEST_CASE("of a broken file nothing is put in force, and the error is handed on") {
  Fixture f;
  f.write("connections: {cpu_budget: 2}");
  CHECK(f.reloader.reload().error().message ==
        f.path + ":1:27: connections.cpu_budget: \"2\": expected a number from 0.001 to 1");
  std::filesystem::remove(f.path);
  CHECK(f.reloader.reload().error().message == f.path + ": No such file or directory");
  CHECK(f.applied.empty());
}

TEST_CASE("whichever part of a reload fails, no part has changed anything") {
  constexpr int kParts = 4;
  const Fixture f;
  int failing = -1;
  std::vector<int> done;
  std::vector<Reloader::Prepare> parts;
  for (int part = 0; part < kParts; ++part) {
    parts.emplace_back([&, part](const Config&) -> Result<Reloader::Commit> {
      if (part == failing) return Error{"part " + std::to_string(part)};
      return Reloader::Commit([&done, part] { done.push_back(part); });
    });
  }
  Reloader reloader(f.path, {}, parts);
  for (failing = 0; failing < kParts; ++failing) {
    CHECK(reloader.reload().error().message == "part " + std::to_string(failing));
    CHECK(done.empty());
  }
  CHECK(reloader.reload().ok());
  CHECK(done == std::vector<int>{0, 1, 2, 3});
}

TEST_CASE("the metrics tell how the last reload went, and since when its predecessor is in force") {
  Fixture f;
  const Collected at_start = collect(f.collector);
  REQUIRE(at_start.outcome.ok());
  CHECK(at_start.at(kSuccessful) == 1);
  CHECK(at_start.at(kSuccesses) == 0);
  CHECK(at_start.at(kFailures) == 0);

  f.write("connections: []");
  CHECK_FALSE(f.reloader.reload().ok());
  f.write("");
  f.error = Error{"the kernel said no"};
  CHECK(f.reloader.reload().error().message == "the kernel said no");
  const Collected failed = collect(f.collector);
  CHECK(failed.at(kSuccessful) == 0);
  CHECK(failed.at(kTimestamp) == at_start.at(kTimestamp));
  CHECK(failed.at(kSuccesses) == 0);
  CHECK(failed.at(kFailures) == 2);

  f.error.reset();
  CHECK(f.reloader.reload().ok());
  const Collected good = collect(f.collector);
  CHECK(good.at(kSuccessful) == 1);
  CHECK(good.at(kTimestamp) > at_start.at(kTimestamp));
  CHECK(good.at(kSuccesses) == 1);
  CHECK(good.at(kFailures) == 2);
}

TEST_CASE("without a file a reload fails and changes nothing") {
  Reloader reloader("", {}, {[](const Config&) {
                      FAIL("applied");
                      return Result<Reloader::Commit>(Reloader::Commit());
                    }});
  CHECK(reloader.reload().error().message ==
        "started without --config.file: nothing to read again");
}

TEST_CASE("reloads that are asked for at once come one after the other") {
  Fixture f;
  std::vector<std::thread> askers;
  for (int i = 0; i < 4; ++i) {
    askers.emplace_back([&] {
      for (int k = 0; k < 25; ++k) (void)f.reloader.reload();
    });
  }
  for (int i = 0; i < 25; ++i) (void)collect(f.collector);
  for (std::thread& asker : askers) asker.join();
  CHECK(f.applied.size() == 100);
  CHECK(f.reloader.status().successes == 100);
}
