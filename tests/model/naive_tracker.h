// NaiveTracker: what Tracker has to count, said a second time from its rules and as plainly as they
// can be said: maps, no slab, no order of rows, nothing kept that can be worked out. Where the
// Tracker has to infer, this is told the truth: which connection a socket carries, and counters
// that never wrap.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "collectors/attribution/classify.h"
#include "collectors/connections/tracker.h"
#include "tests/support/diag_builder.h"

namespace tcpvitals::testing {

// The counters of one connection as they truly are. The kernel shows the low 32 bits of most, and
// 16 of one.
struct Truth {
#define X(member, kernel, total, ...) std::uint64_t total = 0;
  TCPVITALS_TCP_COUNTERS(X, )
#undef X
  std::uint64_t acked_bytes =
      0;  // our SYN and FIN are two of them; of received_bytes the peer's FIN
};

struct TruthField {
  std::string_view name;
  std::uint64_t Truth::*truth;
  std::uint64_t TcpTotals::*total;
  unsigned bits;  // that the kernel shows
};
inline constexpr TruthField kTruthFields[] = {
#define X(member, kernel, total, ...) \
  {#total, &Truth::total, &TcpTotals::total, 8 * sizeof(TcpInfo::member)},
    TCPVITALS_TCP_COUNTERS(X, )
#undef X
};

// One row or event, and what it stands for.
struct Sight {
  std::uint64_t life = 0;  // number of the connection; a socket may carry several in turn
  FakeSocket shown;
  IpAddress local;
  IpAddress remote;
  Truth truth;        // all zero once the kernel has cleared it
  bool torn = false;  // a row: the kernel cleared the socket while it wrote this
};

// Groups by the texts of their labels.
class NaiveGroups {
 public:
  struct Key {
    std::string direction;
    std::string port;
    std::string peer;
    NetnsId netns = 0;
    auto operator<=>(const Key&) const = default;
  };
  struct Group {
    GroupStats stats;  // `connections` is not used: they are counted when they are asked for
    GroupStats::LastDump running;
    bool touched = true;
    std::uint64_t asked = 0;  // number of the request that found it last
    TimePoint idle_since{};
    GroupStats checked;  // as the test found it last
  };
  using Ref = std::shared_ptr<Group>;  // held by the table, and by each connection of the group

  Ref find_or_add(const Key& key, bool connected);
  void begin_dump();
  void end_dump();
  void forget_idle(TimePoint now, Clock::duration idle);
  void rekey(const Grouping& before, const Grouping& now);

  bool displace_attempts();

  std::map<Key, Ref> named;
  std::vector<std::weak_ptr<Group>> all;  // those that lost their name too
  std::size_t most = 0;                   // of them at one time
  std::size_t limit = 0;
  std::set<Key> attempts;          // bounded groups that had no connection at the last look
  std::size_t attempts_added = 0;  // in the hour that runs
  TimePoint hour_start{};
  std::uint64_t requests = 0;
  std::uint64_t overflowed = 0;
  std::uint64_t forgotten = 0;
};

class NaiveTracker;

// What the trackers of all namespaces share.
struct NaiveWorld {
  NaiveGroups groups;
  const Grouping* grouping = nullptr;
  std::set<NaiveTracker*> trackers;
  std::size_t max_connections = 0;
  std::chrono::seconds close_wait_threshold{60};

  std::size_t connections() const;
};

class NaiveTracker {
 public:
  NaiveTracker(NaiveWorld& world, NetnsId netns);
  ~NaiveTracker();
  NaiveTracker(const NaiveTracker&) = delete;
  NaiveTracker& operator=(const NaiveTracker&) = delete;

  void begin_dump(TimePoint now, bool events_lost);
  void add_row(const Sight& row);
  void end_dump(TimePoint now);
  void abandon_dump();
  void regroup(Excludes before, Excludes now);
  void kernel_excludes() { excluded_now = {}; }
  void add_event(const Sight& event, TimePoint now);

  struct Connection {
    Sight seen;
    NaiveGroups::Ref group;
    bool outbound = false;
    bool opened = false;
    bool rtt_observed = false;
    bool missed = false;
    bool vanished = false;
    bool grouped_anew = false;  // since the last regroup()
    TimePoint vanished_at{};
    Truth counted;  // of received_bytes: the payload
    std::uint64_t acked_at_rtt = 0;
    std::int64_t observed_in = 0;            // interval
    std::optional<std::int64_t> first_seen;  // seconds; none: of the baseline
    std::optional<std::int64_t> close_wait_since;
  };

  std::size_t tracked() const;
  Direction direction(const Sight& sight);
  void learn(const Sight& sight, Direction direction, bool connected);
  NaiveGroups::Key key(const Sight& sight, Direction direction) const;

  NaiveWorld& world;
  const NetnsId netns;
  std::set<std::uint16_t> listening;               // ports, on every address
  std::set<std::uint16_t> served;                  // outside the range: connections came in there
  std::array<ServicePorts, kDirections> services;  // inside it
  bool ports_named = false;                        // since the last dump began
  std::map<std::uint64_t, Connection> known;
  std::set<std::uint64_t> past;  // not known, and not new
  bool started = false;
  TrackerStats stats;
  std::array<std::uint32_t, kTcpStates> host_states{};
  std::size_t untracked = 0;

  // Things that happened, to show that they were tried.
  std::uint64_t returned = 0;
  std::uint64_t reused = 0;
  std::uint64_t moved = 0;
  std::uint64_t taken_out = 0;
  std::uint64_t held_back = 0;  // rows that came after their socket's event
  std::uint64_t torn = 0;

 private:
  using Destination = std::tuple<IpAddress, IpAddress, std::uint16_t, bool>;

  void move(Connection& c, const Sight& sight, bool connected);
  void connect(Connection& c, const Sight& sight);
  void begin(const Sight& row);
  void look(Connection& c, const Sight& row);
  static bool has_news(const Connection& c, const Sight& now);
  void count(Connection& c, const Sight& now, std::uint64_t payload);
  void count_final(Connection& c, const Sight& event);
  void observe(Connection& c, const Sight& now);
  void use_port(NaiveGroups::Group& group, const Sight& row);
  void end_reused(Connection& c);
  void finish_known(Connection& c, const Sight& event, TimePoint now);
  void finish_unknown(const Sight& event, TimePoint now);
  bool is_past(const Sight& sight, TimePoint now) const;
  void fail(NaiveGroups::Group& group, ConnectFailure reason);
  void forget(std::uint64_t cookie);
  bool left_out(const Sight& event) const;

  bool dumping = false;
  bool one_miss_ends = false;
  TimePoint dump_began{};
  TimePoint start{};
  std::int64_t now_seconds = 0;
  std::set<std::uint64_t> seen;       // in the running dump
  std::set<std::uint64_t> destroyed;  // likewise
  std::map<Destination, std::uint32_t> ports;
  std::array<std::uint32_t, kTcpStates> dump_states{};
  std::size_t dump_untracked = 0;
  Excludes excluded_before;
  Excludes excluded_now;
};

}  // namespace tcpvitals::testing
