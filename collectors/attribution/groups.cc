#include "collectors/attribution/groups.h"

#include <algorithm>
#include <numeric>

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

GroupId GroupTable::find_or_add(const GroupKey& key) {
  const auto known = ids_.find(key);
  if (known != ids_.end()) {
    groups_[known->second].touched = true;
    return known->second;
  }
  if (counts(key)) {
    if (counted_ >= max_groups_) {
      ++overflowed_;
      return find_or_add({.direction = key.direction,
                          .peer = key.peer,
                          .cgroup = key.cgroup == kCgroupOff ? kCgroupOff : kCgroupOther,
                          .port = kPortOther,
                          .netns = key.netns == 0 ? NetnsId{0} : kNetnsOther});
    }
    ++counted_;
  }
  return add(key);
}

GroupId GroupTable::add(const GroupKey& key) {
  GroupId id;
  if (free_.empty()) {
    id = static_cast<GroupId>(groups_.size());
    groups_.emplace_back();
    dump_.emplace_back();
  } else {
    id = free_.back();
    free_.pop_back();
  }
  groups_[id] = {.key = key, .touched = true, .named = true};
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
  for (std::size_t i = 0; i < groups_.size(); ++i) {
    Group& group = groups_[i];
    if (!group.named) continue;
    const GroupStats::LastDump& last = group.stats.last_dump;
    const bool busy =
        group.references > 0 || last.time_wait > 0 || last.fin_wait2 > 0 || last.syn_received > 0;
    if (busy || std::exchange(group.touched, false)) {
      group.idle_since = now;
      continue;
    }
    if (now - group.idle_since < idle) continue;
    ++forgotten_;
    counted_ -= counts(group.key) ? 1 : 0;
    ids_.erase(group.key);
    free(static_cast<GroupId>(i));
  }
}

}  // namespace tcpvitals
