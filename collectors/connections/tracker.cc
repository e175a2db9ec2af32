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

// Our FIN was acknowledged: of all that is acknowledged, SYN and FIN count as a byte each,
// retransmitted data counts once. Only an orderly close gets there.
bool fin_acknowledged(const TcpInfo& info, Direction direction) {
  const std::uint64_t syn = direction == Direction::kOutbound ? 1 : 0;
  return info.bytes_acked == info.bytes_sent - info.bytes_retransmitted + syn + 1;
}

ConnectFailure failure_reason(const TcpInfo& info) {
  if (info.segs_in > 0) return ConnectFailure::kRefused;
  return info.total_retrans > 0 ? ConnectFailure::kTimeout : ConnectFailure::kAborted;
}

std::uint32_t remote_hash(const SocketRow& row) {
  std::uint64_t low = 0;
  std::uint64_t high = 0;
  std::memcpy(&low, row.remote, sizeof low);
  if (row.family == AF_INET) {
    low &= 0xffffffff;
  } else {
    std::memcpy(&high, row.remote + sizeof low, sizeof high);
  }
  const std::uint64_t mixed = (low * 0x9e3779b97f4a7c15ULL) ^ (high * 0xc2b2ae3d27d4eb4fULL) ^
                              (row.remote_port * 0x165667b19e3779f9ULL);
  return static_cast<std::uint32_t>(mixed >> 32);
}

}  // namespace

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
  index_.erase(index);
  at(index).cookie = 0;
  free_.push_back(index);
}

std::size_t Tracker::memory_bytes() const {
  return chunks_.size() * kChunk * sizeof(Connection) + index_.capacity() * (sizeof(Index) + 1) +
         (order_.capacity() + new_order_.capacity() + free_.capacity()) * sizeof(Index);
}

void Tracker::begin_dump(TimePoint now) {
  forget_vanished(now);
  dumping_ = true;
  ++dump_;
  seen_ = 0;
  expected_ = 0;
  new_order_.clear();
  dump_states_ = {};
  dump_untracked_ = 0;
  dump_groups_.assign(groups_.stats().size(), {});
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
  destroyed_.clear();
  host_states_ = dump_states_;
  untracked_ = dump_untracked_;
  dump_groups_.resize(groups_.stats().size());
  for (std::size_t i = 0; i < dump_groups_.size(); ++i) {
    groups_[static_cast<GroupId>(i)].last_dump = dump_groups_[i];
  }
}

void Tracker::add_row(const SocketRow& row) {
  if (row.state == TcpState::kListen) {
    ++dump_states_[static_cast<std::size_t>(row.state)];
    return;
  }
  if (row.time_wait || row.info == nullptr) {
    add_socket_without_counters(row);
    return;
  }
  if (destroyed_.contains(row.cookie)) return;
  const Index index = find_expected(row.cookie);
  if (index == kNone) {
    ++dump_states_[static_cast<std::size_t>(row.state)];
    if (live_ == limits_.connections) {
      ++dump_untracked_;
      return;
    }
    begin(allocate(row.cookie), row);
    return;
  }
  Connection& c = at(index);
  if (c.dump == dump_ && !c.vanished) return;  // the kernel's walk came by twice
  ++dump_states_[static_cast<std::size_t>(row.state)];
  const TcpInfoSample sample = row.tcp_info();
  const TcpInfo& info = sample.info;
  if (is_reused(c, row, info)) {
    if (!c.vanished) {
      if (c.opened) ++stats_.closes_without_counters;
      remove(c);
    }
    c = Connection{};
    c.cookie = row.cookie;
    begin(index, row);
    return;
  }
  if (c.vanished) return_to_life(c);
  mark_seen(index);
  advance(c, row, info);
}

void Tracker::return_to_life(Connection& c) {
  c.vanished = false;
  ++live_;
  ++groups_[c.group].connections[static_cast<std::size_t>(c.state)];
  // It was counted as closed, so it is counted as opened again: opened - closed stays what lives.
  if (c.opened) ++groups_[c.group].opened;
}

void Tracker::add_socket_without_counters(const SocketRow& row) {
  ++dump_states_[static_cast<std::size_t>(row.state)];
  const GroupId id = groups_.find_or_add(classifier_.classify(row));
  if (id >= dump_groups_.size()) dump_groups_.resize(id + std::size_t{1});
  ++(row.time_wait ? dump_groups_[id].time_wait : dump_groups_[id].syn_received);
}

void Tracker::mark_seen(Index index) {
  at(index).dump = dump_;
  at(index).missed = false;
  ++seen_;
  new_order_.push_back(index);
}

void Tracker::begin(Index index, const SocketRow& row) {
  Connection& c = at(index);
  const TcpInfoSample sample = row.tcp_info();
  const TcpInfo& info = sample.info;
  info_length_ = row.info_length;
  c.group = groups_.find_or_add(classifier_.classify(row));
  c.remote = remote_hash(row);
  c.state = row.state;
  ++groups_[c.group].connections[static_cast<std::size_t>(c.state)];
  ++live_;
  mark_seen(index);
  if (!started_) {
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
  }
  if (!c.opened && established(row.state)) {
    c.opened = true;
    ++group.opened;
  }
  add_counters(c, group, info, ends_with_fin(c, row, info));
  if (c.group >= dump_groups_.size()) dump_groups_.resize(c.group + std::size_t{1});
  dump_groups_[c.group].send_queue_bytes += row.send_queue;
  dump_groups_[c.group].receive_queue_bytes += row.receive_queue;
}

void Tracker::add_counters(Connection& c, GroupStats& group, const TcpInfo& info, bool got_fin) {
  const Counters now = read_counters(info, got_fin);
  add_difference(group, c.seen, now);
  c.seen = now;
  group.retransmission_timeouts +=
      static_cast<std::uint16_t>(info.total_rto - c.retransmission_timeouts);
  c.retransmission_timeouts = info.total_rto;
  // One byte may be a SYN or a FIN; two are news of the path.
  const auto acked = static_cast<std::uint32_t>(info.bytes_acked);
  if (acked - c.acked_bytes >= 2 && info.rtt_us != 0) {
    group.rtt.observe(info.rtt_us);
    c.acked_bytes = acked;
    c.rtt_observed = true;
  }
}

void Tracker::count_final(Connection& c, GroupStats& group, const TcpInfo& info,
                          Direction direction) {
  add_counters(c, group, info, fin_received(c.state) || fin_acknowledged(info, direction));
  if (!c.rtt_observed && info.rtt_us != 0) group.rtt.observe(info.rtt_us);
  if (info.min_rtt_us != kNoRtt) group.min_rtt.observe(info.min_rtt_us);
}

void Tracker::remove(Connection& c) {
  GroupStats& group = groups_[c.group];
  --group.connections[static_cast<std::size_t>(c.state)];
  --live_;
  if (dumping_ && c.dump == dump_) --seen_;
  if (c.opened) ++group.closed;
}

void Tracker::add_event(const SocketRow& event) {
  if (dumping_) destroyed_.insert(event.cookie);
  const Index index = find(event.cookie);
  if (index != kNone) {
    ++stats_.events;
    finish_known(index, event);
  } else if (started_ && (event.remote_port != 0 || !event.remote_address().is_any())) {
    ++stats_.events;
    finish_unknown(event);
  }
}

void Tracker::finish_known(Index index, const SocketRow& event) {
  Connection& c = at(index);
  const TcpInfoSample sample = event.tcp_info();
  const TcpInfo& info = sample.info;
  const bool final_counters = has_final_counters(event);
  if (final_counters && is_reused(c, event, info)) {
    if (c.opened && !c.vanished) ++stats_.closes_without_counters;
    if (!c.vanished) remove(c);
    release(index);
    finish_unknown(event);
    return;
  }
  GroupStats& group = groups_[c.group];
  const bool counted_as_closed = c.vanished && c.opened;
  if (!c.opened && was_established(info)) {
    c.opened = true;
    ++group.opened;
  }
  if (final_counters) {
    count_final(c, group, info, groups_.keys()[c.group].direction);
  } else if (c.opened) {
    ++stats_.closes_without_counters;
  }
  if (!c.opened) {
    const auto reason = final_counters                      ? failure_reason(info)
                        : c.seen.retransmitted_segments > 0 ? ConnectFailure::kTimeout
                                                            : ConnectFailure::kUnknown;
    ++group.failures[static_cast<std::size_t>(reason)];
  }
  if (!c.vanished) {
    remove(c);
  } else {
    ++stats_.late_events;
    if (c.opened && !counted_as_closed) ++group.closed;
  }
  release(index);
}

void Tracker::finish_unknown(const SocketRow& event) {
  const TcpInfoSample sample = event.tcp_info();
  const TcpInfo& info = sample.info;
  info_length_ = event.info_length;
  const GroupKey key = classifier_.classify(event);
  if (key.direction == Direction::kInbound || was_established(info)) {
    GroupStats& group = groups_[groups_.find_or_add(key)];
    ++group.opened;
    ++group.closed;
    if (has_final_counters(event)) {
      Connection whole_life;
      count_final(whole_life, group, info, key.direction);
    } else {
      ++stats_.closes_without_counters;
    }
    return;
  }
  GroupStats& group = groups_[groups_.find_or_add(key)];
  const auto reason = has_final_counters(event) ? failure_reason(info) : ConnectFailure::kUnknown;
  ++group.failures[static_cast<std::size_t>(reason)];
  add_difference(group, {}, read_counters(info, false));
}

void Tracker::sweep(TimePoint now) {
  if (seen_ == live_) return;  // every one was seen: nothing can be missing
  for (Index i = 0; i < used_; ++i) {
    Connection& c = at(i);
    if (c.cookie == 0 || c.vanished || c.dump == dump_) continue;
    if (!c.missed) {
      c.missed = true;
      continue;
    }
    remove(c);
    c.vanished = true;
    vanished_.push_back({c.cookie, now});
    ++stats_.vanished;
  }
}

void Tracker::forget_vanished(TimePoint now) {
  while (!vanished_.empty() && (vanished_.size() > limits_.vanished ||
                                now - vanished_.front().since > kVanishedRemembered)) {
    const Index index = find(vanished_.front().cookie);
    if (index != kNone && at(index).vanished) release(index);
    vanished_.pop_front();
  }
}

bool Tracker::is_reused(const Connection& c, const SocketRow& row, const TcpInfo& info) {
  return c.remote != remote_hash(row) || info.bytes_sent < c.seen.sent_bytes ||
         info.bytes_received < c.seen.received_bytes;
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
