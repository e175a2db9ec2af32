#include "collectors/connections/books.h"

namespace tcpvitals {

TrackerStats& TrackerStats::operator+=(const TrackerStats& other) {
  attempts += other.attempts;
  accepted += other.accepted;
  failed += other.failed;
  retransmitted_segments += other.retransmitted_segments;
  untracked += other.untracked;
  events += other.events;
  closes_without_counters += other.closes_without_counters;
  closes_of_past += other.closes_of_past;
  past_dropped += other.past_dropped;
  vanished += other.vanished;
  late_events += other.late_events;
  return *this;
}

void Books::begin_attempt(GroupStats& group, bool outbound) {
  ++(outbound ? stats.attempts : stats.accepted);
  ++group.syns_sent;
}

void Books::enter(const TrackedConnection& c) {
  add_live(c);
  if (c.opened()) ++group(c).opened;
}

void Books::enter_at_start(const TrackedConnection& c) {
  add_live(c);
  if (c.opened()) ++group(c).at_start;
}

void Books::add_live(const TrackedConnection& c) {
  ++group(c).connections[static_cast<std::size_t>(c.state)];
  ++live_;
  ++shared_.connections;
}

void Books::leave(const TrackedConnection& c) {
  --group(c).connections[static_cast<std::size_t>(c.state)];
  --live_;
  --shared_.connections;
}

void Books::close(const TrackedConnection& c, ConnectionEnd end) {
  leave(c);
  if (c.opened()) ++group(c).closed[static_cast<std::size_t>(end)];
}

void Books::change_state(const TrackedConnection& c, TcpState now) {
  GroupStats& group = this->group(c);
  --group.connections[static_cast<std::size_t>(c.state)];
  ++group.connections[static_cast<std::size_t>(now)];
  if (!c.opened() && established(now)) ++group.opened;
}

void Books::move(TrackedConnection& c, GroupId to) {
  const GroupId from = c.group;
  if (to == from) return;
  groups_.retain(to);
  c.group = to;
  if (!c.vanished) {
    --groups_[from].connections[static_cast<std::size_t>(c.state)];
    ++groups_[to].connections[static_cast<std::size_t>(c.state)];
    groups_[from].at_start -= c.opened() ? 1 : 0;
    groups_[to].at_start += c.opened() ? 1 : 0;
  }
  groups_.release(from);
}

void Books::take_out(const TrackedConnection& c) {
  if (c.vanished) return;
  leave(c);
  group(c).at_start -= c.opened() ? 1 : 0;
}

void Books::count_failure(GroupStats& group, ConnectFailure reason) {
  ++group.failures[static_cast<std::size_t>(reason)];
  ++stats.failed;
}

}  // namespace tcpvitals
