#include "collectors/attribution/cgroup_walker.h"

#include <utility>

#include "base/thread.h"

namespace tcpvitals {
namespace {

constexpr double kShare = 0.01;  // of a core

}  // namespace

CgroupWalker::CgroupWalker(std::string path, CgroupTreeLimits limits)
    : path_(std::move(path)), limits_(limits) {
  thread_ = start_thread("cgroups", [this] { run(); });
}

CgroupWalker::~CgroupWalker() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wished_changed_.notify_all();
  thread_.join();
}

std::uint64_t CgroupWalker::request() {
  const std::lock_guard lock(mutex_);
  wished_changed_.notify_all();
  return ++wished_;
}

void CgroupWalker::wait(std::uint64_t wish, Clock::duration patience) {
  std::unique_lock lock(mutex_);
  done_changed_.wait_for(lock, patience, [&] { return resting_ || done_ >= wish; });
}

std::optional<CgroupWalker::Walk> CgroupWalker::take() {
  const std::lock_guard lock(mutex_);
  return std::exchange(latest_, std::nullopt);
}

void CgroupWalker::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    wished_changed_.wait(lock, [this] { return stopping_ || wished_ > done_; });
    if (stopping_) return;
    const std::uint64_t wish = wished_;
    lock.unlock();
    CgroupTree tree = walk_cgroups(path_, limits_);
    const std::chrono::duration<double> rest(tree.cpu_seconds / kShare);
    lock.lock();
    done_ = wish;
    latest_ = Walk{std::move(tree), wish, ++walks_};
    resting_ = true;
    done_changed_.notify_all();
    if (wished_changed_.wait_for(lock, rest, [this] { return stopping_; })) return;
    resting_ = false;
  }
}

}  // namespace tcpvitals
