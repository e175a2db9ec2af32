// CgroupWalker: a thread that walks the cgroup tree when it is asked to, so that nobody waits for a
// large one. Walks take 1 % of a core at most; a wish that comes while it rests is fulfilled when
// the rest is over.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "base/clock.h"
#include "collectors/attribution/cgroup_tree.h"

namespace tcpvitals {

class CgroupWalker {
 public:
  CgroupWalker(std::string path, CgroupTreeLimits limits);
  ~CgroupWalker();  // waits for a walk that is under way
  CgroupWalker(const CgroupWalker&) = delete;
  CgroupWalker& operator=(const CgroupWalker&) = delete;

  // What a walk saw that began after the wish with that number.
  struct Walk {
    CgroupTree tree;
    std::uint64_t wish = 0;   // the last that it fulfils
    std::uint64_t walks = 0;  // ever
  };

  // Any thread. Wishes for a walk that begins from now on; the number of the wish.
  std::uint64_t request();

  // Any thread. Waits for the wish to be fulfilled, but no longer than `patience`, and not at all
  // while the walker rests.
  void wait(std::uint64_t wish, Clock::duration patience);

  // Any thread. The last walk, if nobody took it yet.
  std::optional<Walk> take();

 private:
  void run();

  const std::string path_;
  const CgroupTreeLimits limits_;

  std::mutex mutex_;  // of all below
  std::condition_variable wished_changed_;
  std::condition_variable done_changed_;
  bool stopping_ = false;
  bool resting_ = false;
  std::uint64_t wished_ = 0;
  std::uint64_t done_ = 0;
  std::uint64_t walks_ = 0;
  std::optional<Walk> latest_;

  std::thread thread_;  // last: everything it uses is there before it starts
};

}  // namespace tcpvitals
