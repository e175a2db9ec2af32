#include "collectors/connections/tracker.h"

#include <sys/socket.h>

#include <algorithm>

namespace tcpvitals {
namespace {

bool established(TcpState state) {
  return state != TcpState::kSynSent && state != TcpState::kSynReceived &&
         state != TcpState::kClose && state != TcpState::kListen;
}

// States that are entered by the peer's FIN.
bool fin_received(TcpState state) {
  return state == TcpState::kCloseWait || state == TcpState::kLastAck ||
         state == TcpState::kClosing;
}

// An event's counters stand unless the kernel disconnected the socket first, which clears the
// remote port.
bool has_final_counters(const SocketRow& event) { return event.remote_port != 0; }

bool was_established(const TcpInfo& info) {
  return info.min_rtt_us != kNoRtt || info.bytes_acked != 0 || info.bytes_received != 0;
}

// As a disconnect leaves it. One that is established and was used again has its SYN acknowledged.
bool is_cleared(const TcpInfo& info) {
  return info.bytes_acked == 0 && info.bytes_received == 0 && info.bytes_sent == 0;
}

// Our FIN was acknowledged: of all that is acknowledged, SYN and FIN count as a byte each,
// retransmitted data counts once. Only an orderly close gets there.
bool fin_acknowledged(const TcpInfo& info, bool outbound) {
  const std::uint64_t syn = outbound ? 1 : 0;
  return info.bytes_acked == info.bytes_sent - info.bytes_retransmitted + syn + 1;
}

ConnectionEnd end_of(const TcpInfo& info, bool outbound) {
  if (fin_acknowledged(info, outbound)) return ConnectionEnd::kOrderly;
  // Both go back to zero with the next sign of life; a single one may be what the reset answered.
  return info.retransmits > 1 || info.probes > 1 ? ConnectionEnd::kTimeout : ConnectionEnd::kReset;
}

ConnectFailure failure_reason(const TcpInfo& info) {
  if (info.segs_in > 0) return ConnectFailure::kRefused;
  return info.total_retrans > 0 ? ConnectFailure::kTimeout : ConnectFailure::kAborted;
}

std::uint64_t mix(const std::byte* address, std::uint8_t family, std::uint64_t seed) {
  std::uint64_t low = 0;
  std::uint64_t high = 0;
  std::memcpy(&low, address, sizeof low);
  if (family == AF_INET) {
    low &= 0xffffffff;
  } else {
    std::memcpy(&high, address + sizeof low, sizeof high);
  }
  return (low ^ seed) * 0x9e3779b97f4a7c15ULL ^ high * 0xc2b2ae3d27d4eb4fULL;
}

// Of both addresses and the remote port: what connections must share to compete for local ports.
std::uint32_t ends_hash(const SocketRow& row) {
  const std::uint64_t local = mix(row.local, row.family, row.remote_port);
  const std::uint64_t both = mix(row.remote, row.family, local ^ local >> 32);
  return static_cast<std::uint32_t>(both >> 32);
}

}  // namespace

TrackerStats& TrackerStats::operator+=(const TrackerStats& other) {
  attempts += other.attempts;
  accepted += other.accepted;
  failed += other.failed;
  retransmitted_segments += other.retransmitted_segments;
  untracked += other.untracked;
  events += other.events;
  closes_without_counters += other.closes_without_counters;
  vanished += other.vanished;
  late_events += other.late_events;
  return *this;
}

Tracker::Index Tracker::find(std::uint64_t cookie) const {
  const auto it = index_.find(cookie);
  return it == index_.end() ? kNone : *it;
}

Tracker::Index Tracker::find_expected(std::uint64_t cookie) {
  const auto gone = [&](const Connection& c) { return c.cookie == 0 || c.dump == dump_; };
  while (expected_ < order_.size() && gone(at(order_[expected_]))) ++expected_;
  const std::size_t end = std::min(order_.size(), expected_ + kWindow);
  for (std::size_t i = expected_; i < end; ++i) {
    if (at(order_[i]).cookie != cookie) continue;
    expected_ = i + 1;
    if (i + kPrefetch < order_.size()) {
      const char* line = reinterpret_cast<const char*>(&at(order_[i + kPrefetch]));
      __builtin_prefetch(line, 1);
      __builtin_prefetch(line + 64, 1);
      __builtin_prefetch(line + sizeof(Connection) - 1, 1);
    }
    return order_[i];
  }
  return find(cookie);
}

Tracker::Index Tracker::allocate(std::uint64_t cookie) {
  Index index;
  if (!free_.empty()) {
    index = free_.back();
    free_.pop_back();
  } else {
    if (used_ == chunks_.size() * kChunk) chunks_.push_back(std::make_unique<Connection[]>(kChunk));
    index = used_++;
  }
  at(index) = Connection{};
  at(index).cookie = cookie;
  index_.insert(index);
  return index;
}

void Tracker::release(Index index) {
  groups_.release(at(index).group);
  index_.erase(index);
  at(index).cookie = 0;
  free_.push_back(index);
}

std::size_t Tracker::memory_bytes() const {
  return chunks_.size() * kChunk * sizeof(Connection) + index_.capacity() * (sizeof(Index) + 1) +
         (order_.capacity() + new_order_.capacity() + free_.capacity()) * sizeof(Index);
}

void Tracker::end_all() {
  for (Index i = 0; i < used_; ++i) {
    if (at(i).cookie == 0) continue;
    if (!at(i).vanished) end_unseen(i);
    release(i);
  }
}

std::uint32_t Tracker::seconds_now() const {
  const auto since_epoch =
      std::chrono::duration_cast<std::chrono::seconds>(now_.time_since_epoch());
  return static_cast<std::uint32_t>(std::max<std::int64_t>(1, since_epoch.count()));
}

Tracker::Known Tracker::known(const SocketRow& row) const {
  const Index index = find(row.cookie);
  if (index == kNone || at(index).vanished) {
    const Direction direction = classifier_.direction(row);
    return {direction, classifier_.key(row, direction), TimePoint::max()};
  }
  const Connection& c = at(index);
  return {c.outbound ? Direction::kOutbound : Direction::kInbound, groups_.groups()[c.group].key,
          c.first_seen == 0 ? TimePoint::min() : TimePoint(std::chrono::seconds(c.first_seen))};
}

void Tracker::regroup(Excludes before, Excludes now) {
  grouping_ = (grouping_ + 1) & 3;
  excluded_before_ = std::move(before);
  excluded_now_ = std::move(now);
}

void Tracker::begin_dump(TimePoint now, bool events_lost) {
  forget_vanished(now);
  now_ = now;
  dumping_ = true;
  one_miss_ends_ = events_lost;
  ++dump_;
  seen_ = 0;
  expected_ = 0;
  new_order_.clear();
  dump_states_ = {};
  dump_untracked_ = 0;
  std::fill(shared_.ports_in_use.begin(), shared_.ports_in_use.end(), std::uint16_t{0});
}

void Tracker::abandon_dump() {
  dumping_ = false;
  destroyed_.clear();
}

void Tracker::end_dump(TimePoint now) {
  sweep(now);
  order_.swap(new_order_);
  dumping_ = false;
  started_ = true;
  found_cgroups_.clear();
  excluded_before_ = {};
  destroyed_.clear();
  host_states_ = dump_states_;
  untracked_ = dump_untracked_;
}

void Tracker::add_row(const SocketRow& row) {
  if (row.state == TcpState::kListen) {
    ++dump_states_[static_cast<std::size_t>(row.state)];
    return;
  }
  const bool out = !excluded_now_.empty() && excluded(excluded_now_, row);
  if (row.time_wait || row.info == nullptr) {
    if (!out) add_socket_without_counters(row);
    return;
  }
  if (!destroyed_.empty() && destroyed_.contains(row.cookie)) return;
  const std::uint32_t ends = ends_hash(row);
  const Index index = find_expected(row.cookie);
  if (out) {
    if (index != kNone) take_out(index);
    return;
  }
  if (row.state == TcpState::kClose) return pass_over(index);
  if (index == kNone) {
    ++dump_states_[static_cast<std::size_t>(row.state)];
    if (shared_.connections >= shared_.max_connections) {
      ++dump_untracked_;
      ++stats_.untracked;
      return;
    }
    begin(allocate(row.cookie), row, ends);
    return;
  }
  Connection& c = at(index);
  if (c.dump == dump_ && !c.vanished) return;  // the kernel's walk came by twice
  const TcpInfoSample sample = row.tcp_info();
  const TcpInfo& info = sample.info;
  const bool reused = is_reused(c, ends, info);
  if (reused && established(row.state) && is_cleared(info)) return pass_over(index);
  ++dump_states_[static_cast<std::size_t>(row.state)];
  if (reused) {
    end_reused(c);
    groups_.release(c.group);
    c = Connection{};
    c.cookie = row.cookie;
    begin(index, row, ends);
    return;
  }
  if (is_misplaced(c, row)) move(c, row);
  if (c.vanished) return_to_life(c);
  mark_seen(index);
  advance(c, row, info);
}

// The kernel was disconnecting the socket while it wrote the row: ports and counters may be cleared
// already. It is there, and no more than that is known; its event tells the rest.
void Tracker::pass_over(Index index) {
  if (index != kNone && !at(index).vanished && at(index).dump != dump_) mark_seen(index);
}

bool Tracker::is_misplaced(const Connection& c, const SocketRow& row) const {
  return c.grouping != grouping_ ||
         (!found_cgroups_.empty() && groups_.groups()[c.group].key.cgroup == kCgroupUnknown &&
          found_cgroups_.contains(row.cgroup_id));
}

// To the group that a new configuration, or a name that was found, gives it.
void Tracker::move(Connection& c, const SocketRow& row) {
  const Direction direction = c.outbound ? Direction::kOutbound : Direction::kInbound;
  const GroupId to = groups_.find_or_add(classifier_.key(row, direction));
  const GroupId from = std::exchange(c.group, to);
  c.grouping = grouping_ & 3;
  if (to == from) return;
  groups_.retain(to);
  if (!c.vanished) {
    --groups_[from].connections[static_cast<std::size_t>(c.state)];
    ++groups_[to].connections[static_cast<std::size_t>(c.state)];
    groups_[from].at_start -= c.opened ? 1 : 0;
    groups_[to].at_start += c.opened ? 1 : 0;
  }
  groups_.release(from);
}

// A new configuration excludes it: as if it had never been there.
void Tracker::take_out(Index index) {
  const Connection& c = at(index);
  if (!c.vanished) {
    stop_counting(c);
    groups_[c.group].at_start -= c.opened ? 1 : 0;
  }
  release(index);
}

void Tracker::return_to_life(Connection& c) {
  c.vanished = false;
  ++live_;
  ++shared_.connections;
  ++groups_[c.group].connections[static_cast<std::size_t>(c.state)];
  // It was counted as closed, so it is counted as opened again: opened - closed stays what lives.
  if (c.opened) ++groups_[c.group].opened;
}

void Tracker::add_socket_without_counters(const SocketRow& row) {
  ++dump_states_[static_cast<std::size_t>(row.state)];
  const Direction direction = classifier_.direction(row);
  const GroupId id = groups_.find_or_add(classifier_.key(row, direction));
  GroupStats::LastDump& dump = groups_.dump(id);
  ++(row.time_wait ? dump.time_wait : dump.syn_received);
  if (direction == Direction::kOutbound) count_local_port(id, row.local_port, ends_hash(row));
}

void Tracker::count_local_port(GroupId group, std::uint16_t port, std::uint32_t ends) {
  if (!classifier_.grouping().ephemeral.contains(port)) return;
  std::uint16_t& in_use = shared_.ports_in_use[ends & 0xffff];
  if (in_use < 0xffff) ++in_use;
  GroupStats::LastDump& dump = groups_.dump(group);
  dump.ephemeral_ports = std::max<std::uint32_t>(dump.ephemeral_ports, in_use);
}

void Tracker::mark_seen(Index index) {
  at(index).dump = dump_;
  at(index).missed = false;
  ++seen_;
  new_order_.push_back(index);
}

void Tracker::begin(Index index, const SocketRow& row, std::uint32_t ends) {
  Connection& c = at(index);
  const TcpInfoSample sample = row.tcp_info();
  const TcpInfo& info = sample.info;
  info_length_ = row.info_length;
  const Direction direction = classifier_.direction(row);
  c.outbound = direction == Direction::kOutbound;
  c.group = groups_.find_or_add(classifier_.key(row, direction));
  groups_.retain(c.group);
  c.grouping = grouping_ & 3;
  c.ends = ends;
  c.state = row.state;
  ++groups_[c.group].connections[static_cast<std::size_t>(c.state)];
  ++live_;
  ++shared_.connections;
  mark_seen(index);
  if (started_ && !excluded(excluded_before_, row)) {
    c.first_seen = seconds_now();
    ++(c.outbound ? stats_.attempts : stats_.accepted);
  } else {
    c.seen = read_counters(info, fin_received(row.state));
    c.retransmission_timeouts = info.total_rto;
    c.acked_bytes = static_cast<std::uint32_t>(info.bytes_acked);
    c.opened = established(row.state);
    if (c.opened) ++groups_[c.group].at_start;
  }
  advance(c, row, info);
}

void Tracker::advance(Connection& c, const SocketRow& row, const TcpInfo& info) {
  GroupStats& group = groups_[c.group];
  if (c.state != row.state) {
    --group.connections[static_cast<std::size_t>(c.state)];
    ++group.connections[static_cast<std::size_t>(row.state)];
    c.state = row.state;
    c.close_wait_since = 0;
  }
  const bool was_open = c.opened;
  if (!c.opened && established(row.state)) {
    c.opened = true;
    ++group.opened;
  }
  add_counters(c, group, info, ends_with_fin(c, row, info), was_open);
  add_to_dump(c, row, info);
}

// What is true of this dump only.
void Tracker::add_to_dump(Connection& c, const SocketRow& row, const TcpInfo& info) {
  GroupStats::LastDump& dump = groups_.dump(c.group);
  dump.send_queue_bytes += row.send_queue;
  dump.receive_queue_bytes += row.receive_queue;
  if (c.outbound) count_local_port(c.group, row.local_port, c.ends);
  if (c.state != TcpState::kCloseWait) return;
  // The peer's FIN came no later than its last acknowledgement.
  const std::uint32_t now = seconds_now();
  if (c.close_wait_since == 0) {
    c.close_wait_since = now - std::min(now - 1, info.last_ack_received_ms / 1000);
  }
  const std::uint32_t age = now - c.close_wait_since;
  dump.close_wait_oldest = std::max(dump.close_wait_oldest, age);
  dump.close_wait_old += age >= shared_.close_wait_threshold.count() ? 1 : 0;
}

void Tracker::add_counters(Connection& c, GroupStats& group, const TcpInfo& info, bool got_fin,
                           bool was_open) {
  const Counters now = read_counters(info, got_fin);
  // Most connections have done nothing since the last dump. One byte acknowledged may be a SYN or a
  // FIN; two are news of the path.
  const auto acked = static_cast<std::uint32_t>(info.bytes_acked);
  const bool news_of_path = acked - c.acked_bytes >= 2 && info.rtt_us != 0;
  if (now == c.seen && info.total_rto == c.retransmission_timeouts && !news_of_path) return;
  const std::uint32_t repeated = now.retransmitted_segments - c.seen.retransmitted_segments;
  stats_.retransmitted_segments += repeated;
  // What was repeated before the connection stood, or without any data, was a SYN or a SYN-ACK.
  if (!was_open && info.bytes_retransmitted == 0) group.retransmitted_syns += repeated;
  add_difference(group, c.seen, now);
  c.seen = now;
  group.retransmission_timeouts +=
      static_cast<std::uint16_t>(info.total_rto - c.retransmission_timeouts);
  c.retransmission_timeouts = info.total_rto;
  if (!news_of_path) return;
  observe_path(c, group, info);
  c.acked_bytes = acked;
}

void Tracker::observe_path(Connection& c, GroupStats& group, const TcpInfo& info) {
  group.rtt.observe(info.rtt_us);
  c.rtt_observed = true;
  // The FIN is a segment like any other: once it is acknowledged the rate is its own, one segment
  // in a round trip, and the flag is no longer that of the data.
  const bool limited_by_application = (info.delivery_rate_flags & 1) != 0;
  if (info.delivery_rate > 0 && !limited_by_application && !fin_acknowledged(info, c.outbound)) {
    group.delivery_rate.observe(info.delivery_rate);
  }
}

void Tracker::count_final(Connection& c, GroupStats& group, const TcpInfo& info, bool was_open) {
  add_counters(c, group, info, fin_received(c.state) || fin_acknowledged(info, c.outbound),
               was_open);
  if (!c.rtt_observed && info.rtt_us != 0) observe_path(c, group, info);
  if (info.min_rtt_us != kNoRtt) group.min_rtt.observe(info.min_rtt_us);
}

// No longer one that lives. Its slot and its group stay with it.
void Tracker::stop_counting(const Connection& c) {
  --groups_[c.group].connections[static_cast<std::size_t>(c.state)];
  --live_;
  --shared_.connections;
  if (dumping_ && c.dump == dump_) --seen_;
}

void Tracker::leave(const Connection& c, ConnectionEnd end) {
  stop_counting(c);
  if (c.opened) ++groups_[c.group].closed[static_cast<std::size_t>(end)];
}

// The kernel cleared its counters, and the socket is used for another one.
void Tracker::end_reused(const Connection& c) {
  if (!c.opened) count_failure(groups_[c.group], failure_of_cleared(c));
  if (c.vanished) return;
  if (c.opened) ++stats_.closes_without_counters;
  leave(c, ConnectionEnd::kAborted);
}

ConnectFailure Tracker::failure_of_cleared(const Connection& c) {
  return c.seen.retransmitted_segments > 0 ? ConnectFailure::kTimeout : ConnectFailure::kUnknown;
}

// Of a cookie that is not known, while the kernel's filter is open.
bool Tracker::left_out(const SocketRow& event) const {
  return excluded(excluded_before_, event) || excluded(excluded_now_, event);
}

void Tracker::add_event(const SocketRow& event) {
  if (dumping_) destroyed_.insert(event.cookie);
  const Index index = find(event.cookie);
  if (index != kNone) {
    ++stats_.events;
    finish_known(index, event);
  } else if (started_ && (event.remote_port != 0 || !event.remote_address().is_any())) {
    if (left_out(event)) return;
    ++stats_.events;
    finish_unknown(event);
  }
}

void Tracker::finish_known(Index index, const SocketRow& event) {
  Connection& c = at(index);
  const TcpInfoSample sample = event.tcp_info();
  const TcpInfo& info = sample.info;
  const bool final_counters = has_final_counters(event);
  if (final_counters && is_reused(c, ends_hash(event), info)) {
    end_reused(c);
    release(index);
    if (!left_out(event)) finish_unknown(event);
    return;
  }
  GroupStats& group = groups_[c.group];
  const bool counted_as_closed = c.vanished && c.opened;
  const bool was_open = c.opened;
  if (!c.opened && was_established(info)) {
    c.opened = true;
    ++group.opened;
  }
  if (final_counters) {
    count_final(c, group, info, was_open);
  } else if (c.opened) {
    ++stats_.closes_without_counters;
  }
  if (!c.opened) {
    count_failure(group, final_counters ? failure_reason(info) : failure_of_cleared(c));
  }
  const ConnectionEnd end = final_counters ? end_of(info, c.outbound) : ConnectionEnd::kAborted;
  if (!c.vanished) {
    leave(c, end);
  } else {
    ++stats_.late_events;
    if (c.opened && !counted_as_closed) ++group.closed[static_cast<std::size_t>(end)];
  }
  release(index);
}

void Tracker::finish_unknown(const SocketRow& event) {
  const TcpInfoSample sample = event.tcp_info();
  const TcpInfo& info = sample.info;
  info_length_ = event.info_length;
  const Direction direction = classifier_.direction(event);
  const bool outbound = direction == Direction::kOutbound;
  GroupStats& group = groups_[groups_.find_or_add(classifier_.key(event, direction))];
  ++(outbound ? stats_.attempts : stats_.accepted);
  Connection whole_life;
  whole_life.outbound = outbound;
  const bool final_counters = has_final_counters(event);
  if (outbound && !was_established(info)) {
    count_failure(group, final_counters ? failure_reason(info) : ConnectFailure::kUnknown);
    add_counters(whole_life, group, info, false, false);
    return;
  }
  ++group.opened;
  if (final_counters) {
    ++group.closed[static_cast<std::size_t>(end_of(info, outbound))];
    count_final(whole_life, group, info, false);
  } else {
    ++group.closed[static_cast<std::size_t>(ConnectionEnd::kAborted)];
    ++stats_.closes_without_counters;
  }
}

void Tracker::count_failure(GroupStats& group, ConnectFailure reason) {
  ++group.failures[static_cast<std::size_t>(reason)];
  if (reason != ConnectFailure::kAborted) ++stats_.failed;
}

void Tracker::sweep(TimePoint now) {
  if (seen_ == live_) return;  // every one was seen: nothing can be missing
  for (Index i = 0; i < used_; ++i) {
    Connection& c = at(i);
    if (c.cookie == 0 || c.vanished || c.dump == dump_) continue;
    if (!c.missed && !one_miss_ends_) {
      c.missed = true;
      continue;
    }
    end_unseen(i);
    vanished_.push_back({c.cookie, now, c.dump});
  }
}

// Missing, and no event came.
void Tracker::end_unseen(Index index) {
  Connection& c = at(index);
  leave(c, ConnectionEnd::kUnknown);
  c.vanished = true;
  ++stats_.vanished;
}

void Tracker::forget_vanished(TimePoint now) {
  while (!vanished_.empty() &&
         (vanished_.size() > kMaxVanished || now - vanished_.front().since > kVanishedRemembered)) {
    const Vanished& oldest = vanished_.front();
    const Index index = find(oldest.cookie);
    if (index != kNone && at(index).vanished && at(index).dump == oldest.dump) release(index);
    vanished_.pop_front();
  }
}

// A 32-bit counter that fell has wrapped, unless it cannot have risen that far: nobody repeats a
// SYN 2^32 times, and a data segment holds a byte at least.
bool Tracker::is_reused(const Connection& c, std::uint32_t ends, const TcpInfo& info) {
  const Counters& seen = c.seen;
  if (c.ends != ends || info.bytes_sent < seen.sent_bytes ||
      info.bytes_received < seen.received_bytes) {
    return true;
  }
  if (info.total_retrans < seen.retransmitted_segments &&
      info.bytes_retransmitted <= seen.retransmitted_bytes) {
    return true;
  }
  const std::uint32_t segments = info.data_segs_out - seen.data_segments_sent;
  return info.bytes_sent != 0 && segments > info.bytes_sent - seen.sent_bytes;
}

// The kernel reads the state before the counters: what came last to an open connection may be a FIN
// that arrived in between. That byte waits until a later dump finds the connection still open.
bool Tracker::ends_with_fin(Connection& c, const SocketRow& row, const TcpInfo& info) {
  if (fin_received(row.state)) return true;
  c.byte_held = info.bytes_received != c.seen.received_bytes + (c.byte_held ? 1 : 0);
  return c.byte_held;
}

Tracker::Counters Tracker::read_counters(const TcpInfo& info, bool got_fin) {
  return {.sent_bytes = info.bytes_sent,
          .retransmitted_bytes = info.bytes_retransmitted,
          .received_bytes = info.bytes_received - (got_fin && info.bytes_received > 0 ? 1 : 0),
          .busy_us = info.busy_us,
          .receive_window_limited_us = info.receive_window_limited_us,
          .send_buffer_limited_us = info.send_buffer_limited_us,
          .retransmitted_segments = info.total_retrans,
          .data_segments_sent = info.data_segs_out,
          .spurious_retransmissions = info.dsack_dups,
          .delivered_segments = info.delivered,
          .ce_marked_segments = info.delivered_ce,
          .reordering_events = info.reordering_seen};
}

void Tracker::add_difference(GroupStats& group, const Counters& before, const Counters& now) {
  // 32-bit counters wrap in the kernel; their difference does not care.
  const auto rise = [](std::uint32_t from, std::uint32_t to) { return std::uint64_t{to - from}; };
  // The kernel's times are estimates while a period runs, and may step back a little.
  const auto rise64 = [](std::uint64_t from, std::uint64_t to) {
    return to > from ? to - from : 0;
  };
  group.sent_bytes += rise64(before.sent_bytes, now.sent_bytes);
  group.retransmitted_bytes += rise64(before.retransmitted_bytes, now.retransmitted_bytes);
  group.received_bytes += rise64(before.received_bytes, now.received_bytes);
  group.busy_us += rise64(before.busy_us, now.busy_us);
  group.receive_window_limited_us +=
      rise64(before.receive_window_limited_us, now.receive_window_limited_us);
  group.send_buffer_limited_us += rise64(before.send_buffer_limited_us, now.send_buffer_limited_us);
  group.retransmitted_segments += rise(before.retransmitted_segments, now.retransmitted_segments);
  group.data_segments_sent += rise(before.data_segments_sent, now.data_segments_sent);
  group.spurious_retransmissions +=
      rise(before.spurious_retransmissions, now.spurious_retransmissions);
  group.delivered_segments += rise(before.delivered_segments, now.delivered_segments);
  group.ce_marked_segments += rise(before.ce_marked_segments, now.ce_marked_segments);
  group.reordering_events += rise(before.reordering_events, now.reordering_events);
}

}  // namespace tcpvitals
