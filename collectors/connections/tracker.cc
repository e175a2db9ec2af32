#include "collectors/connections/tracker.h"

#include <utility>

#include "collectors/attribution/handshake.h"
#include "collectors/connections/verdicts.h"

namespace tcpvitals {
namespace {

// When it was established, at the latest, as a row or event says that was written at `now` or
// before.
TimePoint established_by(const SocketRow& row, const TcpInfoSample& sample, TimePoint now) {
  constexpr auto kTicks = std::chrono::milliseconds(20);  // of the kernel's ages
  return has_final_counters(row) ? now - age_of(row, sample) + kTicks : TimePoint::max();
}

// An event of a cookie that is not known, while the kernel leaves out less than it should.
bool is_left_out(const Excludes& before, const Excludes& now, const SocketRow& event) {
  return excluded(before, event) || excluded(now, event);
}

Direction direction_of(const TrackedConnection& c) {
  return c.outbound ? Direction::kOutbound : Direction::kInbound;
}

}  // namespace

// ---- dumps ----

void Tracker::begin_dump(TimePoint now, bool events_lost) {
  forget_vanished(now);
  if (ports_named_ != classifier_.generation()) {
    ports_named_ = classifier_.generation();
    regroup_all();
  }
  if (!started_) past_.set_start(now);
  dumping_ = true;
  one_miss_ends_ = events_lost;
  account_.begin(now);
  table_.begin_dump();
}

void Tracker::abandon_dump() {
  dumping_ = false;
  destroyed_.clear();
}

void Tracker::end_dump(TimePoint now) {
  sweep(now);
  table_.end_dump();
  account_.end();
  started_ = true;
  past_.set_last_dump(account_.now());
  books_.stats.past_dropped = past_.dropped();
  excluded_before_ = {};
  found_cgroups_.clear();
  abandon_dump();
}

void Tracker::add_row(const SocketRow& row) {
  if (row.state == TcpState::kListen) return account_.count_state(row.state);
  const bool out = !excluded_now_.empty() && excluded(excluded_now_, row);
  if (row.time_wait || row.info == nullptr) {
    if (!out) account_.add_socket_without_counters(row);
    return;
  }
  if (!destroyed_.empty() && destroyed_.contains(row.cookie)) return;
  const std::uint32_t ends = ends_hash(row);
  const Index index = table_.find_next(row.cookie);
  if (out) {
    if (index != kNone) drop(index);
    return;
  }
  if (row.state == TcpState::kClose) return table_.mark_there(index);
  if (index == kNone) {
    account_.count_state(row.state);
    if (shared_.connections < shared_.max_connections) {
      return begin(table_.add(row.cookie), row, ends);
    }
    account_.count_untracked();
    ++books_.stats.untracked;
    if (!started_ || excluded(excluded_before_, row)) past_.remember(row.cookie);
    return;
  }
  TrackedConnection& c = table_[index];
  if (table_.is_seen(c) && !c.vanished) return;  // the kernel's walk came by twice
  const TcpInfoSample sample = row.tcp_info();
  const bool reused = is_reused(c, ends, sample.info);
  if (reused && established(row.state) && is_cleared(sample.info)) return table_.mark_there(index);
  account_.count_state(row.state);
  if (reused) {
    end_reused(c);
    groups_.release(c.group);
    c = TrackedConnection{};
    c.cookie = row.cookie;
    return begin(index, row, ends);
  }
  const bool renamed = !found_cgroups_.empty() && found_cgroups_.contains(row.cgroup_id) &&
                       groups_.groups()[c.group].key.cgroup == kCgroupUnknown;
  if (c.regroup || renamed) move(c, row, c.opened());
  if (c.vanished) books_.enter(c);
  c.vanished = false;
  table_.mark_seen(index);
  advance(c, row, sample);
}

// To the group that it has now.
void Tracker::move(TrackedConnection& c, const SocketRow& row, bool connected) {
  const GroupKey key = classifier_.key(row, direction_of(c));
  books_.move(c, groups_.find_or_add(key, GroupTable::wanted(connected)));
  c.regroup = false;
}

// The attempt was answered. Groups have more room for connections than for attempts.
void Tracker::connect(TrackedConnection& c, const SocketRow& row) {
  classifier_.learn(row, direction_of(c), true);
  move(c, row, true);
}

void Tracker::begin(Index index, const SocketRow& row, std::uint32_t ends) {
  TrackedConnection& c = table_[index];
  const TcpInfoSample sample = row.tcp_info();
  info_length_ = row.info_length;
  const Direction direction = classifier_.direction(row);
  c.outbound = direction == Direction::kOutbound;
  const bool connected = established(row.state);
  if (connected) classifier_.learn(row, direction, true);
  c.group = groups_.find_or_add(classifier_.key(row, direction), GroupTable::wanted(connected));
  groups_.retain(c.group);
  c.ends = ends;
  // The row was written since the dump began.
  const TimePoint by = established_by(row, sample, account_.now() + kDumpTime);
  if (!started_ || excluded(excluded_before_, row) || past_.is_past(row.cookie, by)) {
    past_.forget(row.cookie);
    c.start(sample.info, row.state);
    books_.enter_at_start(c);
  } else {
    c.first_seen = account_.seconds_now();
    c.state = row.state;
    books_.begin_attempt(books_.group(c), c.outbound);
    books_.enter(c);
  }
  table_.mark_seen(index);
  advance(c, row, sample);
}

void Tracker::advance(TrackedConnection& c, const SocketRow& row, const TcpInfoSample& sample) {
  if (!established(c.state) && established(row.state)) connect(c, row);
  if (c.state != row.state) {
    books_.change_state(c, row.state);
    c.close_wait_since = 0;
  }
  books_.measure(books_.group(c), [&](TcpTotals& totals) {
    c.look(sample, row.state, path_interval(account_.now()), totals);
  });
  account_.add_connection(c, row, sample.info);
}

// A new configuration excludes it.
void Tracker::drop(Index index) {
  const TrackedConnection& c = table_[index];
  books_.take_out(c);
  groups_.release(c.group);
  table_.remove(index);
}

void Tracker::sweep(TimePoint now) {
  if (table_.seen() == books_.live()) return;  // every one was seen: nothing can be missing
  for (Index i = 0; i < table_.end(); ++i) {
    TrackedConnection& c = table_[i];
    if (c.cookie == 0 || c.vanished || table_.is_seen(c)) continue;
    if (!c.missed && !one_miss_ends_) {
      c.missed = true;
      continue;
    }
    vanish(c);
    vanished_.push_back({c.cookie, now, c.dump});
  }
}

// Missing, and no event came.
void Tracker::vanish(TrackedConnection& c) {
  books_.close(c, ConnectionEnd::kUnknown);
  c.vanished = true;
  ++books_.stats.vanished;
}

void Tracker::forget_vanished(TimePoint now) {
  while (!vanished_.empty() &&
         (vanished_.size() > kMaxVanished || now - vanished_.front().since > kVanishedRemembered)) {
    const Vanished oldest = vanished_.front();
    vanished_.pop_front();
    const Index index = table_.find(oldest.cookie);
    if (index == kNone || !table_[index].vanished || table_[index].dump != oldest.dump) continue;
    past_.remember(oldest.cookie);
    groups_.release(table_[index].group);
    table_.remove(index);
  }
}

void Tracker::regroup(Excludes before, Excludes now) {
  regroup_all();
  excluded_before_ = std::move(before);
  excluded_now_ = std::move(now);
}

// A mark for each, not a number: dumps that fail may leave one behind for any number of groupings.
void Tracker::regroup_all() {
  for (Index i = 0; i < table_.end(); ++i) table_[i].regroup = table_[i].cookie != 0;
}

// ---- ends ----

// The kernel cleared its counters, and the socket is used for another one.
void Tracker::end_reused(TrackedConnection& c) {
  if (!c.opened()) books_.count_failure(books_.group(c), ConnectFailure::kUnknown);
  if (c.vanished) return;
  if (c.opened()) ++books_.stats.closes_without_counters;
  books_.close(c, ConnectionEnd::kAborted);
}

void Tracker::add_event(const SocketRow& event, TimePoint now) {
  if (dumping_) destroyed_.insert(event.cookie);
  const Index index = table_.find(event.cookie);
  if (index != kNone) {
    ++books_.stats.events;
    finish_known(index, event, now);
  } else if (started_ && (event.remote_port != 0 || !event.remote_address().is_any())) {
    if (is_left_out(excluded_before_, excluded_now_, event)) return;
    ++books_.stats.events;
    finish_unknown(event, now);
  }
}

void Tracker::finish_known(Index index, const SocketRow& event, TimePoint now) {
  TrackedConnection& c = table_[index];
  const TcpInfoSample sample = event.tcp_info();
  const bool final_counters = has_final_counters(event);
  if (final_counters && is_reused(c, ends_hash(event), sample.info)) {
    end_reused(c);
    groups_.release(c.group);
    table_.remove(index);
    if (!is_left_out(excluded_before_, excluded_now_, event)) finish_unknown(event, now);
    return;
  }
  const bool counted_as_closed = c.vanished && c.opened();
  const bool answered = !c.opened() && was_established(event, sample);
  if (answered && final_counters) connect(c, event);
  if (!c.opened() && !answered) classifier_.learn(event, direction_of(c), false);
  GroupStats& group = books_.group(c);
  if (answered) {
    if (c.vanished) {
      ++group.opened;
    } else {
      books_.change_state(c, TcpState::kEstablished);
    }
    c.state = TcpState::kEstablished;
  }
  if (final_counters) {
    books_.measure(group, [&](TcpTotals& totals) { c.finish(sample, totals); });
  } else if (c.opened()) {
    ++books_.stats.closes_without_counters;
  }
  if (!c.opened()) books_.count_failure(group, failure_of(event, sample));
  const ConnectionEnd how = end_of(event, sample, c.outbound, c.state);
  if (!c.vanished) {
    books_.close(c, how);
  } else {
    ++books_.stats.late_events;
    if (c.opened() && !counted_as_closed) ++group.closed[static_cast<std::size_t>(how)];
  }
  groups_.release(c.group);
  table_.remove(index);
}

void Tracker::finish_unknown(const SocketRow& event, TimePoint now) {
  const TcpInfoSample sample = event.tcp_info();
  info_length_ = event.info_length;
  if (past_.is_past(event.cookie, established_by(event, sample, now))) {
    past_.forget(event.cookie);
    ++books_.stats.closes_of_past;
    return;
  }
  const Direction direction = classifier_.direction(event);
  const bool outbound = direction == Direction::kOutbound;
  if (!outbound && is_spare_of_handshake(event, sample)) return;
  const bool failed = outbound && !was_established(event, sample);
  classifier_.learn(event, direction, !failed);
  const GroupKey key = classifier_.key(event, direction);
  GroupStats& group = groups_[groups_.find_or_add(key, GroupTable::wanted(!failed))];
  books_.begin_attempt(group, outbound);
  TcpMeter whole_life;
  whole_life.outbound = outbound;
  const bool final_counters = has_final_counters(event);
  if (final_counters) {
    books_.measure(group, [&](TcpTotals& totals) { whole_life.finish(sample, totals); });
  }
  if (failed) return books_.count_failure(group, failure_of(event, sample));
  ++group.opened;
  ++group.closed[static_cast<std::size_t>(end_of(event, sample, outbound, TcpState::kClose))];
  if (!final_counters) ++books_.stats.closes_without_counters;
}

void Tracker::end_all() {
  for (Index i = 0; i < table_.end(); ++i) {
    TrackedConnection& c = table_[i];
    if (c.cookie == 0) continue;
    if (!c.vanished) vanish(c);
    groups_.release(c.group);
    table_.remove(i);
  }
}

Tracker::Known Tracker::known(const SocketRow& row) const {
  const Index index = table_.find(row.cookie);
  if (index == kNone || table_[index].vanished) {
    const Direction direction = classifier_.direction(row);
    return {direction, classifier_.key(row, direction), TimePoint::max()};
  }
  const TrackedConnection& c = table_[index];
  return {direction_of(c), groups_.groups()[c.group].key,
          c.first_seen == 0 ? TimePoint::min() : TimePoint(std::chrono::seconds(c.first_seen))};
}

}  // namespace tcpvitals
