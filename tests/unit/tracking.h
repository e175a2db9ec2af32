// A tracker and all that it works on, in one piece.
#pragma once

#include <vector>

#include "collectors/connections/classify.h"
#include "collectors/connections/tracker.h"
#include "tests/unit/diag_builder.h"

namespace tcpvitals::testing {

inline GroupKey classify(const Classifier& classifier, const SocketRow& row) {
  return classifier.key(row, classifier.direction(row));
}

struct Tracking {
  explicit Tracking(const ConnectionsConfig& config = {}, PortRange ephemeral = kDefaultEphemeral)
      : grouping(config, ephemeral), groups(config.limits.groups) {
    shared.max_connections = config.limits.connections;
    shared.close_wait_threshold = config.close_wait_threshold;
  }

  void listen(const std::vector<FakeSocket>& sockets, TimePoint now) {
    listeners.begin();
    for (const FakeSocket& s : sockets) {
      const Bytes bytes = message(s);
      listeners.add(first_row(bytes));
    }
    listeners.commit(now);
  }
  void begin_dump(TimePoint now, bool events_lost = false) {
    shared.begin_dump();
    tracker.begin_dump(now, events_lost);
  }
  void end_dump(TimePoint now) {
    tracker.end_dump(now);
    shared.end_dump();
  }

  const GroupStats& group(Direction direction, PortLabel port,
                          const std::string& peer = "198.51.100.7") {
    return groups[groups.find_or_add({.direction = direction,
                                      .peer = grouping.peers.find(*parse_ip_address(peer)),
                                      .port = port})];
  }

  ListenerTable listeners;
  Grouping grouping;
  Classifier classifier{listeners, grouping};
  GroupTable groups;
  TrackerShared shared{groups};
  Tracker tracker{shared, classifier};
};

}  // namespace tcpvitals::testing
