// AuditLog: the file with a line for every connection that opened, closed or was turned away.
//
//   auto log = AuditLog::open({.path = "/var/log/tcpvitals/audit.jsonl"});
//   (*log)->write(AuditOpen{.id = 7, .listener = "echo", .peer = peer, .local = local});
//
// It may be off, and then takes nothing; its totals go on when it is on again.
//
// Threads: write() from any, and it never waits for the disk: it formats on its own stack and
// copies into a buffer of fixed size. One thread, with all signals blocked, writes what has
// gathered after 64 KiB or 100 ms. The lines of one thread stand in the order of its calls.
// Failure: when the disk is full, slow or gone, lines wait in the buffer and writing is tried again
// every 100 ms. When the buffer is full, lines are lost until the writer has taken it; a `gap`
// record stands in their place and has their exact number. The file holds whole lines only: a line
// that was begun and could not be ended is cut off again, and written anew when that goes. Lines
// are not synced: they survive this process, not the host. Lifetime: outlives all who write. The
// destructor writes what it can without waiting, logs how many lines it gave up, and joins: flush()
// first.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "server/audit/audit_file.h"
#include "server/audit/audit_line.h"

namespace tcpvitals {

struct AuditOptions {
  std::string path;  // created with mode 0640; a pipe, /dev/stdout and /dev/stderr will do too
  std::size_t buffer_bytes = 8U << 20;  // lines that wait; at least 128 KiB
};

struct AuditStatistics {
  std::uint64_t lines = 0;  // written, gap records included
  std::uint64_t lost = 0;
  std::uint64_t bytes = 0;  // written
  std::uint64_t write_errors = 0;
  std::size_t queued_bytes = 0;       // waiting to be written
  std::size_t queue_limit_bytes = 0;  // 0: it was never on
};

class AuditLog {
 public:
  static Result<std::unique_ptr<AuditLog>> open(const AuditOptions& options);
  AuditLog();  // off
  ~AuditLog();
  AuditLog(const AuditLog&) = delete;
  AuditLog& operator=(const AuditLog&) = delete;

  void write(const AuditOpen& open);
  void write(const AuditClose& close);
  void write(const AuditDeny& deny);

  // Prepares other options: opens the file, if it is another one. Nothing has changed until what is
  // returned is called, which cannot fail. Without a path it is off: what waits is still written.
  // One thread at a time.
  Result<std::function<void()>> prepare(const AuditOptions& options);
  bool is_on() const { return on_; }

  // Opens the path anew and goes on there. Fails, and goes on where it is, if it cannot be opened.
  // Off, it does nothing.
  Result<void> reopen();
  // Goes on in that file, which is the path opened anew after a rotation moved the old one: lines
  // that no one has begun to write go there.
  void go_on_in(AuditFile file);

  // Waits until what was written before this call is in the file, gap records included. False: not
  // by `deadline`.
  bool flush(TimePoint deadline);

  AuditStatistics statistics() const;

 private:
  // Lines that wait, one after the other, with room for a gap record after them.
  struct Buffer {
    explicit Buffer(std::size_t most);

    std::unique_ptr<char[]> bytes;
    std::size_t capacity;
    std::size_t size = 0;

    std::string_view lines() const { return {bytes.get(), size}; }
  };
  struct Change;

  void put_in_force(Change& change);
  std::string path() const;

  template <typename Record>
  void write_record(const Record& record, std::uint64_t AuditGap::*kind);

  void run();
  std::uint64_t write_lines(std::string_view lines);
  void use_next_file();
  void close_when_off(std::unique_lock<std::mutex>& lock);
  void log_gap(const AuditGap& gap);
  void account(std::string_view written, int error);
  bool wait_out(int error);

  std::atomic<bool> on_ = false;

  mutable std::mutex mutex_;
  std::condition_variable work_;
  std::condition_variable done_;
  AuditOptions options_;
  std::vector<Buffer> next_buffers_;  // the next ones that are empty are replaced by these
  Buffer waiting_{0};
  AuditGap lost_;         // after what waits; none may wait behind them
  AuditFile next_file_;   // valid after go_on_in()
  bool closing_ = false;  // the file, when nothing waits
  AuditStatistics statistics_;
  std::uint64_t turn_ = 0;       // the writer takes what waits, counted
  std::uint64_t done_turn_ = 0;  // and has written it
  std::uint64_t wanted_turn_ = 0;
  bool stop_ = false;

  // The writer's own.
  Buffer taken_{0};
  AuditFile file_;
  bool failing_ = false;
  TimePoint next_gap_logged_;
  std::uint64_t given_up_ = 0;
  std::thread thread_;
};

}  // namespace tcpvitals
