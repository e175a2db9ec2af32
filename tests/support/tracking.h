// A tracker and all that it works on, in one piece.
#pragma once

#include <memory>
#include <numeric>
#include <utility>
#include <vector>

#include "collectors/attribution/classify.h"
#include "collectors/connections/tracker.h"
#include "tests/support/diag_builder.h"

namespace tcpvitals::testing {

inline GroupKey classify(Classifier& classifier, const SocketRow& row) {
  return classifier.key(row, classifier.direction(row));
}

struct Tracking {
  explicit Tracking(const ConnectionsConfig& config = {})
      : grouping(std::make_unique<Grouping>(config.grouping())), groups(config.limits.groups) {
    classifier.set_local_ports(LocalPorts{kDefaultEphemeral, {}}, groups);
    shared.max_connections = config.limits.connections;
    shared.close_wait_threshold = config.close_wait_threshold;
  }

  void listen(const std::vector<FakeSocket>& sockets, TimePoint when) {
    listeners.begin();
    for (const FakeSocket& s : sockets) {
      const Bytes bytes = message(s);
      listeners.add(first_row(bytes));
    }
    listeners.commit(when);
  }
  void begin_dump(TimePoint when, bool events_lost = false) {
    shared.begin_dump();
    tracker.begin_dump(when, events_lost);
  }
  void row(const FakeSocket& s) {
    const Bytes bytes = message(s);
    tracker.add_row(first_row(bytes));
  }
  void end_dump(TimePoint when) {
    tracker.end_dump(when);
    shared.end_dump();
  }
  void event(const FakeSocket& s) {
    FakeSocket closed = s;
    closed.state = TcpState::kClose;
    const Bytes bytes = message(closed);
    tracker.add_event(first_row(bytes), now);
  }

  // As the sampler does; the limits stay.
  void regroup(const ConnectionsConfig& config, const Excludes& before = {}) {
    auto next = std::make_unique<Grouping>(config.grouping());
    groups.rekey([&](const GroupKey& key) { return next->translate(*grouping, key); });
    classifier.set_grouping(*next);
    tracker.regroup(before, config.excludes);
    grouping = std::move(next);
  }

  const GroupStats& group(Direction direction, PortLabel port,
                          const std::string& peer = "198.51.100.7") {
    return groups[groups.find_or_add({.direction = direction,
                                      .peer = grouping->peers.find(*parse_ip_address(peer)),
                                      .port = port})];
  }

  // The group that is shown under these labels, or null.
  const GroupStats* shown(std::string_view direction, std::string_view port,
                          std::string_view peer = "public") const {
    for (const GroupTable::Group& g : groups.groups()) {
      if (g.named && grouping->direction_text(g.key) == direction &&
          grouping->port_text(g.key) == port && grouping->peer_text(g.key) == peer) {
        return &g.stats;
      }
    }
    return nullptr;
  }

  // 8 KiB: not on a test's stack.
  const std::unique_ptr<ListenerTable> listener_table = std::make_unique<ListenerTable>();
  ListenerTable& listeners = *listener_table;
  std::unique_ptr<const Grouping> grouping;
  Classifier classifier{listeners, *grouping};
  GroupTable groups;
  TrackerShared shared{groups};
  Tracker tracker{shared, classifier};
  TimePoint now = Clock::now();
};

// With a listener on port 443, and its own time.
struct Host : Tracking {
  explicit Host(const ConnectionsConfig& config = {}) : Tracking(config) {
    listen({{.state = TcpState::kListen,
             .local = "0.0.0.0",
             .remote = "0.0.0.0",
             .remote_port = 0,
             .has_info = false}},
           now);
  }

  void begin(bool events_lost = false) { begin_dump(now, events_lost); }
  void end() { end_dump(now); }
  void dump(const std::vector<FakeSocket>& sockets, bool events_lost = false) {
    begin(events_lost);
    for (const FakeSocket& s : sockets) row(s);
    end();
  }
  const GroupStats& inbound() { return group(Direction::kInbound, 443); }
  const GroupStats& outbound() { return group(Direction::kOutbound, 5432); }
};

inline FakeSocket client(std::uint64_t cookie) {
  return {.cookie = cookie, .local_port = 50000, .remote_port = 5432};
}

// A socket after the kernel disconnected it: remote port and counters are gone, min_rtt is not.
inline FakeSocket cleared(FakeSocket s, bool was_established) {
  s.remote_port = 0;
  s.info = TcpInfo{.min_rtt_us = was_established ? 100 : kNoRtt};
  return s;
}

inline std::uint64_t live(const GroupStats& g) {
  std::uint64_t n = 0;
  for (const TcpState s : {TcpState::kEstablished, TcpState::kFinWait1, TcpState::kFinWait2,
                           TcpState::kCloseWait, TcpState::kLastAck, TcpState::kClosing}) {
    n += g.connections[static_cast<std::size_t>(s)];
  }
  return n;
}

inline std::uint64_t observations(const auto& histogram) {
  return std::accumulate(histogram.counts.begin(), histogram.counts.end(), std::uint64_t{0});
}

}  // namespace tcpvitals::testing
