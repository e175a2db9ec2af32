#include "collectors/attribution/groups.h"

#include <algorithm>
#include <numeric>
#include <optional>
#include <utility>

namespace tcpvitals {

std::string_view to_string(Direction direction) {
  return direction == Direction::kInbound ? "inbound" : "outbound";
}

std::string_view to_string(ConnectFailure reason) {
  return kConnectFailureNames[static_cast<std::size_t>(reason)];
}

std::string_view to_string(ConnectionEnd end) {
  return kConnectionEndNames[static_cast<std::size_t>(end)];
}

std::uint64_t GroupStats::closes() const {
  return std::accumulate(closed.begin(), closed.end(), std::uint64_t{0});
}

GroupId GroupTable::find_or_add(const GroupKey& key, For what) {
  const auto known = ids_.find(key);
  if (known != ids_.end()) {
    Group& group = groups_[known->second];
    group.asked = ++asked_;
    group.touched = true;
    return known->second;
  }
  if (counts(key) && !make_room(what)) {
    ++overflowed_;
    return find_or_add({.direction = key.direction,
                        .peer = key.peer,
                        .cgroup = key.cgroup == kCgroupOff ? kCgroupOff : kCgroupOther,
                        .port = kPortOther,
                        .netns = key.netns == 0 ? NetnsId{0} : kNetnsOther},
                       what);
  }
  return add(key, counts(key) && what == For::kAttempt);
}

// Takes a place for a group that the limit counts. Attempts that are still under way keep their
// groups, so groups with connections may be as many as the limit besides.
bool GroupTable::make_room(For what) {
  if (what == For::kAttempt) {
    if (counted_ >= max_groups_ || attempts_only_ >= max_groups_ / 4 ||
        attempts_added_ >= max_groups_) {
      return false;
    }
    ++attempts_only_;
    ++attempts_added_;
  } else if (counted_ >= max_groups_ && !displace_attempts() &&
             counted_ - attempts_only_ >= max_groups_) {
    return false;
  }
  ++counted_;
  return true;
}

// The group of attempts that was not asked for for longest leaves.
bool GroupTable::displace_attempts() {
  std::optional<std::size_t> oldest;
  for (std::size_t i = 0; i < groups_.size(); ++i) {
    const Group& g = groups_[i];
    if (!g.named || !g.attempts || g.references > 0 || g.stats.had_connection()) continue;
    if (g.stats.last_dump.has_leftovers() || dump_[i].has_leftovers()) continue;
    if (!oldest || g.asked < groups_[*oldest].asked) oldest = i;
  }
  if (!oldest) return false;
  remove(static_cast<GroupId>(*oldest));
  return true;
}

void GroupTable::remove(GroupId id) {
  const Group& group = groups_[id];
  ++forgotten_;
  if (counts(group.key)) {
    --counted_;
    attempts_only_ -= group.attempts ? 1 : 0;
  }
  ids_.erase(group.key);
  free(id);
}

GroupId GroupTable::add(const GroupKey& key, bool attempts) {
  GroupId id;
  if (free_.empty()) {
    id = static_cast<GroupId>(groups_.size());
    groups_.emplace_back();
    dump_.emplace_back();
  } else {
    id = free_.back();
    free_.pop_back();
  }
  groups_[id] = {
      .key = key, .asked = ++asked_, .touched = true, .named = true, .attempts = attempts};
  dump_[id] = {};
  ids_.emplace(key, id);
  return id;
}

void GroupTable::free(GroupId id) {
  groups_[id] = {};
  free_.push_back(id);
}

void GroupTable::release(GroupId id) {
  Group& group = groups_[id];
  if (--group.references == 0 && !group.named) free(id);
}

bool GroupTable::uses_cgroup(CgroupLabel label) const {
  return std::any_of(groups_.begin(), groups_.end(),
                     [&](const Group& g) { return g.named && g.key.cgroup == label; });
}

bool GroupTable::uses_netns(NetnsId id) const {
  return std::any_of(groups_.begin(), groups_.end(),
                     [&](const Group& g) { return g.named && g.key.netns == id; });
}

void GroupTable::begin_dump() { dump_.assign(groups_.size(), {}); }

void GroupTable::end_dump() {
  for (std::size_t i = 0; i < groups_.size(); ++i) groups_[i].stats.last_dump = dump_[i];
}

void GroupTable::keep_dump(NetnsId netns) {
  for (std::size_t i = 0; i < groups_.size(); ++i) {
    if (groups_[i].key.netns == netns) dump_[i] = groups_[i].stats.last_dump;
  }
}

void GroupTable::clear_dump(NetnsId netns) {
  for (std::size_t i = 0; i < groups_.size(); ++i) {
    if (groups_[i].key.netns != netns) continue;
    groups_[i].stats.last_dump = {};
    if (i < dump_.size()) dump_[i] = {};
  }
}

void GroupTable::forget_idle(TimePoint now, Clock::duration idle) {
  if (hour_start_ == TimePoint{} || now - hour_start_ >= std::chrono::hours(1)) {
    hour_start_ = now;
    attempts_added_ = 0;
  }
  attempts_only_ = 0;
  for (std::size_t i = 0; i < groups_.size(); ++i) {
    Group& group = groups_[i];
    if (!group.named) continue;
    const bool attempts = !group.stats.had_connection();
    group.attempts = attempts && counts(group.key);
    attempts_only_ += group.attempts ? 1 : 0;
    const bool busy = group.references > 0 || group.stats.last_dump.has_leftovers();
    if (busy || std::exchange(group.touched, false)) {
      group.idle_since = now;
      continue;
    }
    const Clock::duration kept = attempts ? std::min<Clock::duration>(idle, kAttemptsIdle) : idle;
    if (now - group.idle_since >= kept) remove(static_cast<GroupId>(i));
  }
}

}  // namespace tcpvitals
