// Snapshot: what the sampler knows at one moment. Immutable once published; any thread may read it.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "collectors/attribution/cgroups.h"
#include "collectors/attribution/groups.h"
#include "collectors/attribution/listeners.h"
#include "collectors/connections/config.h"
#include "collectors/connections/host_totals.h"
#include "collectors/connections/tracker.h"
#include "collectors/namespaces/namespace_watcher.h"

namespace tcpvitals {

// The values of a group's labels; empty where it is not grouped by the label.
struct GroupLabels {
  std::string direction;
  std::string port;
  std::string peer;
  std::string cgroup;
  std::string netns;
};

struct Snapshot {
  struct Group {
    GroupKey key;
    GroupLabels labels;
    GroupStats stats;
  };

  struct OpenListener {
    Listener listener;
    std::string port;  // its name, else its number
  };

  struct Namespace {
    std::string netns;  // empty: not grouped by it
    TimePoint as_of;    // when it was dumped, or nothing had moved since it was
    std::array<std::uint32_t, kTcpStates> states{};
    std::vector<OpenListener> listeners;
    std::optional<LocalPorts> local_ports;
    TrackerStats tracker;
    std::optional<HostTotals> since_start;  // since the first dump
  };

  // What needs a privilege or a kernel that is not there everywhere.
  struct Feature {
    std::string_view name;
    std::string missing;  // what it lacks, for a person; empty: it is there
  };

  TimePoint dump_end;  // of the last complete dump: what is not a counter is as old as this
  double dump_seconds = 0;
  double dump_cpu_seconds = 0;
  std::uint64_t dump_bytes = 0;            // netlink bytes of the last complete dump
  std::uint64_t dumps = 0;                 // complete ones, ever
  std::size_t namespaces_dumped = 0;       // in the last one; in the others nothing had moved
  double longest_event_pause_seconds = 0;  // in which events were not looked for, during it

  ConnectionsConfig config;

  std::vector<Group> groups;
  std::vector<Namespace> namespaces;  // ours first
  TrackerStats tracker;               // of all namespaces, also those that are gone

  std::size_t tracked = 0;
  std::size_t untracked = 0;
  std::size_t past_sockets = 0;  // see PastSockets
  std::size_t tracker_bytes = 0;
  std::size_t peers = 0;  // names
  std::uint64_t groups_overflowed = 0;
  std::uint64_t groups_forgotten = 0;
  std::size_t cgroups = 0;
  CgroupNames::Stats cgroup_names;
  NamespaceStats network_namespaces;
  std::uint64_t namespace_failures = 0;  // reads of other namespaces than ours
  std::vector<Feature> features;
  std::uint32_t info_length =
      0;  // bytes of tcp_info this kernel returns: what lies beyond is absent

  std::uint64_t events_lost = 0;     // the kernel's own count
  std::uint64_t event_overruns = 0;  // times the event buffer was found to have overflowed
  std::size_t event_buffer_bytes = 0;
  double cpu_seconds = 0;  // of the sampler's thread, ever
};

}  // namespace tcpvitals
