// Tracker against NaiveTracker: a host that lives at random, in several network namespaces, is
// shown to both, the way the kernel shows it: rows that repeat, are left out or come late, events
// that come late or never, sockets used again, counters that wrap, dumps that fail, configurations
// that change, namespaces that go. Both must count the same, and the books must balance at every
// step.
//
//   TCPVITALS_MODEL_STEPS   things shown or done to both; 1,000,000 unless it says otherwise
//   TCPVITALS_MODEL_SEED    to see a run again; it is printed
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <random>

#include "tests/model/naive_tracker.h"

using namespace tcpvitals;
using namespace tcpvitals::testing;

namespace {

struct Total {
  std::string_view name;
  std::uint64_t GroupStats::*field;
};

const std::vector<Total>& totals() {
  static const std::vector<Total> all = [] {
    std::vector<Total> t{{"opened", &GroupStats::opened},
                         {"syns_sent", &GroupStats::syns_sent},
                         {"retransmitted_syns", &GroupStats::retransmitted_syns}};
    for (const TruthField& field : kTruthFields) t.push_back({field.name, field.total});
    return t;
  }();
  return all;
}

struct TrackerTotal {
  const char* name;
  std::uint64_t TrackerStats::*field;
};
constexpr TrackerTotal kTrackerTotals[] = {
    {"attempts", &TrackerStats::attempts},
    {"accepted", &TrackerStats::accepted},
    {"failed", &TrackerStats::failed},
    {"retransmitted_segments", &TrackerStats::retransmitted_segments},
    {"untracked", &TrackerStats::untracked},
    {"events", &TrackerStats::events},
    {"closes_without_counters", &TrackerStats::closes_without_counters},
    {"closes_of_past", &TrackerStats::closes_of_past},
    {"vanished", &TrackerStats::vanished},
    {"late_events", &TrackerStats::late_events},
};

bool is_live(std::size_t state) {
  switch (static_cast<TcpState>(state)) {
    case TcpState::kEstablished:
    case TcpState::kFinWait1:
    case TcpState::kFinWait2:
    case TcpState::kTimeWait:
    case TcpState::kCloseWait:
    case TcpState::kLastAck:
    case TcpState::kClosing:
      return true;
    default:
      return false;
  }
}

// One that lives in the simulated kernel. `sight` is what a row would show of it now.
struct Socket {
  Sight sight;
  bool outbound = false;
  bool fin_acked = false;
  bool never_measures = false;  // a round trip
  TimePoint sent{};             // data last, or established
  TimePoint received{};
};

constexpr std::uint16_t kListened[] = {443, 80, 8080, 41000};
constexpr std::uint16_t kCalled[] = {5432, 5433, 443, 80, 9000, 45000};
constexpr std::uint64_t kServices = 6;  // that are called besides

// Each pair is of one family. Destinations are so few that no two share a bucket of the tracker's.
struct Ends {
  const char* local;
  const char* remote;
  bool ipv6;
};
constexpr Ends kEnds[] = {
    {"192.0.2.1", "198.51.100.7", false},
    {"192.0.2.1", "198.51.100.8", false},
    {"10.1.0.5", "10.9.8.7", false},
    {"10.1.0.5", "203.0.113.50", false},
    {"127.0.0.1", "127.0.0.1", false},
    {"169.254.1.1", "169.254.3.3", false},
    {"2001:db8::1", "2001:db8::7", true},
    {"2001:db8::1", "fe80::9", true},
    {"::1", "::1", true},
    {"::ffff:192.0.2.1", "::ffff:198.51.100.7", true},
    {"::ffff:10.1.0.5", "::ffff:10.9.8.7", true},
};

std::vector<ConnectionsConfig> configurations() {
  const auto prefix = [](const char* text) { return *parse_ip_prefix(text); };
  ConnectionsConfig plain;
  plain.limits = {.connections = 220, .groups = 12};
  ConnectionsConfig names = plain;
  names.peers = {{"partner", prefix("198.51.100.0/24")}, {"rack", prefix("10.9.0.0/16")}};
  names.ports = {{"web", {443, 443}}, {"web", {8080, 8080}}, {"db", {5400, 5499}}};
  names.limits = {.connections = 1000, .groups = 25};
  ConnectionsConfig other_names = names;
  other_names.peers = {{"rack", prefix("10.9.8.7/32")}, {"partner", prefix("203.0.113.0/24")}};
  other_names.ports = {{"db", {5432, 5432}}, {"http", {8080, 8080}}};
  other_names.excludes = {.loopback = true};
  ConnectionsConfig few = names;
  few.limits = {.connections = 60, .groups = 3};
  few.excludes = {.ports = {{5000, 5010}},
                  .peers = {prefix("203.0.113.0/24"), prefix("fe80::/10")}};
  ConnectionsConfig by_port = names;
  by_port.group_by = {.direction = false, .peer = false};
  ConnectionsConfig by_peer = plain;
  by_peer.group_by = {.port = false};
  ConnectionsConfig by_netns = names;
  by_netns.group_by.netns = true;
  ConnectionsConfig excluding_by_netns = by_netns;
  excluding_by_netns.excludes = {.loopback = true, .ports = {{443, 443}}};
  excluding_by_netns.limits.groups = 8;
  return {plain, names, other_names, few, by_port, by_peer, by_netns, excluding_by_netns};
}

class Simulation {
 public:
  Simulation(std::uint64_t seed, std::uint64_t steps)
      : random_(seed), seed_(seed), steps_(steps), configurations_(configurations()) {
    config_ = configurations_[0];
    grouping_ = std::make_unique<Grouping>(config_.grouping());
    naive_.grouping = grouping_.get();
    apply_limits();
    for (int i = 0; i < 2; ++i) add_space();
  }

  void run() {
    while (step_ < steps_) {
      live();
      if (!show()) continue;
      ++step_;
      check_balance();
      if (step_ % 32 == 0) check_equal();
    }
    while (!spaces_.empty()) remove_space(0);
    check_equal();
    tell();
  }

 private:
  // One network namespace, simulated, tracked and modelled.
  struct Space {
    Space(Simulation& world, NetnsId id)
        : classifier(listeners, *world.grouping_, {}, id),
          tracker(std::make_unique<Tracker>(world.shared_, classifier)),
          naive(world.naive_, id) {
      classifier.set_local_ports(LocalPorts{kDefaultEphemeral, {}}, world.groups_);
    }

    ListenerTable listeners;
    Classifier classifier;
    std::unique_ptr<Tracker> tracker;
    NaiveTracker naive;

    std::map<std::uint64_t, Socket> sockets;  // by cookie
    std::vector<std::uint64_t> walk;          // of the kernel's table
    std::deque<Sight> time_wait;
    std::uint64_t next_cookie = 1;  // the same ones in every namespace
    std::size_t population = 40;    // that it tends to

    std::vector<std::uint64_t> walking;  // what is left of the running dump
    std::deque<Sight> filled;            // rows that the kernel has written but nobody has read
    std::vector<std::pair<std::uint64_t, Sight>> events;  // and when they come
  };

  // ---- chance ----

  std::uint64_t below(std::uint64_t n) { return random_() % n; }
  bool one_in(std::uint64_t n) { return below(n) == 0; }
  template <typename T>
  const T& any_of(const std::vector<T>& all) {
    return all[below(all.size())];
  }
  Space& any_space() { return *spaces_[below(spaces_.size())]; }

  // ---- the kernel ----

  void live() {
    now_ += std::chrono::microseconds(below(12'000));
    if (one_in(4000)) now_ += std::chrono::seconds(20 + below(120));
    Space& space = any_space();
    for (int i = 0; i < 3 && !space.sockets.empty(); ++i) progress(space, any_socket(space));
    if (space.sockets.size() < space.population || one_in(40)) be_born(space);
    if (space.sockets.size() > space.population || one_in(30)) die(space, any_socket(space));
    if (one_in(60)) use_again(space, any_socket(space));
    if (one_in(25)) live_briefly(space);
    if (one_in(500)) space.population = below(120);
    if (one_in(2000)) listen(space);
    if (one_in(5000)) leave_all(space);
    if (one_in(300)) std::shuffle(space.walk.begin(), space.walk.end(), random_);
    if (!space.time_wait.empty() && one_in(6)) space.time_wait.pop_front();
  }

  Socket* any_socket(Space& space) {
    return space.walk.empty() ? nullptr : &space.sockets.at(any_of(space.walk));
  }

  void set_ends(Socket& s) {
    const Ends& ends = kEnds[below(std::size(kEnds))];
    FakeSocket& shown = s.sight.shown;
    shown.local = ends.local;
    shown.remote = ends.remote;
    shown.ipv6 = ends.ipv6;
    s.sight.local = *parse_ip_address(ends.local);
    s.sight.remote = *parse_ip_address(ends.remote);
    const auto client = static_cast<std::uint16_t>(32768 + below(28000));
    if (s.outbound) {
      shown.local_port = one_in(8) ? static_cast<std::uint16_t>(20000 + below(9)) : client;
      shown.remote_port = one_in(2) ? kCalled[below(std::size(kCalled))]
                                    : static_cast<std::uint16_t>(5000 + below(kServices));
    } else {
      shown.local_port = kListened[below(std::size(kListened))];
      shown.remote_port =
          kDefaultEphemeral.contains(shown.local_port) ? std::uint16_t{50000} : client;
    }
  }

  Socket make_socket(std::uint64_t cookie) {
    Socket s;
    s.sight.life = ++lives_;
    s.sight.shown.cookie = cookie;
    s.outbound = one_in(2);
    s.never_measures = one_in(30);
    set_ends(s);
    s.sight.shown.info.min_rtt_us = kNoRtt;
    if (s.outbound) {
      s.sight.shown.state = TcpState::kSynSent;
    } else {
      s.sight.shown.state = one_in(20) ? TcpState::kSynReceived : TcpState::kEstablished;
      if (one_in(10)) s.sight.truth.retransmitted_segments = 1 + below(3);  // its SYN-ACKs
      if (s.sight.shown.state == TcpState::kEstablished) establish(s);
    }
    return s;
  }

  void be_born(Space& space) {
    const std::uint64_t cookie = space.next_cookie++;
    space.sockets.emplace(cookie, make_socket(cookie));
    const auto where = static_cast<std::ptrdiff_t>(below(space.walk.size() + 1));
    space.walk.insert(space.walk.begin() + where, cookie);
  }

  void establish(Socket& s) {
    s.sight.shown.state = TcpState::kEstablished;
    s.sight.truth.delivered_segments += 1;  // its SYN or SYN-ACK
    s.sent = s.received = now_;
    measure(s);
  }

  // What the kernel says of its age. Of one that is not established it says anything.
  void stamp(const Socket& s, TcpInfo& info) {
    const auto since = [&](TimePoint t) {
      return static_cast<std::uint32_t>((now_ - t) / std::chrono::milliseconds(1));
    };
    const bool established = s.sent != TimePoint{};
    info.last_data_sent_ms = established ? since(s.sent) : static_cast<std::uint32_t>(random_());
    info.last_data_received_ms =
        established ? since(s.received) : static_cast<std::uint32_t>(random_());
  }

  void measure(Socket& s) {
    if (s.never_measures) return;
    TcpInfo& info = s.sight.shown.info;
    info.rtt_us = static_cast<std::uint32_t>(1 + below(300'000));
    info.min_rtt_us = std::min(info.min_rtt_us, info.rtt_us);
    info.delivery_rate = one_in(4) ? 0 : 1 + below(1'000'000'000);
    info.delivery_rate_flags = one_in(2) ? 1 : static_cast<std::uint8_t>(below(2) * 2);
  }

  // A socket that was used again, for the same ends: only what a look shows tells it from the one
  // before, so nothing happens to it until then.
  bool waits_for_a_look(const Space& space, const Socket& s) {
    const auto known = space.naive.known.find(s.sight.shown.cookie);
    return known != space.naive.known.end() && known->second.seen.life != s.sight.life;
  }

  void progress(Space& space, Socket* s) {
    if (s == nullptr || waits_for_a_look(space, *s)) return;
    if (s->sight.shown.state == TcpState::kSynSent ||
        s->sight.shown.state == TcpState::kSynReceived) {
      shake_hands(*s);
    } else {
      transfer(*s);
      if (one_in(100)) wrap_soon(space, *s);
      if (one_in(12)) change_state(*s);
    }
    FakeSocket& shown = s->sight.shown;
    shown.send_queue = one_in(2) ? 0 : static_cast<std::uint32_t>(below(100'000));
    shown.receive_queue = one_in(2) ? 0 : static_cast<std::uint32_t>(below(100'000));
    shown.info.last_ack_received_ms = static_cast<std::uint32_t>(below(200'000));
  }

  void shake_hands(Socket& s) {
    Truth& t = s.sight.truth;
    if (one_in(3)) {
      t.retransmitted_segments += 1;
      t.retransmission_timeouts += 1;
    } else if (one_in(2)) {
      s.sight.shown.info.segs_in = 1;
      if (s.outbound) t.acked_bytes = 1;
      establish(s);
    }
  }

  void transfer(Socket& s) {
    Truth& t = s.sight.truth;
    if (one_in(3)) {
      const std::uint64_t segments = 1 + below(20);
      const std::uint64_t bytes = segments * (1 + below(1448));
      s.sent = now_;
      t.data_segments_sent += segments;
      t.sent_bytes += bytes;
      if (!one_in(4)) {
        t.delivered_segments += segments;
        t.acked_bytes += bytes;
        measure(s);
      }
      t.busy_us += below(9000);
      if (one_in(3)) t.receive_window_limited_us += below(400);
      if (one_in(3)) t.send_buffer_limited_us += below(400);
    }
    if (one_in(8)) {
      const std::uint64_t segments = 1 + below(3);
      t.retransmitted_segments += segments;
      t.data_segments_sent += segments;
      t.sent_bytes += segments * 500;
      t.retransmitted_bytes += segments * 500;
    }
    if (one_in(3) && s.sight.shown.state == TcpState::kEstablished) {
      t.received_bytes += below(3) == 0 ? 1 : below(5000);
      s.received = now_;
    }
    // Whatever else the kernel counts.
    for (const TruthField& field : kTruthFields) {
      if (field.bits < 64 && field.total != &TcpTotals::data_segments_sent &&
          field.total != &TcpTotals::retransmitted_segments && one_in(20)) {
        t.*field.truth += below(3);
      }
    }
    // An estimate of the kernel's that it takes back.
    if (one_in(50)) t.busy_us -= std::min<std::uint64_t>(t.busy_us, 3);
  }

  // Between two looks a counter rises by less than it takes to come round.
  void wrap_soon(Space& space, Socket& s) {
    const auto known = space.naive.known.find(s.sight.shown.cookie);
    const Truth seen = known == space.naive.known.end() ? Truth{} : known->second.seen.truth;
    const auto may_rise = [](std::uint64_t from, std::uint64_t to, unsigned bits) {
      return to - from < std::uint64_t{1} << (bits - 2);
    };
    const auto jump = [&](unsigned bits) {
      return (std::uint64_t{1} << (bits - 1)) + below(std::uint64_t{1} << (bits - 3));
    };
    Truth& t = s.sight.truth;
    if (s.never_measures || !may_rise(seen.data_segments_sent, t.data_segments_sent, 32)) return;
    switch (below(3)) {
      case 0: {
        const std::uint64_t segments = jump(32);
        t.data_segments_sent += segments;
        t.sent_bytes += segments;
        if (!one_in(3)) t.acked_bytes += segments;
        break;
      }
      case 1: {
        const std::uint64_t segments = jump(32);
        t.data_segments_sent += segments;
        t.retransmitted_segments += segments;
        t.sent_bytes += segments;
        t.retransmitted_bytes += segments;
        break;
      }
      default:
        for (const TruthField& field : kTruthFields) {
          if (field.bits == 64 || field.total == &TcpTotals::data_segments_sent ||
              field.total == &TcpTotals::retransmitted_segments) {
            continue;
          }
          if (may_rise(seen.*field.truth, t.*field.truth, field.bits)) {
            t.*field.truth += jump(field.bits);
          }
        }
    }
    measure(s);
  }

  void change_state(Socket& s) {
    TcpState& state = s.sight.shown.state;
    const bool fin_sent = state == TcpState::kFinWait1 || state == TcpState::kLastAck;
    if (fin_sent && one_in(2)) {
      s.sight.truth.retransmitted_segments += 1;
      return;
    }
    switch (state) {
      case TcpState::kEstablished:
        if (one_in(2)) {
          s.sight.truth.received_bytes += 1;
          state = TcpState::kCloseWait;
        } else {
          state = TcpState::kFinWait1;
        }
        break;
      case TcpState::kCloseWait:
        if (one_in(3)) state = TcpState::kLastAck;
        break;
      case TcpState::kFinWait1:
        if (one_in(2)) {
          state = TcpState::kFinWait2;
          acknowledge_all(s, true);
        } else {
          s.sight.truth.received_bytes += 1;
          state = TcpState::kClosing;
        }
        break;
      default:
        break;
    }
  }

  static void acknowledge_all(Socket& s, bool fin) {
    Truth& t = s.sight.truth;
    t.acked_bytes = t.sent_bytes - t.retransmitted_bytes + (s.outbound ? 1 : 0) + (fin ? 1 : 0);
    s.fin_acked = s.fin_acked || fin;
  }

  // ---- ends ----

  void die(Space& space, Socket* s) {
    if (s == nullptr) return;
    Sight event = last_words(space, *s);
    const std::uint64_t cookie = s->sight.shown.cookie;
    if (!one_in(3) && s->sight.shown.state != TcpState::kSynSent) {
      Sight rest = s->sight;
      rest.shown.has_info = false;
      rest.shown.time_wait = !one_in(10);
      rest.shown.state = !rest.shown.time_wait ? TcpState::kSynReceived
                         : one_in(4)           ? TcpState::kFinWait2
                                               : TcpState::kTimeWait;
      if (space.time_wait.size() < 20) space.time_wait.push_back(rest);
    }
    space.walk.erase(std::find(space.walk.begin(), space.walk.end(), cookie));
    space.sockets.erase(cookie);
    send(space, std::move(event));
  }

  Sight last_words(const Space& space, Socket& s) {
    const bool attempt = s.sight.shown.state == TcpState::kSynSent;
    const bool cleared = one_in(5);
    if (!cleared && !waits_for_a_look(space, s)) {
      TcpInfo& info = s.sight.shown.info;
      if (attempt) {
        if (one_in(3)) info.segs_in = 1;  // a reset
      } else if (one_in(2)) {
        acknowledge_all(s, true);
      } else if (one_in(2)) {
        info.retransmits = static_cast<std::uint8_t>(below(3));
        info.probes = static_cast<std::uint8_t>(below(3));
      }
    }
    Sight event = s.sight;
    event.shown.state = TcpState::kClose;
    stamp(s, event.shown.info);
    if (cleared) {
      event.shown.remote_port = 0;
      event.truth = {};
      event.shown.info = {.min_rtt_us = event.shown.info.min_rtt_us};
    }
    return event;
  }

  // At once, late, or never.
  void send(Space& space, Sight event) {
    if (one_in(15)) {
      if (one_in(2)) lost_ = true;  // or the kernel sends none for a socket of its own
      return;
    }
    const std::uint64_t late = one_in(5) ? below(3000) : 0;
    space.events.emplace_back(step_ + late, std::move(event));
  }

  void live_briefly(Space& space) {
    Socket s = make_socket(space.next_cookie++);
    for (int i = 0; i < 4; ++i) progress(space, &s);
    send(space, last_words(space, s));
  }

  void leave_all(Space& space) {
    while (!space.walk.empty()) die(space, any_socket(space));
  }

  static bool shows_less(const NaiveTracker::Connection& c) {
    return c.seen.truth.sent_bytes > 0 || c.counted.received_bytes > 0 ||
           (c.seen.truth.retransmitted_segments & 0xffffffff) > 0;
  }

  // A disconnect and another connect: the same cookie, another connection.
  void use_again(Space& space, Socket* s) {
    if (s == nullptr) return;
    const auto known = space.naive.known.find(s->sight.shown.cookie);
    const bool is_known = known != space.naive.known.end();
    if (is_known && known->second.seen.life != s->sight.life) return;
    if (!space.filled.empty()) return;  // a row of the old one is on its way
    const Socket before = *s;
    do *s = make_socket(s->sight.shown.cookie);
    while (!s->outbound);  // what was accepted has a cookie of its own
    if (is_known && before.outbound && shows_less(known->second) && one_in(2)) {
      s->sight.local = before.sight.local;
      s->sight.remote = before.sight.remote;
      s->sight.truth = {};
      FakeSocket shown = before.sight.shown;
      shown.state = TcpState::kSynSent;
      shown.info = s->sight.shown.info;
      s->sight.shown = shown;
      send_more_in_fewer_segments(*s, known->second.seen.truth);
    } else if (same_destination(before.sight, s->sight)) {
      *s = before;
      return;
    }
    // It survives a disconnect.
    s->sight.shown.info.min_rtt_us = before.sight.shown.info.min_rtt_us;
  }

  // The one thing that tells such a life from the one before.
  void send_more_in_fewer_segments(Socket& s, const Truth& before) {
    if ((before.data_segments_sent & 0xffffffff) < 2 || before.retransmitted_segments > 0) return;
    establish(s);
    s.sight.truth.data_segments_sent = 1;
    s.sight.truth.sent_bytes = before.sent_bytes + 1 + below(1000);
    s.sight.truth.received_bytes = before.received_bytes;
    acknowledge_all(s, false);
  }

  static bool same_destination(const Sight& a, const Sight& b) {
    return a.local == b.local && a.remote == b.remote && a.shown.ipv6 == b.shown.ipv6 &&
           a.shown.remote_port == b.shown.remote_port;
  }

  void listen(Space& space) {
    space.naive.listening.clear();
    for (const std::uint16_t port : kListened) {
      if (!one_in(5)) space.naive.listening.insert(port);
    }
    space.listeners = {};
    space.listeners.begin();
    for (const std::uint16_t port : space.naive.listening) {
      const Bytes bytes = message({.state = TcpState::kListen,
                                   .local = "::",
                                   .local_port = port,
                                   .remote = "::",
                                   .remote_port = 0,
                                   .has_info = false});
      space.listeners.add(first_row(bytes));
    }
    space.listeners.commit(now_);
  }

  // ---- what is shown of it ----

  // A step. False if there was nothing to show, after all.
  bool show() {
    if (!sampling_) {
      if (spaces_.size() > 1 && one_in(2000)) return remove_space(0);
      if (one_in(400)) return reconfigure();
      if (one_in(30)) return start_sample();
    }
    if (spaces_.size() < 3 && one_in(6000)) return add_space();
    Space& space = any_space();
    if (!space.events.empty() && one_in(2)) return deliver_event(space);
    if (one_in(400)) return deliver_noise(space);
    return sampling_ && continue_dump();
  }

  bool deliver_event(Space& space) {
    const auto due = std::find_if(space.events.begin(), space.events.end(),
                                  [&](const auto& event) { return event.first <= step_; });
    if (due == space.events.end()) return false;
    const Sight event = std::move(due->second);
    space.events.erase(due);
    if (filtered(event)) return false;
    const Bytes bytes = message(encode(event));
    space.tracker->add_event(first_row(bytes), now_);
    space.naive.add_event(event, now_);
    return true;
  }

  // The ends of a listener, and of a socket that nobody used.
  bool deliver_noise(Space& space) {
    Sight event;
    const bool v6 = one_in(2);
    event.shown = {.cookie = space.next_cookie++,
                   .state = TcpState::kClose,
                   .local = v6 ? "::" : "0.0.0.0",
                   .local_port = static_cast<std::uint16_t>(one_in(2) ? 0 : 443),
                   .remote = v6 ? "::" : "0.0.0.0",
                   .remote_port = 0,
                   .info = {.min_rtt_us = kNoRtt}};
    event.local = event.remote = *parse_ip_address(event.shown.remote);
    const Bytes bytes = message(event.shown);
    space.tracker->add_event(first_row(bytes), now_);
    space.naive.add_event(event, now_);
    return true;
  }

  // As the kernel shows it: counters cut to their width.
  static FakeSocket encode(const Sight& sight) {
    FakeSocket shown = sight.shown;
    const Truth& t = sight.truth;
    TcpInfo& info = shown.info;
#define X(member, kernel, total, ...) info.member = static_cast<decltype(info.member)>(t.total);
    TCPVITALS_TCP_COUNTERS(X, )
#undef X
    info.bytes_acked = t.acked_bytes;
    return shown;
  }

  bool filtered(const Sight& sight) const {
    if (regrouping_) return false;
    const Bytes bytes = message(sight.shown);
    return excluded(config_.excludes, first_row(bytes));
  }

  bool start_sample() {
    sampling_ = true;
    miss_ends_ = std::exchange(lost_, false);
    dumping_ = 0;
    shared_.begin_dump();
    naive_.groups.begin_dump();
    start_dump();
    return true;
  }

  void start_dump() {
    Space& space = *spaces_[dumping_];
    space.tracker->begin_dump(now_, miss_ends_);
    space.naive.begin_dump(now_, miss_ends_);
    space.walking = {space.walk.rbegin(), space.walk.rend()};
    space.filled.clear();
    for (const std::uint16_t port : space.naive.listening) {
      Sight row;
      row.shown = {.state = TcpState::kListen, .local_port = port, .remote_port = 0};
      space.filled.push_back(row);
    }
    space.filled.insert(space.filled.end(), space.time_wait.begin(), space.time_wait.end());
  }

  bool continue_dump() {
    Space& space = *spaces_[dumping_];
    if (space.filled.empty()) fill(space);
    if (one_in(3000)) {
      fail_dump(space);
    } else if (space.filled.empty()) {
      end_dump(space);
    } else {
      const Sight row = std::move(space.filled.front());
      space.filled.pop_front();
      return deliver_row(space, row);
    }
    return true;
  }

  bool deliver_row(Space& space, const Sight& row) {
    if (filtered(row)) return false;
    const Bytes bytes = message(encode(row));
    space.tracker->add_row(first_row(bytes));
    space.naive.add_row(row);
    if (one_in(8)) check_known(space, row, first_row(bytes));
    return true;
  }

  // The kernel writes a piece of the dump: some rows twice, some never, and the newest as well.
  void fill(Space& space) {
    while (!space.walking.empty() && space.filled.size() < 8) {
      const std::uint64_t cookie = space.walking.back();
      if (!one_in(60)) space.walking.pop_back();
      const auto found = space.sockets.find(cookie);
      if (found == space.sockets.end() || one_in(40)) continue;
      Sight row = found->second.sight;
      stamp(found->second, row.shown.info);
      // The FIN is counted, but the state was read before.
      if (row.shown.state == TcpState::kCloseWait && one_in(5)) {
        const auto known = space.naive.known.find(cookie);
        if (known != space.naive.known.end() &&
            known->second.seen.shown.state == TcpState::kEstablished) {
          row.shown.state = TcpState::kEstablished;
        }
      }
      if (one_in(50)) tear(space, row);
      space.filled.push_back(std::move(row));
    }
  }

  // A disconnect comes in between: after the ports were read, or before.
  void tear(const Space& space, Sight& row) {
    const auto known = space.naive.known.find(row.shown.cookie);
    const bool states_first = known != space.naive.known.end() && shows_less(known->second) &&
                              row.shown.state != TcpState::kSynSent &&
                              row.shown.state != TcpState::kSynReceived;
    row.torn = true;
    row.truth = {};
    row.shown.info = {.min_rtt_us = row.shown.info.min_rtt_us};
    if (states_first && one_in(2)) return;
    row.shown.state = TcpState::kClose;
    row.shown.remote_port = 0;
    if (one_in(2)) row.shown.local_port = 0;
  }

  void fail_dump(Space& space) {
    space.tracker->abandon_dump();
    space.naive.abandon_dump();
    space.filled.clear();
    lost_ = lost_ || miss_ends_;
    sampling_ = false;
    ++failed_dumps_;
  }

  void end_dump(Space& space) {
    space.tracker->end_dump(now_);
    space.naive.end_dump(now_);
    ++dumps_;
    if (++dumping_ < spaces_.size()) {
      check_equal();
      return start_dump();
    }
    sampling_ = false;
    shared_.end_dump();
    naive_.groups.end_dump();
    check_equal();
    groups_.forget_idle(now_, kIdle);
    naive_.groups.forget_idle(now_, kIdle);
    if (std::exchange(regrouping_, false)) {
      for (const auto& each : spaces_) {
        each->tracker->kernel_excludes();
        each->naive.kernel_excludes();
      }
    }
    check_equal();
  }

  // As the sampler does.
  bool reconfigure() {
    if (regrouping_) return false;
    regrouping_ = true;
    ++reconfigurations_;
    const Excludes before = config_.excludes;
    config_ = any_of(configurations_);
    apply_limits();
    auto grouping = std::make_unique<Grouping>(config_.grouping());
    groups_.rekey([&](const GroupKey& key) { return grouping->translate(*grouping_, key); });
    naive_.groups.rekey(*grouping_, *grouping);
    for (const auto& space : spaces_) {
      space->classifier.set_grouping(*grouping);
      space->tracker->regroup(before, config_.excludes);
      space->naive.regroup(before, config_.excludes);
    }
    grouping_ = std::move(grouping);
    naive_.grouping = grouping_.get();
    return true;
  }

  void apply_limits() {
    groups_.set_limit(config_.limits.groups);
    naive_.groups.limit = config_.limits.groups;
    shared_.max_connections = naive_.max_connections = config_.limits.connections;
  }

  bool add_space() {
    spaces_.push_back(std::make_unique<Space>(*this, next_netns_++));
    Space& space = *spaces_.back();
    listen(space);
    for (int i = 0; i < 20; ++i) be_born(space);
    if (!regrouping_) return true;
    space.tracker->regroup({}, config_.excludes);
    space.naive.regroup({}, config_.excludes);
    return true;
  }

  bool remove_space(std::size_t which) {
    spaces_[which]->tracker->end_all();
    gone_ += spaces_[which]->tracker->stats();
    spaces_[which]->tracker.reset();
    note(spaces_[which]->naive);
    spaces_.erase(spaces_.begin() + static_cast<std::ptrdiff_t>(which));
    ++spaces_gone_;
    return true;
  }

  // ---- what must hold ----

  [[noreturn]] void fail(const std::string& what, double got, double wanted) const {
    std::printf("step %llu: %s is %.17g, not %.17g\n", static_cast<unsigned long long>(step_),
                what.c_str(), got, wanted);
    std::printf("again: TCPVITALS_MODEL_SEED=%llu\n", static_cast<unsigned long long>(seed_));
    std::exit(1);
  }

  template <typename A, typename B>
  void expect(const std::string& what, A got, B wanted) const {
    if (static_cast<std::int64_t>(got) != static_cast<std::int64_t>(wanted)) {
      fail(what, static_cast<double>(got), static_cast<double>(wanted));
    }
  }

  NaiveGroups::Key text(const GroupKey& key) const {
    return {grouping_->direction_text(key), grouping_->port_text(key), grouping_->peer_text(key),
            key.netns};
  }

  // opened - closed + at_start = live, for every group, those without a name included.
  void check_balance() const {
    for (const GroupTable::Group& group : groups_.groups()) {
      const GroupStats& g = group.stats;
      std::int64_t live = 0;
      for (std::size_t i = 0; i < kTcpStates; ++i) live += is_live(i) ? g.connections[i] : 0;
      const auto counted = static_cast<std::int64_t>(g.opened - g.closes()) + g.at_start;
      if (counted != live)
        fail("opened - closed + at_start", static_cast<double>(counted), static_cast<double>(live));
    }
  }

  void check_equal() {
    std::size_t named = 0;
    std::map<const NaiveGroups::Group*, std::array<std::uint32_t, kTcpStates>> states;
    for (const auto& space : spaces_) {
      for (const auto& [cookie, c] : space->naive.known) {
        const auto state = static_cast<std::size_t>(c.seen.shown.state);
        if (!c.vanished) ++states[c.group.get()][state];
      }
    }
    for (const GroupTable::Group& group : groups_.groups()) {
      if (!group.named) continue;
      ++named;
      const NaiveGroups::Key key = text(group.key);
      const std::string name =
          key.direction + "/" + key.port + "/" + key.peer + "/" + std::to_string(key.netns) + " ";
      const auto found = naive_.groups.named.find(key);
      if (found == naive_.groups.named.end()) fail("group " + name, 1, 0);
      NaiveGroups::Group& model = *found->second;
      check_group(name, group.stats, model);
      for (std::size_t i = 0; i < kTcpStates; ++i) {
        expect(name + std::string(to_string(static_cast<TcpState>(i))), group.stats.connections[i],
               states[&model][i]);
      }
      expect(name + "references", group.references, found->second.use_count() - 1);
    }
    expect("groups", named, naive_.groups.named.size());
    expect("groups by key", groups_.size(), named);
    expect("places for groups", groups_.groups().size(), naive_.groups.most);
    expect("overflowed", groups_.overflowed(), naive_.groups.overflowed);
    expect("forgotten", groups_.forgotten(), naive_.groups.forgotten);
    expect("connections", shared_.connections, naive_.connections());
    for (const auto& space : spaces_) check_tracker(*space);
  }

  void check_group(const std::string& name, const GroupStats& g, NaiveGroups::Group& model) {
    const GroupStats& wanted = model.stats;
    for (const Total& total : totals()) {
      const std::string what = name + std::string(total.name);
      expect(what, g.*total.field, wanted.*total.field);
      if (g.*total.field < model.checked.*total.field) {
        fail(what + " fell: it", static_cast<double>(g.*total.field),
             static_cast<double>(model.checked.*total.field));
      }
    }
    for (std::size_t i = 0; i < kConnectionEnds; ++i) {
      const std::string what =
          name + "closed " + std::string(to_string(static_cast<ConnectionEnd>(i)));
      expect(what, g.closed[i], wanted.closed[i]);
      if (g.closed[i] < model.checked.closed[i]) fail(what + " fell", 0, 1);
    }
    for (std::size_t i = 0; i < kConnectFailures; ++i) {
      const std::string what =
          name + "failed " + std::string(to_string(static_cast<ConnectFailure>(i)));
      expect(what, g.failures[i], wanted.failures[i]);
      if (g.failures[i] < model.checked.failures[i]) fail(what + " fell", 0, 1);
    }
    expect(name + "at_start", g.at_start, wanted.at_start);
    const auto& last = g.last_dump;
    const auto& last_wanted = wanted.last_dump;
    expect(name + "fin_wait2", last.fin_wait2, last_wanted.fin_wait2);
    expect(name + "time_wait", last.time_wait, last_wanted.time_wait);
    expect(name + "syn_received", last.syn_received, last_wanted.syn_received);
    expect(name + "close_wait_oldest", last.close_wait_oldest, last_wanted.close_wait_oldest);
    expect(name + "close_wait_old", last.close_wait_old, last_wanted.close_wait_old);
    expect(name + "ephemeral_ports", last.ephemeral_ports, last_wanted.ephemeral_ports);
    expect(name + "send_queue_bytes", last.send_queue_bytes, last_wanted.send_queue_bytes);
    expect(name + "receive_queue_bytes", last.receive_queue_bytes, last_wanted.receive_queue_bytes);
    check_histogram(name + "rtt", g.rtt, wanted.rtt);
    check_histogram(name + "min_rtt", g.min_rtt, wanted.min_rtt);
    check_histogram(name + "delivery_rate", g.delivery_rate, wanted.delivery_rate);
    model.checked = g;
  }

  template <typename Histogram>
  void check_histogram(const std::string& name, const Histogram& got, const Histogram& wanted) {
    if (got.counts != wanted.counts) fail(name + " (its buckets)", 0, 0);
    const HistogramSample a = got.sample();
    const HistogramSample b = wanted.sample();
    if (a.sum != b.sum) fail(name + " (its sum)", a.sum, b.sum);
  }

  void check_tracker(const Space& space) const {
    for (const TrackerTotal& total : kTrackerTotals) {
      expect(std::string("tracker ") + total.name, space.tracker->stats().*total.field,
             space.naive.stats.*total.field);
    }
    expect("tracked", space.tracker->tracked(), space.naive.tracked());
    expect("untracked", space.tracker->last_dump().untracked, space.naive.untracked);
    expect("started", space.tracker->started(), space.naive.started);
    for (std::size_t i = 0; i < kTcpStates; ++i) {
      expect("host " + std::string(to_string(static_cast<TcpState>(i))),
             space.tracker->last_dump().states[i], space.naive.host_states[i]);
    }
  }

  void check_known(Space& space, const Sight& sight, const SocketRow& row) const {
    if (row.state == TcpState::kListen) return;
    const Tracker::Known found = space.tracker->known(row);
    const auto known = space.naive.known.find(row.cookie);
    const bool tracked = known != space.naive.known.end() && !known->second.vanished;
    if (!tracked) {
      expect("found", found.first_seen == TimePoint::max(), true);
      expect("direction", found.direction, space.naive.direction(sight));
      return;
    }
    const NaiveTracker::Connection& c = known->second;
    expect("direction", found.direction == Direction::kOutbound, c.outbound);
    const auto first =
        !c.first_seen ? TimePoint::min() : TimePoint(std::chrono::seconds(*c.first_seen));
    expect("first_seen", found.first_seen == first, true);
  }

  void note(const NaiveTracker& naive) {
    returned_ += naive.returned;
    reused_ += naive.reused;
    moved_ += naive.moved;
    taken_out_ += naive.taken_out;
    held_back_ += naive.held_back;
    torn_ += naive.torn;
  }

  // A run that did not meet all this has shown little.
  void tell() const {
    const std::pair<const char*, std::uint64_t> met[] = {
        {"complete dumps", dumps_},
        {"failed dumps", failed_dumps_},
        {"events", gone_.events},
        {"vanished", gone_.vanished},
        {"late events", gone_.late_events},
        {"returned", returned_},
        {"held back", held_back_},
        {"torn rows", torn_},
        {"sockets used again", reused_},
        {"closed without counters", gone_.closes_without_counters},
        {"not new", gone_.closes_of_past},
        {"over the limit", gone_.untracked},
        {"reconfigurations", reconfigurations_},
        {"moved", moved_},
        {"taken out", taken_out_},
        {"groups in other", groups_.overflowed()},
        {"groups forgotten", groups_.forgotten()},
        {"namespaces gone", spaces_gone_},
    };
    bool all = true;
    for (const auto& [what, times] : met) {
      std::printf("%10llu %s\n", static_cast<unsigned long long>(times), what);
      all = all && times > 0;
    }
    if (all || steps_ < 1'000'000) return;
    std::printf("not all was met\n");
    std::exit(1);
  }

  static constexpr auto kIdle = std::chrono::seconds(100);

  std::mt19937_64 random_;
  const std::uint64_t seed_;
  const std::uint64_t steps_;
  std::uint64_t step_ = 0;
  TimePoint now_{std::chrono::seconds(1'000'000)};

  const std::vector<ConnectionsConfig> configurations_;
  ConnectionsConfig config_;
  std::unique_ptr<Grouping> grouping_;
  GroupTable groups_{0};
  TrackerShared shared_{groups_};
  NaiveWorld naive_;
  std::vector<std::unique_ptr<Space>> spaces_;

  NetnsId next_netns_ = kNetnsHost;
  std::uint64_t lives_ = 0;
  bool sampling_ = false;
  bool regrouping_ = false;  // and the kernel leaves out nothing
  bool lost_ = false;
  bool miss_ends_ = false;
  std::size_t dumping_ = 0;

  TrackerStats gone_;
  std::uint64_t dumps_ = 0;
  std::uint64_t failed_dumps_ = 0;
  std::uint64_t reconfigurations_ = 0;
  std::uint64_t spaces_gone_ = 0;
  std::uint64_t returned_ = 0;
  std::uint64_t reused_ = 0;
  std::uint64_t moved_ = 0;
  std::uint64_t taken_out_ = 0;
  std::uint64_t held_back_ = 0;
  std::uint64_t torn_ = 0;
};

std::uint64_t number_from(const char* variable, std::uint64_t otherwise) {
  const char* text = std::getenv(variable);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

}  // namespace

int main() {
  const std::uint64_t steps = number_from("TCPVITALS_MODEL_STEPS", 1'000'000);
  const std::uint64_t seed = number_from("TCPVITALS_MODEL_SEED", std::random_device()());
  std::printf("TCPVITALS_MODEL_SEED=%llu TCPVITALS_MODEL_STEPS=%llu\n",
              static_cast<unsigned long long>(seed), static_cast<unsigned long long>(steps));
  std::fflush(stdout);
  Simulation(seed, steps).run();
}
