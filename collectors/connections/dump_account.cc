#include "collectors/connections/dump_account.h"

#include <algorithm>

#include "collectors/connections/verdicts.h"

namespace tcpvitals {

void DumpAccount::begin(TimePoint now) {
  now_ = now;
  running_ = {};
  std::fill(shared_.ports_in_use.begin(), shared_.ports_in_use.end(), std::uint16_t{0});
}

std::uint32_t DumpAccount::seconds_now() const {
  const auto since_epoch =
      std::chrono::duration_cast<std::chrono::seconds>(now_.time_since_epoch());
  return static_cast<std::uint32_t>(std::max<std::int64_t>(1, since_epoch.count()));
}

void DumpAccount::add_socket_without_counters(const SocketRow& row) {
  count_state(row.state);
  const Direction direction = classifier_.direction(row);
  const GroupId id = shared_.groups.find_or_add(classifier_.key(row, direction),
                                                GroupTable::wanted(row.time_wait));
  GroupStats::LastDump& dump = shared_.groups.dump(id);
  if (!row.time_wait) {
    ++dump.syn_received;
  } else {
    ++(row.state == TcpState::kFinWait2 ? dump.fin_wait2 : dump.time_wait);
  }
  if (direction == Direction::kOutbound) count_local_port(id, row.local_port, ends_hash(row));
}

void DumpAccount::count_local_port(GroupId group, std::uint16_t port, std::uint32_t ends) {
  if (!classifier_.local_ports() || !classifier_.local_ports()->contains(port)) return;
  std::uint16_t& in_use = shared_.ports_in_use[ends & 0xffff];
  if (in_use < 0xffff) ++in_use;
  GroupStats::LastDump& dump = shared_.groups.dump(group);
  dump.ephemeral_ports = std::max<std::uint32_t>(dump.ephemeral_ports, in_use);
}

void DumpAccount::add_connection(TrackedConnection& c, const SocketRow& row, const TcpInfo& info) {
  GroupStats::LastDump& dump = shared_.groups.dump(c.group);
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

}  // namespace tcpvitals
