#include "collectors/connections/host_totals.h"

#include <string_view>
#include <utility>

#include "collectors/host/snmp.h"

namespace tcpvitals {

std::optional<HostTotals> read_host_totals(const KernelSource& files) {
  const auto fields = read_parsed(files, "net/snmp", parse_snmp);
  if (!fields) return std::nullopt;
  HostTotals totals;
  const std::pair<std::string_view, double*> wanted[] = {
      {"TcpActiveOpens", &totals.active_opens},
      {"TcpPassiveOpens", &totals.passive_opens},
      {"TcpAttemptFails", &totals.attempt_fails},
      {"TcpRetransSegs", &totals.retransmitted_segments}};
  for (const auto& [name, total] : wanted) {
    const auto field = fields->find(name);
    if (field == fields->end()) return std::nullopt;  // missing is not zero
    *total = field->second;
  }
  return totals;
}

}  // namespace tcpvitals
