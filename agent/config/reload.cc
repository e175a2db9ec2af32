#include "agent/config/reload.h"

#include <utility>

#include "base/log.h"

namespace tcpvitals {
namespace {

constexpr MetricDesc kMetrics[] = {
    {"tcpvitals_config_last_reload_successful", MetricType::kGauge,
     "Whether the configuration file was right when it was last read (1), at start or since; if it "
     "was not (0), the one before is in force."},
    {"tcpvitals_config_last_reload_success_timestamp_seconds", MetricType::kGauge,
     "When the configuration in force was read, in seconds since 1970."},
    {"tcpvitals_config_reloads_total",
     MetricType::kCounter,
     "How often the configuration file was read again, by SIGHUP or POST /-/reload; with outcome "
     "failure it was not put in force.",
     {"outcome"}},
};
constexpr const MetricDesc& kLastSuccessful = kMetrics[0];
constexpr const MetricDesc& kLastSuccess = kMetrics[1];
constexpr const MetricDesc& kReloads = kMetrics[2];

}  // namespace

Reloader::Reloader(std::string file, ConfigFlags flags, std::vector<Prepare> parts)
    : file_(std::move(file)), flags_(std::move(flags)), parts_(std::move(parts)) {
  status_.last_success = std::chrono::system_clock::now();
}

Result<void> Reloader::read_and_apply() {
  if (file_.empty()) return Error{"started without --config.file: nothing to read again"};
  const auto config = read_config(file_, flags_);
  if (!config) return Error(config.error());
  std::vector<Commit> commits;
  for (const Prepare& prepare : parts_) {
    auto commit = prepare(*config);
    if (!commit) return std::move(commit.error());
    commits.push_back(std::move(*commit));
  }
  for (const Commit& commit : commits) {
    if (commit) commit();
  }
  return {};
}

Result<void> Reloader::reload() {
  const std::lock_guard one(reloading_);
  auto applied = read_and_apply();
  const bool line = line_.admits();
  if (line && applied) log_info("configuration reloaded", {{"file", file_}});
  if (line && !applied) {
    log_error("configuration not reloaded", {{"error", applied.error().message}});
  }
  const std::lock_guard lock(mutex_);
  status_.last_successful = applied.ok();
  if (applied) status_.last_success = std::chrono::system_clock::now();
  ++(applied ? status_.successes : status_.failures);
  return applied;
}

Reloader::Status Reloader::status() const {
  const std::lock_guard lock(mutex_);
  return status_;
}

std::span<const MetricDesc> ConfigCollector::metrics() const { return kMetrics; }

Result<void> ConfigCollector::collect(Sink& sink, TimePoint /*deadline*/) {
  const Reloader::Status status = reloader_.status();
  const std::chrono::duration<double> since_1970 = status.last_success.time_since_epoch();
  sink.add(kLastSuccessful, status.last_successful ? 1 : 0);
  sink.add(kLastSuccess, since_1970.count());
  sink.add(kReloads, {"success"}, static_cast<double>(status.successes));
  sink.add(kReloads, {"failure"}, static_cast<double>(status.failures));
  return {};
}

}  // namespace tcpvitals
