// The process's log: one line per event on stderr, logfmt or JSON. Any thread, and none ever waits
// for stderr: a thread of the log's own writes the lines. At most kLogQueue of them wait for it.
// When there are more, or stderr takes none, lines are lost and counted; the oldest go first.
//
// The first call starts that thread; std::system_error where the system has none left. It lasts as
// long as the process.
//
// A message is one plain sentence; what varies goes into key-value fields:
//   log_warn("reload failed", {{"file", path}, {"error", error.message}});
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>

#include "base/clock.h"
#include "base/result.h"

namespace tcpvitals {

enum class LogLevel { kDebug, kInfo, kWarn, kError };
enum class LogFormat { kLogfmt, kJson };

struct LogField {
  std::string_view key;
  std::string value;
};

inline constexpr std::size_t kLogQueue = 1024;

// Both names as the command line spells them: debug, info, warn, error; logfmt, json.
Result<LogLevel> parse_log_level(std::string_view text);
Result<LogFormat> parse_log_format(std::string_view text);

// Once, before the first line; until then: info, logfmt.
void configure_log(LogLevel level, LogFormat format);

void log_debug(std::string_view message, std::initializer_list<LogField> fields = {});
void log_info(std::string_view message, std::initializer_list<LogField> fields = {});
void log_warn(std::string_view message, std::initializer_list<LogField> fields = {});
void log_error(std::string_view message, std::initializer_list<LogField> fields = {});

// Waits until every line so far is written or lost. False: not by `deadline`.
bool flush_log(TimePoint deadline);

// Lines that are not on stderr and never will be.
std::uint64_t log_lines_lost();

}  // namespace tcpvitals
