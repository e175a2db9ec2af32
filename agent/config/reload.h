// Reloader: puts the configuration file in force again while the agent runs; all of it, or nothing.
// ConfigCollector: how that went, as metrics.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <vector>

#include "agent/config/config.h"
#include "base/log_limit.h"
#include "base/result.h"
#include "collectors/collector.h"

namespace tcpvitals {

// Made when the configuration has been read and put in force for the first time.
class Reloader {
 public:
  // A part of what a reload does, in two steps: Prepare changes nothing and may fail, the Commit
  // that it returns cannot; it may be empty. The error stands as it is in the log and in the
  // answer. Of the last part Prepare may do it all: nothing can fail after it. Called by one thread
  // at a time.
  using Commit = std::function<void()>;
  using Prepare = std::function<Result<Commit>(const Config&)>;

  struct Status {
    bool last_successful = true;  // the first time counts
    std::chrono::system_clock::time_point last_success;
    std::uint64_t successes = 0;  // of reload()
    std::uint64_t failures = 0;
  };

  // `file` may be empty: the agent runs by defaults and flags, and every reload fails.
  Reloader(std::string file, ConfigFlags flags, std::vector<Prepare> parts);

  // Any thread; one after the other. The file is read anew, the flags stand above it as before. Of
  // an error, which is logged, nothing is in force: what was goes on.
  Result<void> reload();

  Status status() const;

 private:
  Result<void> read_and_apply();

  const std::string file_;
  const ConfigFlags flags_;
  const std::vector<Prepare> parts_;
  std::mutex reloading_;
  LogLimit line_{LogLevel::kInfo, "configuration reloaded", 1000, std::chrono::minutes(1)};
  mutable std::mutex mutex_;  // guards status_, never held for long
  Status status_;
};

class ConfigCollector final : public Collector {
 public:
  // `reloader` outlives the collector.
  explicit ConfigCollector(const Reloader& reloader) : reloader_(reloader) {}

  std::string_view name() const override { return "config"; }
  std::span<const MetricDesc> metrics() const override;
  Result<void> collect(Sink& sink, TimePoint deadline) override;

 private:
  const Reloader& reloader_;
};

}  // namespace tcpvitals
