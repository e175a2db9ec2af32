#include "base/log.h"

#include <poll.h>
#include <pthread.h>
#include <spdlog/async.h>
#include <spdlog/sinks/base_sink.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <thread>

#include "base/thread.h"

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

// Not by way of stdio: its lock on stderr would be held for as long as a write takes.
bool write_to_stderr(std::string_view text) {
  while (!text.empty()) {
    const iovec part{const_cast<char*>(text.data()), text.size()};
    const ssize_t n = ::writev(STDERR_FILENO, &part, 1);
    if (n > 0) {
      text.remove_prefix(static_cast<std::size_t>(n));
    } else if (n < 0 && errno == EAGAIN) {  // another process made it nonblocking
      pollfd room{STDERR_FILENO, POLLOUT, 0};
      ::poll(&room, 1, -1);
    } else if (n == 0 || errno != EINTR) {
      return false;
    }
  }
  return true;
}

class StderrSink final : public spdlog::sinks::base_sink<std::mutex> {
 public:
  std::uint64_t finished() const { return finished_; }  // written or failed
  std::uint64_t failed() const { return failed_; }

 protected:
  void sink_it_(const spdlog::details::log_msg& message) override {
    spdlog::memory_buf_t line;
    formatter_->format(message, line);
    if (!write_to_stderr({line.data(), line.size()})) ++failed_;
    ++finished_;
  }
  void flush_() override {}

 private:
  std::atomic<std::uint64_t> failed_ = 0;
  std::atomic<std::uint64_t> finished_ = 0;
};

struct Log {
  Log() {
    const NoSignals in_its_thread;
    writer = std::make_shared<spdlog::details::thread_pool>(
        kLogQueue, 1, [] { ::pthread_setname_np(::pthread_self(), "log"); });
    logger = std::make_shared<spdlog::async_logger>("tcpvitals", sink, writer,
                                                    spdlog::async_overflow_policy::overrun_oldest);
    set_pattern(*logger);
  }

  std::atomic<std::uint64_t> lines = 0;  // that were given to it
  std::shared_ptr<StderrSink> sink = std::make_shared<StderrSink>();
  std::shared_ptr<spdlog::details::thread_pool> writer;
  std::shared_ptr<spdlog::async_logger> logger;
};

// Null before the first line.
std::atomic<Log*>& existing_log() {
  static std::atomic<Log*> log = nullptr;
  return log;
}

// Never destroyed: that would wait for its thread, which may wait for stderr.
Log& process_log() {
  static Log& made = *(existing_log() = new Log);
  return made;
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
  Log& log = process_log();
  if (!log.logger->should_log(level)) return;
  std::string line;
  if (log_format() == LogFormat::kJson) {
    line = "\"msg\":" + json_string(message);
    for (const LogField& f : fields) line += "," + json_string(f.key) + ":" + json_string(f.value);
  } else {
    line = "msg=" + logfmt_value(message);
    for (const LogField& f : fields) line.append(" ").append(f.key) += "=" + logfmt_value(f.value);
  }
  ++log.lines;
  log.logger->log(level, line);
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
  log_format() = format;
  spdlog::logger& logger = *process_log().logger;
  logger.set_level(kLevels[static_cast<int>(level)]);
  set_pattern(logger);
}

bool flush_log(TimePoint deadline) {
  Log* const log = existing_log();
  if (log == nullptr) return true;
  const std::uint64_t lines = log->lines;
  while (log->sink->finished() + log->writer->overrun_counter() < lines) {
    if (Clock::now() >= deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return true;
}

std::uint64_t log_lines_lost() {
  Log* const log = existing_log();
  return log == nullptr ? 0 : log->sink->failed() + log->writer->overrun_counter();
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
