#include "server/audit/audit.h"

#include <poll.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/log.h"
#include "base/thread.h"

namespace tcpvitals {
namespace {

constexpr std::size_t kBatch = 64 << 10;
constexpr auto kPause = std::chrono::milliseconds(100);
constexpr auto kGapLogPause = std::chrono::minutes(1);

std::string_view first_batch(std::string_view lines) {
  if (lines.size() <= kBatch) return lines;
  return lines.substr(0, lines.rfind('\n', kBatch - 1) + 1);
}

// Several times faster than counting characters: find() looks at many at once.
std::uint64_t count_lines(std::string_view lines) {
  std::uint64_t n = 0;
  for (std::size_t at = 0; (at = lines.find('\n', at)) != std::string_view::npos; ++at) ++n;
  return n;
}

}  // namespace

// Not zeroed: memory follows what has ever waited.
AuditLog::Buffer::Buffer(std::size_t most)
    : bytes(new char[most + kMaxAuditLine]), capacity(most) {}

struct AuditLog::Change {
  AuditOptions options;
  AuditFile file;               // invalid: it goes on in the one that it has
  std::vector<Buffer> buffers;  // none: likewise
};

Result<std::unique_ptr<AuditLog>> AuditLog::open(const AuditOptions& options) {
  auto log = std::make_unique<AuditLog>();
  auto prepared = log->prepare(options);
  if (!prepared) return std::move(prepared.error());
  (*prepared)();
  return log;
}

AuditLog::AuditLog() {
  thread_ = start_thread("audit", [this] { run(); });
}

Result<std::function<void()>> AuditLog::prepare(const AuditOptions& options) {
  if (options.buffer_bytes < 2 * kBatch) {
    return Error{"audit buffer: " + std::to_string(options.buffer_bytes) +
                 " bytes, fewer than 131072"};
  }
  const auto change = std::make_shared<Change>(Change{options, {}, {}});
  if (!options.path.empty() && (!on_ || options.path != path())) {
    auto file = AuditFile::open(options.path);
    if (!file) return std::move(file.error());
    change->file = std::move(*file);
  }
  // What waits, and what is being written.
  const std::size_t half = options.buffer_bytes / 2;
  if (!options.path.empty() && statistics().queue_limit_bytes != 2 * half) {
    change->buffers.emplace_back(half);
    change->buffers.emplace_back(half);
  }
  return std::function<void()>([this, change] { put_in_force(*change); });
}

void AuditLog::put_in_force(Change& change) {
  {
    const std::lock_guard lock(mutex_);
    options_ = change.options;
    on_ = !options_.path.empty();
    closing_ = !on_;
    if (change.file.valid()) next_file_ = std::move(change.file);
    if (!change.buffers.empty()) {
      statistics_.queue_limit_bytes = 2 * change.buffers.front().capacity;
      next_buffers_ = std::move(change.buffers);
    }
    // A log that was never on takes lines at once.
    if (waiting_.capacity == 0 && !next_buffers_.empty()) {
      waiting_ = std::move(next_buffers_.back());
      next_buffers_.pop_back();
    }
  }
  work_.notify_one();
}

std::string AuditLog::path() const {
  const std::lock_guard lock(mutex_);
  return options_.path;
}

AuditLog::~AuditLog() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  work_.notify_one();
  thread_.join();
  if (given_up_ > 0) {
    log_error("audit log: lines given up",
              {{"file", path()}, {"lines", std::to_string(given_up_)}});
  }
}

void AuditLog::write(const AuditOpen& open) { write_record(open, &AuditGap::opens); }
void AuditLog::write(const AuditClose& close) { write_record(close, &AuditGap::closes); }
void AuditLog::write(const AuditDeny& deny) { write_record(deny, &AuditGap::denies); }

template <typename Record>
void AuditLog::write_record(const Record& record, std::uint64_t AuditGap::*kind) {
  if (!on_.load(std::memory_order_relaxed)) return;
  std::array<char, kMaxAuditLine> line;
  const std::size_t size = format_audit_line(record, std::chrono::system_clock::now(), line);
  std::unique_lock lock(mutex_);
  if (!on_) return;
  // A line that would still fit must not stand before the gap record.
  if (lost_.lost() > 0 || size > waiting_.capacity - waiting_.size) {
    ++(lost_.*kind);
    ++statistics_.lost;
    return;
  }
  std::memcpy(waiting_.bytes.get() + waiting_.size, line.data(), size);
  const std::size_t before = std::exchange(waiting_.size, waiting_.size + size);
  statistics_.queued_bytes += size;
  lock.unlock();
  if (before == 0 || (before < kBatch && before + size >= kBatch)) work_.notify_one();
}

Result<void> AuditLog::reopen() {
  if (!on_) return {};
  auto file = AuditFile::open(path());
  if (!file) return std::move(file.error());
  go_on_in(std::move(*file));
  return {};
}

void AuditLog::go_on_in(AuditFile file) {
  {
    const std::lock_guard lock(mutex_);
    next_file_ = std::move(file);
  }
  work_.notify_one();
}

bool AuditLog::flush(TimePoint deadline) {
  std::unique_lock lock(mutex_);
  const std::uint64_t turn = waiting_.size > 0 ? turn_ + 1 : turn_;
  wanted_turn_ = std::max(wanted_turn_, turn);
  work_.notify_one();
  return done_.wait_until(lock, deadline, [&] { return done_turn_ >= turn; });
}

AuditStatistics AuditLog::statistics() const {
  const std::lock_guard lock(mutex_);
  return statistics_;
}

void AuditLog::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    work_.wait(lock, [&] {
      return waiting_.size > 0 || next_file_.valid() || !next_buffers_.empty() || closing_ || stop_;
    });
    work_.wait_for(lock, kPause, [&] {
      return waiting_.size >= kBatch || wanted_turn_ > turn_ || next_file_.valid() ||
             !next_buffers_.empty() || closing_ || stop_;
    });
    if (stop_ && waiting_.size == 0) return;
    if (!next_buffers_.empty()) {
      taken_ = std::move(next_buffers_.back());
      next_buffers_.pop_back();
    }
    std::swap(waiting_, taken_);
    const AuditGap gap = std::exchange(lost_, {});
    ++turn_;
    if (gap.lost() > 0) {
      const AuditLine room(taken_.bytes.get() + taken_.size, kMaxAuditLine);
      const std::size_t size = format_audit_line(gap, std::chrono::system_clock::now(), room);
      taken_.size += size;
      statistics_.queued_bytes += size;
    }
    lock.unlock();
    const std::uint64_t left = write_lines(taken_.lines());
    if (gap.lost() > 0) log_gap(gap);
    lock.lock();
    if (left > 0) {  // the last of them is the gap record, if there is one
      statistics_.lost += gap.lost() > 0 ? left - 1 : left;
      given_up_ += gap.lost() > 0 ? left - 1 + gap.lost() : left;
    }
    taken_.size = 0;
    done_turn_ = turn_;
    done_.notify_all();
    close_when_off(lock);
  }
}

// Closing may take the disk's time: not under the lock.
void AuditLog::close_when_off(std::unique_lock<std::mutex>& lock) {
  if (!closing_ || waiting_.size > 0) return;
  closing_ = false;
  lock.unlock();
  file_ = {};
  lock.lock();
}

// Under a flood each turn may have a gap.
void AuditLog::log_gap(const AuditGap& gap) {
  if (Clock::now() < next_gap_logged_) return;
  next_gap_logged_ = Clock::now() + kGapLogPause;
  log_warn("audit log: more lines came than could be written",
           {{"file", path()}, {"lost", std::to_string(gap.lost())}});
}

// How many lines it gave up: none, unless the log is to stop.
std::uint64_t AuditLog::write_lines(std::string_view lines) {
  for (;;) {
    use_next_file();
    if (lines.empty()) return 0;
    const auto [bytes, error] = file_.append(first_batch(lines));
    account(lines.substr(0, bytes), error);
    lines.remove_prefix(bytes);
    if (error != 0 && !wait_out(error)) return count_lines(lines);
  }
}

void AuditLog::use_next_file() {
  AuditFile next;
  {
    const std::lock_guard lock(mutex_);
    next = std::exchange(next_file_, {});
  }
  if (next.valid()) file_ = std::move(next);  // closes the old one, which may take the disk's time
}

void AuditLog::account(std::string_view written, int error) {
  const std::uint64_t lines = count_lines(written);
  {
    const std::lock_guard lock(mutex_);
    statistics_.lines += lines;
    statistics_.bytes += written.size();
    statistics_.queued_bytes -= written.size();
    if (error != 0 && error != EAGAIN) ++statistics_.write_errors;
  }
  if (error == EAGAIN || failing_ == (error != 0)) return;
  failing_ = error != 0;
  if (failing_) {
    log_error("audit log: cannot write", {{"error", errno_error(path(), error).message}});
  } else {
    log_info("audit log: writes again", {{"file", path()}});
  }
}

// Before the next try. False: the log is to stop, there is none.
bool AuditLog::wait_out(int error) {
  if (error == EAGAIN) {
    pollfd pipe{file_.fd(), POLLOUT, 0};
    ::poll(&pipe, 1, static_cast<int>(kPause.count()));
  }
  std::unique_lock lock(mutex_);
  if (error != EAGAIN) work_.wait_for(lock, kPause, [&] { return next_file_.valid() || stop_; });
  return !stop_;
}

}  // namespace tcpvitals
