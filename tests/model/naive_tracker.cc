#include "tests/model/naive_tracker.h"

#include <algorithm>

namespace tcpvitals::testing {
namespace {

bool is_open(TcpState state) {
  return std::set{TcpState::kEstablished, TcpState::kFinWait1,  TcpState::kFinWait2,
                  TcpState::kTimeWait,    TcpState::kCloseWait, TcpState::kLastAck,
                  TcpState::kClosing}
             .count(state) > 0;
}

bool peer_closed(TcpState state) {
  return state == TcpState::kCloseWait || state == TcpState::kLastAck ||
         state == TcpState::kClosing;
}

// The shortest round trip survives a disconnect: while there are counters, they say it.
bool was_established(const Sight& event) {
  if (event.shown.remote_port == 0) return event.shown.info.min_rtt_us != kNoRtt;
  return event.truth.acked_bytes > 0 || event.truth.received_bytes > 0 ||
         event.truth.delivered_segments > 0 || event.shown.info.rtt_us != 0;
}

// SYN and FIN are a byte each of what is acknowledged.
bool fin_acknowledged(const Sight& event, bool outbound) {
  const Truth& t = event.truth;
  return t.acked_bytes + t.retransmitted_bytes == t.sent_bytes + (outbound ? 2 : 1);
}

bool is_excluded(const Excludes& excludes, const Sight& sight) {
  if (sight.remote.is_any()) return false;
  if (excludes.loopback &&
      (sight.shown.remote.substr(0, 4) == "127." || sight.shown.remote == "::1")) {
    return true;
  }
  for (const PortRange& range : excludes.ports) {
    if (range.contains(sight.shown.local_port) || range.contains(sight.shown.remote_port)) {
      return true;
    }
  }
  for (const IpPrefix& prefix : excludes.peers) {
    if (prefix.contains(sight.remote)) return true;
  }
  return false;
}

// What a counter came round before anybody looked at it, nobody can know.
Truth never_seen(const Truth& truth) {
  Truth t;
  for (const TruthField& field : kTruthFields) {
    if (field.bits < 64) t.*field.truth = truth.*field.truth >> field.bits << field.bits;
  }
  return t;
}

std::uint64_t rise(std::uint64_t from, std::uint64_t to) { return to > from ? to - from : 0; }

bool is_number(const std::string& port) { return !port.empty() && std::isdigit(port[0]) != 0; }

bool is_name(const std::string& port) {
  return !port.empty() && !is_number(port) && port != "ephemeral" && port != "unknown" &&
         port != "other";
}

// Whether the limit counts it.
bool is_bounded(const NaiveGroups::Key& key) {
  return key.port != "other" && (!is_name(key.port) || key.netns != 0);
}

// Never established, not even before the start.
bool had_no_connection(const NaiveGroups::Group& group) {
  return group.stats.opened == 0 && group.stats.closes() == 0 && group.stats.at_start == 0;
}

}  // namespace

NaiveGroups::Ref NaiveGroups::find_or_add(const Key& key, bool connected) {
  const auto found = named.find(key);
  if (found != named.end()) {
    found->second->touched = true;
    found->second->asked = ++requests;
    return found->second;
  }
  if (is_bounded(key)) {
    const auto taken = static_cast<std::size_t>(std::count_if(
        named.begin(), named.end(), [](const auto& entry) { return is_bounded(entry.first); }));
    bool room = taken < limit;
    if (!connected) {
      room = room && attempts.size() < limit / 4 && attempts_added < limit;
    } else if (!room) {
      room = displace_attempts() || taken - attempts.size() < limit;
    }
    if (!room) {
      ++overflowed;
      return find_or_add(
          {key.direction, "other", key.peer, key.netns == 0 ? NetnsId{0} : kNetnsOther}, connected);
    }
    if (!connected) {
      attempts.insert(key);
      ++attempts_added;
    }
  }
  Ref group = std::make_shared<Group>();
  group->asked = ++requests;
  named.emplace(key, group);
  all.erase(std::remove_if(all.begin(), all.end(), [](const auto& g) { return g.expired(); }),
            all.end());
  all.push_back(group);
  most = std::max(most, all.size());
  return group;
}

bool NaiveGroups::displace_attempts() {
  auto oldest = named.end();
  for (auto it = named.begin(); it != named.end(); ++it) {
    const Group& group = *it->second;
    const auto& last = group.stats.last_dump;
    const auto& running = group.running;
    const bool leftovers = last.time_wait + last.fin_wait2 + last.syn_received + running.time_wait +
                               running.fin_wait2 + running.syn_received >
                           0;
    if (attempts.count(it->first) == 0 || it->second.use_count() > 1 || leftovers ||
        !had_no_connection(group)) {
      continue;
    }
    if (oldest == named.end() || group.asked < oldest->second->asked) oldest = it;
  }
  if (oldest == named.end()) return false;
  attempts.erase(oldest->first);
  named.erase(oldest);
  ++forgotten;
  return true;
}

void NaiveGroups::begin_dump() {
  for (const auto& weak : all) {
    if (const Ref group = weak.lock()) group->running = {};
  }
}

void NaiveGroups::end_dump() {
  for (const auto& weak : all) {
    if (const Ref group = weak.lock()) group->stats.last_dump = group->running;
  }
}

void NaiveGroups::forget_idle(TimePoint now, Clock::duration idle) {
  if (hour_start == TimePoint{} || now - hour_start >= std::chrono::hours(1)) {
    hour_start = now;
    attempts_added = 0;
  }
  attempts.clear();
  for (auto it = named.begin(); it != named.end();) {
    Group& group = *it->second;
    const auto& last = group.stats.last_dump;
    const bool has_sockets = it->second.use_count() > 1 || last.time_wait > 0 ||
                             last.fin_wait2 > 0 || last.syn_received > 0;
    if (has_sockets) {
      group.idle_since = now;
    } else if (group.touched) {
      group.touched = false;
      group.idle_since = now;
    }
    const bool only_attempts = had_no_connection(group);
    const bool leaves = now - group.idle_since >= idle ||
                        (only_attempts && now - group.idle_since >= std::chrono::minutes(5));
    if (only_attempts && !leaves && is_bounded(it->first)) attempts.insert(it->first);
    forgotten += leaves ? 1 : 0;
    it = leaves ? named.erase(it) : std::next(it);
  }
}

void NaiveGroups::rekey(const Grouping& before, const Grouping& now) {
  for (auto it = named.begin(); it != named.end();) {
    const Key& key = it->first;
    bool stays = before.by == now.by;
    if (now.by.peer && !now.peers.id_of(key.peer)) stays = false;
    if (is_name(key.port) && !now.ports.id_of(key.port)) stays = false;
    if (is_number(key.port) && now.ports.find(static_cast<std::uint16_t>(std::stoi(key.port)))) {
      stays = false;
    }
    it = stays ? std::next(it) : named.erase(it);
  }
  attempts.clear();
  for (const auto& [key, group] : named) {
    if (is_bounded(key) && had_no_connection(*group)) attempts.insert(key);
  }
}

std::size_t NaiveWorld::connections() const {
  std::size_t sum = 0;
  for (const NaiveTracker* tracker : trackers) sum += tracker->tracked();
  return sum;
}

NaiveTracker::NaiveTracker(NaiveWorld& shared, NetnsId id) : world(shared), netns(id) {
  world.trackers.insert(this);
  for (ServicePorts& service : services) service.set_limit(world.groups.limit);
  // What groups show by its number keeps it; without directions they show both.
  for (const auto& [key, group] : world.groups.named) {
    if (!is_number(key.port)) continue;
    const auto port = static_cast<std::uint16_t>(std::stoi(key.port));
    if (!kDefaultEphemeral.contains(port)) continue;
    if (key.direction != "outbound") services[0].name(port);
    if (key.direction != "inbound") services[1].name(port);
  }
}

// Whatever is still tracked counts as closed.
NaiveTracker::~NaiveTracker() {
  while (!known.empty()) {
    const Connection& c = known.begin()->second;
    if (c.opened && !c.vanished) {
      ++c.group->stats.closed[static_cast<std::size_t>(ConnectionEnd::kUnknown)];
    }
    forget(known.begin()->first);
  }
  world.trackers.erase(this);
}

std::size_t NaiveTracker::tracked() const {
  return static_cast<std::size_t>(std::count_if(
      known.begin(), known.end(), [](const auto& entry) { return !entry.second.vanished; }));
}

// Nothing is asked of the counters: the simulated kernel shows no state in them.
Direction NaiveTracker::direction(const Sight& sight) {
  if (sight.shown.state == TcpState::kSynSent) return Direction::kOutbound;
  if (sight.shown.state == TcpState::kSynReceived) return Direction::kInbound;
  const std::uint16_t ours = sight.shown.local_port;
  const bool given = kDefaultEphemeral.contains(ours);
  if (listening.count(ours) > 0) {
    if (given) services[0].name_early(ours);
    return Direction::kInbound;
  }
  if (!given && served.count(ours) > 0) return Direction::kInbound;
  if (!given && sight.shown.remote_port == 0) return Direction::kInbound;
  return Direction::kOutbound;
}

void NaiveTracker::learn(const Sight& sight, Direction direction, bool connected) {
  const bool inbound = direction == Direction::kInbound;
  const std::uint16_t service = inbound ? sight.shown.local_port : sight.shown.remote_port;
  if (!kDefaultEphemeral.contains(service)) {
    if (inbound) served.insert(service);
    return;
  }
  using Sign = ServicePorts::Sign;
  const bool to_listener = inbound || (sight.local == sight.remote && listening.count(service) > 0);
  const Sign sign = !connected ? Sign::kFailure : to_listener ? Sign::kListener : Sign::kConnection;
  if (services[inbound ? 0 : 1].add(service, sign)) ports_named = true;
}

NaiveGroups::Key NaiveTracker::key(const Sight& sight, Direction direction) const {
  const Grouping& grouping = *world.grouping;
  const bool inbound = direction == Direction::kInbound;
  NaiveGroups::Key key;
  if (grouping.by.direction) key.direction = inbound ? "inbound" : "outbound";
  if (grouping.by.peer) key.peer = grouping.peers.name(grouping.peers.find(sight.remote));
  if (grouping.by.netns) key.netns = netns;
  if (!grouping.by.port) return key;
  const std::uint16_t service = inbound ? sight.shown.local_port : sight.shown.remote_port;
  if (service == 0) {
    key.port = "unknown";
  } else if (const auto name = grouping.ports.find(service)) {
    key.port = grouping.ports.name(*name);
  } else {
    const bool named = services[inbound ? 0 : 1].contains(service);
    key.port =
        kDefaultEphemeral.contains(service) && !named ? "ephemeral" : std::to_string(service);
  }
  return key;
}

void NaiveTracker::forget(std::uint64_t cookie) {
  known.at(cookie).group->touched = true;
  known.erase(cookie);
}

void NaiveTracker::regroup(Excludes before, Excludes now) {
  excluded_before = std::move(before);
  excluded_now = std::move(now);
  for (auto& [cookie, c] : known) c.grouped_anew = false;
}

bool NaiveTracker::left_out(const Sight& event) const {
  return is_excluded(excluded_before, event) || is_excluded(excluded_now, event);
}

void NaiveTracker::begin_dump(TimePoint now, bool events_lost) {
  std::vector<std::uint64_t> old;
  for (const auto& [cookie, c] : known) {
    if (c.vanished && now - c.vanished_at > std::chrono::hours(1)) old.push_back(cookie);
  }
  for (const std::uint64_t cookie : old) {
    past.insert(cookie);
    forget(cookie);
  }
  if (!started) start = now;
  dump_began = now;
  if (std::exchange(ports_named, false)) {
    for (auto& [cookie, c] : known) c.grouped_anew = false;
  }
  dumping = true;
  one_miss_ends = events_lost;
  now_seconds = std::chrono::duration_cast<std::chrono::seconds>(now.time_since_epoch()).count();
  seen.clear();
  ports.clear();
  dump_states = {};
  dump_untracked = 0;
}

void NaiveTracker::abandon_dump() {
  dumping = false;
  destroyed.clear();
}

void NaiveTracker::end_dump(TimePoint now) {
  for (auto& [cookie, c] : known) {
    if (c.vanished || seen.count(cookie) > 0) continue;
    if (c.missed || one_miss_ends) {
      if (c.opened) ++c.group->stats.closed[static_cast<std::size_t>(ConnectionEnd::kUnknown)];
      c.vanished = true;
      c.vanished_at = now;
      ++stats.vanished;
    }
    c.missed = true;
  }
  abandon_dump();
  started = true;
  excluded_before = {};
  host_states = dump_states;
  untracked = dump_untracked;
}

void NaiveTracker::use_port(NaiveGroups::Group& group, const Sight& row) {
  if (!kDefaultEphemeral.contains(row.shown.local_port)) return;
  const std::uint32_t in_use =
      ++ports[{row.local, row.remote, row.shown.remote_port, row.shown.ipv6}];
  group.running.ephemeral_ports = std::max(group.running.ephemeral_ports, in_use);
}

void NaiveTracker::add_row(const Sight& row) {
  std::uint32_t& states = dump_states[static_cast<std::size_t>(row.shown.state)];
  if (row.shown.state == TcpState::kListen) {
    ++states;
    return;
  }
  const bool out = is_excluded(excluded_now, row);
  if (row.shown.time_wait || !row.shown.has_info) {
    if (out) return;
    ++states;
    const Direction d = direction(row);
    NaiveGroups::Group& group = *world.groups.find_or_add(key(row, d), row.shown.time_wait);
    const bool fin_wait2 = row.shown.state == TcpState::kFinWait2;
    if (!row.shown.time_wait) ++group.running.syn_received;
    if (row.shown.time_wait) ++(fin_wait2 ? group.running.fin_wait2 : group.running.time_wait);
    if (d == Direction::kOutbound) use_port(group, row);
    return;
  }
  const std::uint64_t cookie = row.shown.cookie;
  if (destroyed.count(cookie) > 0) {
    ++held_back;
    return;
  }
  const auto found = known.find(cookie);
  if (out) {
    if (found == known.end()) return;
    ++taken_out;
    const Connection& c = found->second;
    if (c.opened && !c.vanished) --c.group->stats.at_start;
    forget(cookie);
    return;
  }
  if (row.torn) {
    ++torn;
    if (found == known.end() || found->second.vanished) return;
    seen.insert(cookie);
    found->second.missed = false;
    return;
  }
  if (seen.count(cookie) > 0) return;
  ++states;
  if (found == known.end()) {
    if (world.connections() >= world.max_connections) {
      ++dump_untracked;
      ++stats.untracked;
      if (!started || is_excluded(excluded_before, row)) past.insert(cookie);
      return;
    }
    begin(row);
    return;
  }
  Connection& c = found->second;
  if (c.seen.life != row.life) {
    ++reused;
    end_reused(c);
    forget(cookie);
    begin(row);
    return;
  }
  if (!c.grouped_anew) move(c, row, c.opened);
  if (c.vanished) {
    ++returned;
    c.vanished = false;
    if (c.opened) ++c.group->stats.opened;
  }
  look(c, row);
}

void NaiveTracker::move(Connection& c, const Sight& sight, bool connected) {
  const Direction d = c.outbound ? Direction::kOutbound : Direction::kInbound;
  const NaiveGroups::Ref to = world.groups.find_or_add(key(sight, d), connected);
  c.grouped_anew = true;
  if (to == c.group) return;
  ++moved;
  if (c.opened && !c.vanished) {
    --c.group->stats.at_start;
    ++to->stats.at_start;
  }
  c.group->touched = true;
  c.group = to;
}

void NaiveTracker::connect(Connection& c, const Sight& sight) {
  learn(sight, c.outbound ? Direction::kOutbound : Direction::kInbound, true);
  move(c, sight, true);
}

void NaiveTracker::begin(const Sight& row) {
  Connection& c = known[row.shown.cookie];
  const Direction d = direction(row);
  c.outbound = d == Direction::kOutbound;
  if (established(row.shown.state)) learn(row, d, true);
  c.group = world.groups.find_or_add(key(row, d), established(row.shown.state));
  c.grouped_anew = true;
  if (started && !is_excluded(excluded_before, row) &&
      !is_past(row, dump_began + std::chrono::seconds(10))) {
    c.first_seen = now_seconds;
    ++(c.outbound ? stats.attempts : stats.accepted);
    ++c.group->stats.syns_sent;
    c.seen.shown.state = row.shown.state;
    c.seen.truth = c.counted = never_seen(row.truth);
  } else {
    past.erase(row.shown.cookie);
    c.seen = row;
    c.counted = row.truth;
    const bool fin = peer_closed(row.shown.state) && row.truth.received_bytes > 0;
    c.counted.received_bytes -= fin ? 1 : 0;
    c.acked_at_rtt = row.truth.acked_bytes;
    if (is_open(row.shown.state)) {
      c.opened = true;
      ++c.group->stats.at_start;
    }
  }
  look(c, row);
}

void NaiveTracker::look(Connection& c, const Sight& row) {
  if (!established(c.seen.shown.state) && established(row.shown.state)) connect(c, row);
  NaiveGroups::Group& group = *c.group;
  seen.insert(row.shown.cookie);
  c.missed = false;
  const TcpState state = row.shown.state;
  if (state != c.seen.shown.state) c.close_wait_since.reset();
  if (!c.opened && is_open(state)) {
    c.opened = true;
    ++group.stats.opened;
  }
  // The last byte of an open connection counts only if it was there at the look before.
  const std::uint64_t received = row.truth.received_bytes;
  const bool may_be_fin = peer_closed(state) || received != c.seen.truth.received_bytes;
  count(c, row, received - (may_be_fin && received > 0 ? 1 : 0));
  const std::int64_t interval = dump_began.time_since_epoch() / std::chrono::seconds(10);
  const bool done = c.rtt_observed && (interval - c.observed_in) % 256 == 0;
  if (has_news(c, row) && !done) {
    c.observed_in = interval;
    observe(c, row);
  }

  group.running.send_queue_bytes += row.shown.send_queue;
  group.running.receive_queue_bytes += row.shown.receive_queue;
  if (c.outbound) use_port(group, row);
  if (state != TcpState::kCloseWait) return;
  if (!c.close_wait_since) {
    c.close_wait_since = now_seconds - row.shown.info.last_ack_received_ms / 1000;
  }
  const auto age = static_cast<std::uint32_t>(now_seconds - *c.close_wait_since);
  group.running.close_wait_oldest = std::max(group.running.close_wait_oldest, age);
  if (std::chrono::seconds(age) >= world.close_wait_threshold) ++group.running.close_wait_old;
}

// Two bytes: one may be a SYN or a FIN.
bool NaiveTracker::has_news(const Connection& c, const Sight& now) {
  return now.truth.acked_bytes - c.acked_at_rtt >= 2 && now.shown.info.rtt_us != 0;
}

void NaiveTracker::count(Connection& c, const Sight& now, std::uint64_t payload) {
  GroupStats& g = c.group->stats;
  Truth t = now.truth;
  t.received_bytes = payload;
  const std::uint64_t repeats = t.retransmitted_segments - c.counted.retransmitted_segments;
  const std::uint64_t bytes = rise(c.counted.retransmitted_bytes, t.retransmitted_bytes);
  std::uint64_t data = t.data_segments_sent - c.counted.data_segments_sent;
  if (data > 0 && rise(c.counted.sent_bytes, t.sent_bytes) > bytes) --data;  // one at least was new
  const std::uint64_t syns = bytes == 0 ? repeats : rise(data, repeats);
  stats.retransmitted_segments += repeats;
  g.retransmitted_syns += syns;
  g.syns_sent += syns;
  for (const TruthField& field : kTruthFields) {
    std::uint64_t& counted = c.counted.*field.truth;
    if (t.*field.truth <= counted) continue;  // an estimate was taken back
    g.*field.total += t.*field.truth - counted;
    counted = t.*field.truth;
  }
  c.seen = now;
}

void NaiveTracker::observe(Connection& c, const Sight& now) {
  const TcpInfo& info = now.shown.info;
  c.rtt_observed = true;
  c.acked_at_rtt = now.truth.acked_bytes;
  c.group->stats.rtt.observe(info.rtt_us);
  const bool application_had_no_more = info.delivery_rate_flags % 2 == 1;
  if (!application_had_no_more && info.delivery_rate > 0 && !fin_acknowledged(now, c.outbound)) {
    c.group->stats.delivery_rate.observe(info.delivery_rate);
  }
}

void NaiveTracker::count_final(Connection& c, const Sight& event) {
  const bool got_fin = peer_closed(c.seen.shown.state) || fin_acknowledged(event, c.outbound);
  const std::uint64_t received = event.truth.received_bytes;
  count(c, event, received - (got_fin && received > 0 ? 1 : 0));
  if (event.shown.info.rtt_us != 0 && (!c.rtt_observed || has_news(c, event))) observe(c, event);
  if (event.shown.info.min_rtt_us != kNoRtt) {
    c.group->stats.min_rtt.observe(event.shown.info.min_rtt_us);
  }
}

void NaiveTracker::fail(NaiveGroups::Group& group, ConnectFailure reason) {
  ++group.stats.failures[static_cast<std::size_t>(reason)];
  ++stats.failed;
}

namespace {

ConnectFailure failure_by(const Sight& event) {
  if (event.shown.remote_port == 0) return ConnectFailure::kUnknown;
  return event.shown.info.segs_in > 0 ? ConnectFailure::kRefused : ConnectFailure::kUnanswered;
}

std::size_t end_by(const Sight& event, bool outbound) {
  ConnectionEnd end = ConnectionEnd::kReset;
  if (event.shown.remote_port == 0) {
    end = ConnectionEnd::kAborted;
  } else if (fin_acknowledged(event, outbound)) {
    end = ConnectionEnd::kOrderly;
  } else if (event.shown.info.retransmits > 0 || event.shown.info.probes > 0) {
    end = ConnectionEnd::kTimeout;
  }
  return static_cast<std::size_t>(end);
}

}  // namespace

void NaiveTracker::end_reused(Connection& c) {
  if (!c.opened) fail(*c.group, ConnectFailure::kUnknown);
  if (c.opened && !c.vanished) {
    ++stats.closes_without_counters;
    ++c.group->stats.closed[static_cast<std::size_t>(ConnectionEnd::kAborted)];
  }
}

// The kernel's ages are in ticks; what was cleared or never was established has none.
bool NaiveTracker::is_past(const Sight& sight, TimePoint now) const {
  if (past.count(sight.shown.cookie) > 0) return true;
  if (sight.shown.remote_port == 0 || !was_established(sight)) return false;
  const TcpInfo& info = sight.shown.info;
  const std::uint64_t age = std::max<std::uint64_t>(
      {info.last_data_sent_ms, info.last_data_received_ms, sight.truth.busy_us / 1000});
  return start - (now - std::chrono::milliseconds(age)) > std::chrono::milliseconds(20);
}

void NaiveTracker::add_event(const Sight& event, TimePoint now) {
  if (dumping) destroyed.insert(event.shown.cookie);
  const auto found = known.find(event.shown.cookie);
  if (found != known.end()) {
    ++stats.events;
    finish_known(found->second, event, now);
    return;
  }
  const bool nobodys = event.shown.remote_port == 0 && event.remote.is_any();
  if (!started || nobodys || left_out(event)) return;
  ++stats.events;
  finish_unknown(event, now);
}

void NaiveTracker::finish_known(Connection& c, const Sight& event, TimePoint now) {
  const bool cleared = event.shown.remote_port == 0;
  if (!cleared && c.seen.life != event.life) {
    ++reused;
    end_reused(c);
    forget(event.shown.cookie);
    if (!left_out(event)) finish_unknown(event, now);
    return;
  }
  const bool was_open = c.opened;
  const Direction d = c.outbound ? Direction::kOutbound : Direction::kInbound;
  if (!c.opened && !was_established(event)) learn(event, d, false);
  if (!c.opened && was_established(event) && !cleared) connect(c, event);
  GroupStats& g = c.group->stats;
  if (!c.opened && was_established(event)) {
    c.opened = true;
    ++g.opened;
  }
  if (!c.opened) fail(*c.group, failure_by(event));
  if (c.opened && cleared) ++stats.closes_without_counters;
  if (!cleared) count_final(c, event);
  if (c.vanished) ++stats.late_events;
  const bool counted = c.vanished && was_open;
  if (c.opened && !counted) ++g.closed[end_by(event, c.outbound)];
  forget(event.shown.cookie);
}

// Born and died between two dumps, or never ours.
void NaiveTracker::finish_unknown(const Sight& event, TimePoint now) {
  if (is_past(event, now)) {
    past.erase(event.shown.cookie);
    ++stats.closes_of_past;
    return;
  }
  const bool cleared = event.shown.remote_port == 0;
  Connection c;
  const Direction d = direction(event);
  c.outbound = d == Direction::kOutbound;
  const bool spare = !cleared && !was_established(event) && event.truth.delivered_segments == 0;
  if (!c.outbound && spare) return;
  const bool failed = c.outbound && !was_established(event);
  learn(event, d, !failed);
  c.group = world.groups.find_or_add(key(event, d), !failed);
  GroupStats& g = c.group->stats;
  ++(c.outbound ? stats.attempts : stats.accepted);
  ++g.syns_sent;
  c.counted = never_seen(event.truth);
  c.seen.shown.state = TcpState::kClose;
  if (!cleared) count_final(c, event);
  if (failed) return fail(*c.group, failure_by(event));
  ++g.opened;
  ++g.closed[end_by(event, c.outbound)];
  if (cleared) ++stats.closes_without_counters;
}

}  // namespace tcpvitals::testing
