#include "exporter/api_connections.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <iterator>
#include <optional>
#include <vector>

#include "exporter/api_json.h"

namespace tcpvitals {
namespace {

using Sort = SearchRequest::Sort;
constexpr std::array<std::pair<std::string_view, Sort>, 5> kSorts{
    {{"retransmits", Sort::kRetransmits},
     {"rtt", Sort::kRtt},
     {"bytes", Sort::kBytes},
     {"send_queue", Sort::kSendQueue},
     {"age", Sort::kAge}}};

// A listener is no connection.
constexpr std::array kStates{TcpState::kEstablished, TcpState::kSynSent,   TcpState::kSynReceived,
                             TcpState::kFinWait1,    TcpState::kFinWait2,  TcpState::kTimeWait,
                             TcpState::kClose,       TcpState::kCloseWait, TcpState::kLastAck,
                             TcpState::kClosing};

std::string names_of_states() {
  std::string names;
  for (const TcpState state : kStates) {
    if (!names.empty()) names += ", ";
    names += to_string(state);
  }
  return names;
}

// What a parameter may be; empty: `value` is it, and has been taken.
std::string take(std::string_view name, const std::string& value, SearchRequest& query) {
  if (name == "sort") {
    for (const auto& [word, sort] : kSorts) {
      if (value == word) return query.sort = sort, "";
    }
    return "retransmits, rtt, bytes, send_queue or age";
  }
  if (name == "top") {
    std::size_t top = 0;
    const char* end = value.data() + value.size();
    const auto parsed = std::from_chars(value.data(), end, top);
    if (parsed.ec == std::errc() && parsed.ptr == end && top >= 1 &&
        top <= SearchRequest::kMaxTop) {
      return query.top = top, "";
    }
    return fmt::format("a number from 1 to {}", SearchRequest::kMaxTop);
  }
  if (name == "direction") {
    if (value == "inbound" || value == "outbound") return query.direction = value, "";
    return "inbound or outbound";
  }
  if (name == "state") {
    for (const TcpState state : kStates) {
      if (value == to_string(state)) return query.state = state, "";
    }
    return "one of " + names_of_states();
  }
  if (value.empty()) return fmt::format("a value of the label {}", name);
  (name == "port" ? query.port : query.peer) = value;
  return "";
}

constexpr std::string_view kParameters[] = {"sort", "top", "direction", "port", "peer", "state"};

// A field of tcp_info under the name and in the unit in which it leaves.
struct InfoField {
  const char* name;
  std::size_t offset;
  std::size_t size;
  double divisor;  // to the base unit; 1: an integer stays one
};
#define FIELD(name, member, divisor) \
  InfoField { name, offsetof(TcpInfo, member), sizeof(TcpInfo::member), divisor }
constexpr double kMicro = 1e6;
constexpr double kMilli = 1e3;
constexpr InfoField kInfoFields[] = {
    FIELD("rto_seconds", rto_us, kMicro),
    FIELD("delayed_ack_seconds", ato_us, kMicro),
    FIELD("send_mss_bytes", snd_mss, 1),
    FIELD("receive_mss_bytes", rcv_mss, 1),
    FIELD("advertised_mss_bytes", advmss, 1),
    FIELD("path_mtu_bytes", pmtu, 1),
    FIELD("congestion_window_segments", snd_cwnd, 1),
    FIELD("send_window_bytes", snd_wnd, 1),
    FIELD("receive_window_bytes", rcv_wnd, 1),
    FIELD("receive_space_bytes", rcv_space, 1),
    FIELD("receive_slow_start_threshold_bytes", rcv_ssthresh, 1),
    FIELD("sent_bytes", bytes_sent, 1),
    FIELD("retransmitted_bytes", bytes_retransmitted, 1),
    FIELD("acknowledged_bytes", bytes_acked, 1),
    FIELD("received_bytes", bytes_received, 1),
    FIELD("unsent_bytes", notsent_bytes, 1),
    FIELD("segments_sent", segs_out, 1),
    FIELD("segments_received", segs_in, 1),
    FIELD("data_segments_sent", data_segs_out, 1),
    FIELD("data_segments_received", data_segs_in, 1),
    FIELD("retransmitted_segments", total_retrans, 1),
    FIELD("spurious_retransmissions", dsack_dups, 1),
    FIELD("retransmission_timeouts", total_rto, 1),
    FIELD("delivered_segments", delivered, 1),
    FIELD("ce_marked_segments", delivered_ce, 1),
    FIELD("reordering_events", reordering_seen, 1),
    FIELD("out_of_order_segments", rcv_ooopack, 1),
    FIELD("path_changes", rehash, 1),
    FIELD("unacknowledged_segments", unacked, 1),
    FIELD("sacked_segments", sacked, 1),
    FIELD("lost_segments", lost, 1),
    FIELD("retransmitted_segments_in_flight", retrans, 1),
    FIELD("reordering_segments", reordering, 1),
    FIELD("head_retransmits", retransmits, 1),
    FIELD("unanswered_probes", probes, 1),
    FIELD("backoff", backoff, 1),
    FIELD("busy_seconds", busy_us, kMicro),
    FIELD("receive_window_limited_seconds", receive_window_limited_us, kMicro),
    FIELD("send_buffer_limited_seconds", send_buffer_limited_us, kMicro),
    FIELD("since_data_sent_seconds", last_data_sent_ms, kMilli),
    FIELD("since_data_received_seconds", last_data_received_ms, kMilli),
    FIELD("since_ack_received_seconds", last_ack_received_ms, kMilli),
};
// Those that say nothing while they are zero, or at their highest.
constexpr InfoField kInfoFieldsIfKnown[] = {
    FIELD("rtt_seconds", rtt_us, kMicro),
    FIELD("rtt_deviation_seconds", rttvar_us, kMicro),
    FIELD("min_rtt_seconds", min_rtt_us, kMicro),
    FIELD("receive_rtt_seconds", rcv_rtt_us, kMicro),
    FIELD("slow_start_threshold_segments", snd_ssthresh, 1),
    FIELD("pacing_rate_bytes_per_second", pacing_rate, 1),
    FIELD("max_pacing_rate_bytes_per_second", max_pacing_rate, 1),
    FIELD("delivery_rate_bytes_per_second", delivery_rate, 1),
};
#undef FIELD
constexpr std::uint32_t kInfiniteThreshold = 0x7fffffff;  // TCP_INFINITE_SSTHRESH

std::uint64_t value_of(const TcpInfo& info, const InfoField& field) {
  std::uint64_t value = 0;  // little-endian, as all we run on
  std::memcpy(&value, reinterpret_cast<const std::byte*>(&info) + field.offset, field.size);
  return value;
}

bool is_unknown(std::uint64_t value, const InfoField& field) {
  if (value == 0 || value == ~std::uint64_t{0}) return true;
  return field.size == 4 && (value == kNoRtt || value == kInfiniteThreshold);
}

void put(Json& json, const InfoField& field, std::uint64_t value) {
  if (field.divisor == 1) {
    json[field.name] = value;
  } else {
    json[field.name] = static_cast<double>(value) / field.divisor;
  }
}

Json options_of(const TcpInfo& info) {
  constexpr std::pair<unsigned, const char*> kOptions[] = {
      {1, "timestamps"}, {2, "sack"},      {4, "window_scaling"},         {8, "ecn"},
      {16, "ecn_seen"},  {32, "syn_data"}, {64, "microsecond_timestamps"}};
  Json names = Json::array();
  for (const auto& [bit, name] : kOptions) {
    if ((info.options & bit) != 0) names.push_back(name);
  }
  return names;
}

void put_info(Json& json, const TcpInfoSample& sample) {
  constexpr const char* kCongestionStates[] = {"open", "disorder", "cwr", "recovery", "loss"};
  const TcpInfo& info = sample.info;
  if (TCPVITALS_HAS(sample, delivery_rate_flags)) {
    if (info.ca_state < std::size(kCongestionStates)) {
      json["congestion_state"] = kCongestionStates[info.ca_state];
    }
    json["options"] = options_of(info);
    if ((info.options & 4) != 0) {
      json["send_window_scale"] = info.wscale & 15;
      json["receive_window_scale"] = info.wscale >> 4;
    }
  }
  for (const InfoField& field : kInfoFieldsIfKnown) {
    const std::uint64_t value = value_of(info, field);
    if (sample.has(field.offset + field.size) && !is_unknown(value, field)) put(json, field, value);
  }
  if (TCPVITALS_HAS(sample, delivery_rate)) {
    json["delivery_rate_app_limited"] = (info.delivery_rate_flags & 1) != 0;
  }
  for (const InfoField& field : kInfoFields) {
    if (sample.has(field.offset + field.size)) put(json, field, value_of(info, field));
  }
}

Json json_of(const SocketDetail::Memory& memory) {
  return {{"receive_allocated_bytes", memory.receive_allocated},
          {"receive_buffer_bytes", memory.receive_buffer},
          {"send_allocated_bytes", memory.send_allocated},
          {"send_buffer_bytes", memory.send_buffer},
          {"forward_allocated_bytes", memory.forward_allocated},
          {"send_queued_bytes", memory.send_queued},
          {"options_bytes", memory.options},
          {"backlog_bytes", memory.backlog},
          {"dropped_packets", memory.drops}};
}

void put_timer(Json& json, const SocketDetail& socket) {
  constexpr const char* kTimers[] = {"off", "retransmit", "keepalive", "time_wait",
                                     "zero_window_probe"};
  if (socket.timer == SocketDetail::Timer::kOff) return;
  json["timer"] = {{"name", kTimers[static_cast<std::size_t>(socket.timer)]},
                   {"expires_seconds", static_cast<double>(socket.timer_expires.count()) / kMilli},
                   {"retransmits", socket.timer_retransmits}};
}

void put_congestion_control(Json& json, const SocketDetail& socket) {
  if (socket.congestion_control) json["congestion_control"] = *socket.congestion_control;
  if (const auto& bbr = socket.bbr) {
    json["bbr"] = {{"bandwidth_bytes_per_second", bbr->bandwidth},
                   {"min_rtt_seconds", bbr->min_rtt_us / kMicro},
                   {"pacing_gain", bbr->pacing_gain},
                   {"congestion_window_gain", bbr->cwnd_gain}};
  }
  if (const auto& dctcp = socket.dctcp) {
    json["dctcp"] = {{"ce_state", dctcp->ce_state},
                     {"alpha", dctcp->alpha},
                     {"ce_marked_bytes", dctcp->ecn_bytes},
                     {"acknowledged_bytes", dctcp->total_bytes}};
  }
}

template <typename T>
void put_if(Json& json, const char* name, const std::optional<T>& value) {
  if (value) json[name] = *value;
}

Json json_of(const Endpoint& endpoint) {
  return {{"address", to_string(endpoint.address)}, {"port", endpoint.port}};
}

void put_socket(Json& json, const SocketDetail& socket) {
  json["state"] = to_string(socket.state);
  json["local"] = json_of(socket.local);
  json["remote"] = json_of(socket.remote);
  json["cookie"] = fmt::format("{:x}", socket.cookie);  // 64 bits are too many for a JSON number
  json["receive_queue_bytes"] = socket.receive_queue_bytes;
  json["send_queue_bytes"] = socket.send_queue_bytes;
  json["uid"] = socket.uid;
  if (socket.inode != 0) json["inode"] = socket.inode;
  if (socket.interface != 0) json["interface_index"] = socket.interface;
  put_if(json, "cgroup_id", socket.cgroup_id);
  put_if(json, "mark", socket.mark);
  put_if(json, "class_id", socket.class_id);
  put_if(json, "tos", socket.tos);
  put_if(json, "traffic_class", socket.traffic_class);
  put_if(json, "v6only", socket.v6only);
  if (socket.shutdown) {
    json["receive_shutdown"] = (*socket.shutdown & 1) != 0;
    json["send_shutdown"] = (*socket.shutdown & 2) != 0;
  }
  put_timer(json, socket);
  if (socket.memory) json["memory"] = json_of(*socket.memory);
  put_if(json, "upper_protocol", socket.upper_protocol);
  put_congestion_control(json, socket);
  if (socket.info) put_info(json, *socket.info);
}

Json json_of(const FoundConnection& connection) {
  Json json = Json::object();
  const std::pair<const char*, const std::string&> labels[] = {{"direction", connection.direction},
                                                               {"port", connection.port},
                                                               {"peer", connection.peer},
                                                               {"cgroup", connection.cgroup},
                                                               {"netns", connection.netns}};
  for (const auto& [name, value] : labels) {
    if (!value.empty()) json[name] = value;
  }
  put_if(json, "age_seconds", connection.age_seconds);
  put_socket(json, connection.socket);
  return json;
}

}  // namespace

Result<SearchRequest> parse_connection_query(const QueryParameters& parameters) {
  SearchRequest query;
  std::vector<std::string_view> seen;
  for (const auto& [name, value] : parameters) {
    if (std::find(std::begin(kParameters), std::end(kParameters), name) == std::end(kParameters)) {
      return Error{fmt::format("unknown parameter \"{}\": expected one of {}", name,
                               fmt::join(kParameters, ", "))};
    }
    if (std::find(seen.begin(), seen.end(), name) != seen.end()) {
      return Error{fmt::format("{}=\"{}\": expected the parameter once", name, value)};
    }
    seen.push_back(name);
    const std::string expected = take(name, value, query);
    if (!expected.empty()) {
      return Error{fmt::format("{}=\"{}\": expected {}", name, value, expected)};
    }
  }
  return query;
}

std::string render_connections(const SearchResult& list) {
  // One by one: all of them as a document would take several times the memory of the text.
  std::string text = fmt::format(R"({{"version":{},"matched":{},"returned":{},"connections":[)",
                                 kApiVersion, list.matched, list.connections.size());
  for (const FoundConnection& connection : list.connections) {
    if (&connection != list.connections.data()) text += ',';
    text += to_text(json_of(connection));
  }
  return text += "]}\n";
}

}  // namespace tcpvitals
