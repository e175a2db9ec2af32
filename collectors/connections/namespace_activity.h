// NamespaceActivity: what a network namespace says of its TCP sockets by itself, so that one where
// nothing moved is not dumped again: a dump walks the machine's whole table of sockets, and picks
// out those of one namespace.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "base/clock.h"
#include "collectors/connections/tracker.h"
#include "collectors/kernel_source.h"

namespace tcpvitals {

struct NamespaceActivity {
  std::string counters;         // the line Tcp of net/snmp: segments, opens, failures ...
  std::uint64_t in_use = 0;     // sockets of both families that listen or are connected
  std::uint64_t time_wait = 0;  // what is left of closed ones

  bool operator==(const NamespaceActivity&) const = default;
};

// From net/snmp, net/sockstat and net/sockstat6. Nothing where one of the first two cannot be read.
std::optional<NamespaceActivity> read_activity(const KernelSource& files);

// What the last dump of a namespace found.
struct LastDump {
  TimePoint end{};
  std::optional<NamespaceActivity> activity;  // before it began
  bool settled = false;                       // see is_settled()
};

// Whether all that a dump showed can only change with a segment, or with a socket that comes or
// goes: then it is still true when NamespaceActivity is what it was. That is so if no queue holds
// bytes (an application reads and writes without a segment), nothing waits for a time to pass
// (CLOSE_WAIT has an age; SYN_RECV and TIME_WAIT end by themselves), and each connection that is
// tracked was seen. `states` by TcpState.
bool is_settled(const std::array<std::uint32_t, kTcpStates>& states, std::uint64_t queued_bytes,
                std::size_t tracked);

enum class DumpNeed {
  kFull,
  kRenewal,  // the last dump is still true, but older than five minutes
  kNone,     // it is still true
  kEmpty,    // there is no socket that a dump could show
};

// `everything`: somebody wants to see each connection.
DumpNeed dump_need(const LastDump& last, const std::optional<NamespaceActivity>& activity,
                   TimePoint now, bool everything);

}  // namespace tcpvitals
