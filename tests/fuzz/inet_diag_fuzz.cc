// Any bytes, read as a sock_diag datagram, in full and tracked as a dump's rows and as events: no
// crash, and the books balance.
#include <cstdlib>

#include "collectors/connections/socket_detail.h"
#include "collectors/connections/tracker.h"

using namespace tcpvitals;

namespace {

std::vector<SocketRow> read(std::span<const std::byte> datagram) {
  std::vector<SocketRow> rows;
  InetDiagReader reader(datagram);
  SocketRow row;
  while (reader.next(row) == InetDiagReader::Next::kRow) {
    if (read_detail(row).cookie != row.cookie) std::abort();
    rows.push_back(row);
  }
  return rows;
}

void check(const Tracker& tracker, const GroupTable& groups) {
  std::size_t tracked = 0;
  for (const GroupStats& g : groups.stats()) {
    std::uint64_t live = 0;
    for (std::size_t i = 1; i < kTcpStates; ++i) {
      tracked += g.connections[i];
      const auto state = static_cast<TcpState>(i);
      if (state != TcpState::kSynSent && state != TcpState::kSynReceived &&
          state != TcpState::kClose) {
        live += g.connections[i];
      }
    }
    if (g.opened + g.at_start < g.closed + live) std::abort();
  }
  if (tracked != tracker.tracked()) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::vector<SocketRow> rows = read(std::as_bytes(std::span(data, size)));
  ListenerTable listeners;
  listeners.begin();
  for (const SocketRow& row : rows) {
    if (row.state == TcpState::kListen) listeners.add(row);
  }
  listeners.commit(Clock::now());
  const Classifier classifier(listeners, {});
  GroupTable groups(8);
  Tracker tracker(groups, classifier, {.connections = 16, .vanished = 4});
  const auto dump = [&](std::span<const SocketRow> some) {
    tracker.begin_dump(Clock::now());
    for (const SocketRow& row : some) tracker.add_row(row);
    tracker.end_dump(Clock::now());
    check(tracker, groups);
  };
  const std::span all(rows);
  dump(all.first(all.size() / 2));
  dump(all);
  dump(all.last(all.size() / 2));
  dump({});
  for (const SocketRow& row : all) tracker.add_event(row);
  check(tracker, groups);
  return 0;
}
