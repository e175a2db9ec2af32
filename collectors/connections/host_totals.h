// HostTotals: what the kernel counted for a whole network namespace, to hold the sum over all
// groups against.
#pragma once

#include <optional>

#include "collectors/kernel_source.h"

namespace tcpvitals {

struct HostTotals {
  double active_opens = 0;
  double passive_opens = 0;
  double attempt_fails = 0;
  double retransmitted_segments = 0;

  HostTotals operator-(const HostTotals& start) const {
    return {active_opens - start.active_opens, passive_opens - start.passive_opens,
            attempt_fails - start.attempt_fails,
            retransmitted_segments - start.retransmitted_segments};
  }
};

// From net/snmp. Nothing where it cannot be read, or lacks one of them (the snmp collector says
// so).
std::optional<HostTotals> read_host_totals(const KernelSource& files);

}  // namespace tcpvitals
