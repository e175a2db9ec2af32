#include "exporter/api_server.h"

#include <cstddef>

#include "exporter/api_json.h"

namespace tcpvitals {
namespace {

struct VitalsField {
  const char* name;
  std::size_t end;  // of the field in tcp_info: a kernel that returns less does not know it
  std::uint64_t (*value)(const ConnectionVitals& vitals);
};
#define FIELD(name, in_kernel)                                                    \
  VitalsField {                                                                   \
#name, offsetof(TcpInfo, in_kernel) + sizeof(TcpInfo::in_kernel),             \
        [](const ConnectionVitals& vitals) { return std::uint64_t{vitals.name}; } \
  }
constexpr VitalsField kFields[] = {
    FIELD(sent_bytes, bytes_sent),
    FIELD(received_bytes, bytes_received),
    FIELD(retransmitted_bytes, bytes_retransmitted),
    FIELD(data_segments_sent, data_segs_out),
    FIELD(retransmitted_segments, total_retrans),
    FIELD(spurious_retransmissions, dsack_dups),
    FIELD(retransmission_timeouts, total_rto),
};
#undef FIELD

Json connection(const ServerSnapshot& snapshot, const ConnectionReport& report) {
  constexpr double kMicro = 1e6;
  const ConnectionVitals& vitals = report.vitals;
  Json json = {{"id", report.id},
               {"listener", snapshot.listeners[report.listener].name},
               {"age_seconds", seconds(report.age)}};
  for (const VitalsField& field : kFields) {
    if (snapshot.tcp_info_length >= field.end) json[field.name] = field.value(vitals);
  }
  json["retransmit_ratio"] = vitals.retransmit_ratio();
  if (vitals.rtt_us != 0) json["rtt_seconds"] = vitals.rtt_us / kMicro;
  if (vitals.has_min_rtt()) json["min_rtt_seconds"] = vitals.min_rtt_us / kMicro;
  return json;
}

}  // namespace

std::string render_server_connections(const ServerSnapshot& snapshot) {
  Json listeners = Json::array();
  for (const ListenerReport& listener : snapshot.listeners) {
    listeners.push_back({{"name", listener.name},
                         {"connections", listener.statistics.live()},
                         {"limit", listener.gauges.limit},
                         {"accepted", listener.statistics.accepted}});
  }
  Json connections = Json::array();
  for (const ConnectionReport& report : snapshot.connections) {
    connections.push_back(connection(snapshot, report));
  }
  return to_line({{"version", kApiVersion},
                  {"listeners", std::move(listeners)},
                  {"returned", snapshot.connections.size()},
                  {"connections", std::move(connections)}});
}

}  // namespace tcpvitals
