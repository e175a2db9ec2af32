// The process's log: one line per event on stderr, logfmt or JSON. Any thread.
//
// A message is one plain sentence; what varies goes into key-value fields:
//   log_warn("reload failed", {{"file", path}, {"error", error.message}});
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>

#include "base/result.h"

namespace tcpvitals {

enum class LogLevel { kDebug, kInfo, kWarn, kError };
enum class LogFormat { kLogfmt, kJson };

struct LogField {
  std::string_view key;
  std::string value;
};

// Both names as the command line spells them: debug, info, warn, error; logfmt, json.
Result<LogLevel> parse_log_level(std::string_view text);
Result<LogFormat> parse_log_format(std::string_view text);

// Once, before the first line; until then: info, logfmt.
void configure_log(LogLevel level, LogFormat format);

void log_debug(std::string_view message, std::initializer_list<LogField> fields = {});
void log_info(std::string_view message, std::initializer_list<LogField> fields = {});
void log_warn(std::string_view message, std::initializer_list<LogField> fields = {});
void log_error(std::string_view message, std::initializer_list<LogField> fields = {});

}  // namespace tcpvitals
