// PastSockets: cookies of sockets that are not tracked and are not new either, so that their past
// is never counted: those over the tracking limit at the start, and those that vanished so long ago
// that their record was given up.
//
// A cookie is kept until its event comes. Bounded: of more than kMaxCookies the oldest half is
// dropped, and dropped() says how many. What a connection's ages show to be older than the start is
// not new either; nor, once cookies were dropped, what is older than the last complete dump, which
// did not show it. Not thread-safe: the tracker's thread only.
#pragma once

#include <absl/container/flat_hash_set.h>

#include <cstdint>

#include "base/clock.h"

namespace tcpvitals {

class PastSockets {
 public:
  static constexpr std::size_t kMaxCookies = 1'048'576;  // 9 to 18 bytes each

  void remember(std::uint64_t cookie) {
    if (contains(cookie)) return;
    if (recent_.size() >= kMaxCookies / 2) {
      dropped_ += older_.size();
      older_ = std::move(recent_);
      recent_ = {};
    }
    recent_.insert(cookie);
  }
  // Whether it was remembered.
  bool forget(std::uint64_t cookie) { return recent_.erase(cookie) + older_.erase(cookie) > 0; }

  // When the first complete dump began, and the last.
  void set_start(TimePoint began) { start_ = began; }
  void set_last_dump(TimePoint began) { last_dump_ = began; }

  // Whether one that was established at that time, at the latest, is not new.
  bool is_past(std::uint64_t cookie, TimePoint established_by) const {
    return contains(cookie) || established_by < (dropped_ > 0 ? last_dump_ : start_);
  }

  bool contains(std::uint64_t cookie) const {
    return recent_.contains(cookie) || older_.contains(cookie);
  }
  std::size_t size() const { return recent_.size() + older_.size(); }
  std::uint64_t dropped() const { return dropped_; }
  std::size_t memory_bytes() const {
    return (recent_.capacity() + older_.capacity()) * (sizeof(std::uint64_t) + 1);
  }

 private:
  absl::flat_hash_set<std::uint64_t> recent_;
  absl::flat_hash_set<std::uint64_t> older_;
  std::uint64_t dropped_ = 0;
  TimePoint start_{};
  TimePoint last_dump_{};
};

}  // namespace tcpvitals
