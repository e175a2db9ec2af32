// Any query string and any names: the query is understood or refused in one line of JSON, and what
// is answered is JSON whatever the names are.
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "exporter/api.h"
#include "exporter/api_connections.h"
#include "exporter/api_groups.h"

using namespace tcpvitals;

namespace {

void check_json(const std::string& line) {
  const auto json = nlohmann::json::parse(line, nullptr, false);
  if (!json.is_object() || json.value("version", 0) != 1) std::abort();
  if (line.find('\n') != line.size() - 1) std::abort();
}

SearchResult list_of(const std::string& text, std::span<const std::uint8_t> bytes) {
  FoundConnection connection;
  connection.direction = connection.port = connection.peer = connection.cgroup = text;
  connection.socket.congestion_control = connection.socket.upper_protocol = text;
  connection.socket.info = read_tcp_info(bytes.data(), bytes.size());
  return {{connection}, 1};
}

constexpr MetricDesc kMetrics[] = {{"tcp_connections",
                                    MetricType::kGauge,
                                    "",
                                    {"direction", "port", "peer", "cgroup", "netns", "state"}}};

std::vector<prometheus::MetricFamily> families_of(const std::string& text) {
  Sink sink(2);
  sink.add(kMetrics[0], {text, text.substr(text.size() / 2), "", "", "", text}, 1);
  sink.add(kMetrics[0], {text, text, text, text, text, "x"}, 0.5);
  return sink.take();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  static Scrape scrape({}, {});
  ApiSources sources;
  sources.find_connections = [&](const SearchRequest& query, TimePoint) {
    if (query.top < 1 || query.top > SearchRequest::kMaxTop) std::abort();
    return Result<SearchResult>(list_of(text, {data, size}));
  };
  const Api api(scrape, sources);
  check_json(api.connections(text, {}).body);
  check_json(api.connections("", {}).body);
  check_json(api.groups(text, {}).body);
  const auto families = families_of(text);
  check_json(render_groups({families.begin(), families.end()}, kMetrics));
  if (const auto refusal = refuse_remote(*parse_ip_address("127.0.0.1"), text, false))
    check_json(refusal->body);
  if (const auto client = parse_ip_address(text)) {
    if (const auto refusal = refuse_remote(*client, "localhost", false)) check_json(refusal->body);
  }
  return 0;
}
