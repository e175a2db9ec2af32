#include "collectors/connections/host_totals.h"

#include <string_view>

#include "collectors/host/snmp.h"

namespace tcpvitals {

std::optional<HostTotals> read_host_totals(const KernelSource& files) {
  const auto fields = read_parsed(files, "net/snmp", parse_snmp);
  if (!fields) return std::nullopt;
  const auto value = [&](std::string_view name) {
    const auto field = fields->find(name);
    return field == fields->end() ? 0 : field->second;
  };
  return HostTotals{value("TcpActiveOpens"), value("TcpPassiveOpens"), value("TcpAttemptFails"),
                    value("TcpRetransSegs")};
}

}  // namespace tcpvitals
