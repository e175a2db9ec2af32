#include "base/log.h"

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>

namespace tcpvitals {
namespace {

// The format is set once, before the first line; the logger's own locks order everything else.
LogFormat& log_format() {
  static LogFormat format = LogFormat::kLogfmt;
  return format;
}

// spdlog stamps and writes the line; %v arrives as key=value pairs or JSON members already.
void set_pattern(spdlog::logger& target) {
  target.set_pattern(log_format() == LogFormat::kJson
                         ? R"({"ts":"%Y-%m-%dT%H:%M:%S.%fZ","level":"%l",%v})"
                         : "ts=%Y-%m-%dT%H:%M:%S.%fZ level=%l %v",
                     spdlog::pattern_time_type::utc);
}

spdlog::logger& logger() {
  static const std::shared_ptr<spdlog::logger> instance = [] {
    auto created = std::make_shared<spdlog::logger>(
        "tcpvitals", std::make_shared<spdlog::sinks::stderr_sink_mt>());
    created->flush_on(spdlog::level::trace);
    set_pattern(*created);
    return created;
  }();
  return *instance;
}

std::string json_string(std::string_view text) {
  return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::string logfmt_value(std::string_view text) {
  const bool plain =
      !text.empty() && text.find_first_of(" =\"\\") == std::string_view::npos &&
      std::all_of(text.begin(), text.end(), [](unsigned char c) { return c > 0x20 && c < 0x7f; });
  return plain ? std::string(text) : json_string(text);
}

void write(spdlog::level::level_enum level, std::string_view message,
           std::initializer_list<LogField> fields) {
  if (!logger().should_log(level)) return;
  std::string line;
  if (log_format() == LogFormat::kJson) {
    line = "\"msg\":" + json_string(message);
    for (const LogField& f : fields) line += "," + json_string(f.key) + ":" + json_string(f.value);
  } else {
    line = "msg=" + logfmt_value(message);
    for (const LogField& f : fields) line.append(" ").append(f.key) += "=" + logfmt_value(f.value);
  }
  logger().log(level, line);
}

}  // namespace

Result<LogLevel> parse_log_level(std::string_view text) {
  if (text == "debug") return LogLevel::kDebug;
  if (text == "info") return LogLevel::kInfo;
  if (text == "warn") return LogLevel::kWarn;
  if (text == "error") return LogLevel::kError;
  return Error{"log level \"" + std::string(text) + "\": expected debug, info, warn or error"};
}

Result<LogFormat> parse_log_format(std::string_view text) {
  if (text == "logfmt") return LogFormat::kLogfmt;
  if (text == "json") return LogFormat::kJson;
  return Error{"log format \"" + std::string(text) + "\": expected logfmt or json"};
}

void configure_log(LogLevel level, LogFormat format) {
  constexpr spdlog::level::level_enum kLevels[] = {spdlog::level::debug, spdlog::level::info,
                                                   spdlog::level::warn, spdlog::level::err};
  logger().set_level(kLevels[static_cast<int>(level)]);
  log_format() = format;
  set_pattern(logger());
}

void log_debug(std::string_view message, std::initializer_list<LogField> fields) {
  write(spdlog::level::debug, message, fields);
}
void log_info(std::string_view message, std::initializer_list<LogField> fields) {
  write(spdlog::level::info, message, fields);
}
void log_warn(std::string_view message, std::initializer_list<LogField> fields) {
  write(spdlog::level::warn, message, fields);
}
void log_error(std::string_view message, std::initializer_list<LogField> fields) {
  write(spdlog::level::err, message, fields);
}

}  // namespace tcpvitals
