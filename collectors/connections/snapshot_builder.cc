#include "collectors/connections/snapshot_builder.h"

#include <fmt/format.h>

#include <algorithm>

namespace tcpvitals {
namespace {

void describe(const Tracker& tracker, Snapshot& s) {
  s.tracker += tracker.stats();
  s.tracked += tracker.tracked();
  s.untracked += tracker.last_dump().untracked;
  s.past_sockets += tracker.past().size();
  s.tracker_bytes += tracker.memory_bytes();
  s.info_length = std::max(s.info_length, tracker.info_length());
}

}  // namespace

void describe(const HostAccount& host, Snapshot& s) {
  s.config = host.config();
  s.groups.reserve(host.groups().size());
  for (const GroupTable::Group& group : host.groups().groups()) {
    if (group.named) s.groups.push_back({group.key, host.labels(group.key), group.stats});
  }
  s.groups_overflowed = host.groups().overflowed();
  s.groups_forgotten = host.groups().forgotten();
  s.tracker = host.gone();
  for (const auto& account : host.namespaces()) {
    if (!account->tracker().started()) continue;
    s.namespaces.push_back(account->report(host.grouping()));
    describe(account->tracker(), s);
  }
  s.peers = host.grouping().peers.size();
  if (const CgroupNames* cgroups = host.cgroups()) {
    s.cgroups = cgroups->size();
    s.cgroup_names = cgroups->stats();
    s.features.push_back({"cgroup_names", cgroups->complaint()});
  }
}

void describe(const EventReader& events, std::size_t wished_bytes, Snapshot& s) {
  s.events_lost = events.lost();
  s.event_overruns = events.overruns();
  s.event_buffer_bytes = events.buffer_bytes();
  std::string missing;
  if (s.event_buffer_bytes < wished_bytes) {
    missing = fmt::format(
        "the event buffer has {} bytes instead of {}: raise net.core.rmem_max or give "
        "CAP_NET_ADMIN",
        s.event_buffer_bytes, wished_bytes);
  }
  s.features.push_back({"event_buffer_forced", std::move(missing)});
}

}  // namespace tcpvitals
