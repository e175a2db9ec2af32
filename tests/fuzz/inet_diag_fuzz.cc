// Any bytes, read as a sock_diag datagram, in full and tracked as a dump's rows and as events: no
// crash, and the books balance.
#include <cstdlib>

#include "collectors/sock_diag/socket_detail.h"
#include "tests/support/tracking.h"

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

void check(const testing::Tracking& tracking) {
  std::size_t tracked = 0;
  for (const GroupTable::Group& group : tracking.groups.groups()) {
    const GroupStats& g = group.stats;
    std::int64_t live = 0;
    for (std::size_t i = 1; i < kTcpStates; ++i) {
      tracked += g.connections[i];
      const auto state = static_cast<TcpState>(i);
      if (state != TcpState::kSynSent && state != TcpState::kSynReceived &&
          state != TcpState::kClose) {
        live += g.connections[i];
      }
    }
    const std::uint64_t ended = g.closes();
    if (static_cast<std::int64_t>(g.opened - ended) + g.at_start < live) std::abort();
  }
  if (tracked != tracking.tracker.tracked()) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::vector<SocketRow> rows = read(std::as_bytes(std::span(data, size)));
  testing::Tracking tracking({.limits = {.connections = 16, .groups = 8}});
  tracking.listeners.begin();
  for (const SocketRow& row : rows) {
    if (row.state == TcpState::kListen) tracking.listeners.add(row);
  }
  tracking.listeners.commit(Clock::now());
  const auto dump = [&](std::span<const SocketRow> some, std::span<const SocketRow> events) {
    tracking.begin_dump(Clock::now());
    for (const SocketRow& row : some) {
      tracking.tracker.add_row(row);
      if (events.empty()) continue;
      tracking.tracker.add_event(events.front(), Clock::now());
      events = events.subspan(1);
    }
    tracking.end_dump(Clock::now());
    tracking.groups.forget_idle(Clock::now(), {});
    check(tracking);
  };
  const std::span all(rows);
  dump(all.first(all.size() / 2), {});
  dump(all, {});
  dump(all.last(all.size() / 2), all);
  const Excludes excludes{.loopback = true, .ports = {{0, 1023}}};
  tracking.regroup({.ports = {{"high", {1024, 65535}}}, .excludes = excludes});
  dump(all, {});
  tracking.tracker.kernel_excludes();
  tracking.regroup({.group_by = {.port = false}}, excludes);
  dump(all, all.last(all.size() / 2));
  dump({}, {});
  for (const SocketRow& row : all) tracking.tracker.add_event(row, Clock::now());
  check(tracking);
  return 0;
}
