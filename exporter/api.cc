#include "exporter/api.h"

#include <fmt/format.h>
#include <strings.h>

#include <algorithm>
#include <iterator>

#include "exporter/api_connections.h"
#include "exporter/api_groups.h"
#include "exporter/api_json.h"
#include "exporter/api_server.h"
#include "exporter/query_string.h"

namespace tcpvitals {
namespace {

constexpr char kCollector[] = "connections";

ApiReply error(int status, std::string_view message) {
  return {status, to_line({{"version", kApiVersion}, {"error", message}})};
}

std::optional<ApiReply> refuse_parameters(std::string_view query) {
  for (const auto& [name, value] : parse_query_string(query)) {
    return error(400, fmt::format("unknown parameter \"{}\": expected none", name));
  }
  return std::nullopt;
}

}  // namespace

ApiReply Api::connections(std::string_view query, TimePoint deadline) const {
  const auto asked = parse_connection_query(parse_query_string(query));
  if (!asked) return error(400, asked.error().message);
  if (!sources_.find_connections) return error(503, "the connections collector is not started");
  const auto found = sources_.find_connections(*asked, deadline);
  if (!found) return error(503, found.error().message);
  return {200, render_connections(*found)};
}

ApiReply Api::server_connections(std::string_view query, TimePoint deadline) const {
  if (auto refusal = refuse_parameters(query)) return *refusal;
  if (!sources_.read_server) return error(503, "the embedded server is not started");
  const auto snapshot = sources_.read_server(deadline);
  if (!snapshot) return error(503, snapshot.error().message);
  return {200, render_server_connections(*snapshot)};
}

ApiReply Api::groups(std::string_view query, TimePoint deadline) const {
  if (auto refusal = refuse_parameters(query)) return *refusal;
  const std::string collector[] = {kCollector};
  const auto selection = scrape_.select(collector, {});
  if (!selection) return error(503, "the connections collector is not started");
  const ScrapeResult scraped = scrape_.run(deadline, *selection);
  for (const CollectorReport& report : scraped.reports) {
    if (report.outcome != CollectorReport::Outcome::kOk) return error(503, report.message);
  }
  return {200, render_groups(scraped.families, scrape_.metrics_of(kCollector))};
}

bool is_proxy_header(std::string_view name) {
  constexpr std::string_view kForwarded = "x-forwarded";  // -For, -Host, -Proto and others
  constexpr std::string_view kNames[] = {
      "forwarded", "via", "x-real-ip", "client-ip", "true-client-ip", "cf-connecting-ip"};
  const auto same = [](std::string_view a, std::string_view b) {
    return a.size() == b.size() && ::strncasecmp(a.data(), b.data(), a.size()) == 0;
  };
  return same(name.substr(0, kForwarded.size()), kForwarded) ||
         std::any_of(std::begin(kNames), std::end(kNames),
                     [&](std::string_view known) { return same(name, known); });
}

std::optional<ApiReply> refuse_remote(const IpAddress& client, std::string_view host,
                                      bool forwarded) {
  static const IpPrefix kLoopback[] = {*parse_ip_prefix("127.0.0.0/8"), *parse_ip_prefix("::1")};
  constexpr std::string_view kHow = "--web.api-remote opens the API to all who reach this port";
  if (std::none_of(std::begin(kLoopback), std::end(kLoopback),
                   [&](const IpPrefix& p) { return p.contains(client); })) {
    return error(
        403, fmt::format("not from {}: the API answers on loopback; {}", to_string(client), kHow));
  }
  if (forwarded) {
    return error(403, fmt::format("not through a proxy: the API answers on loopback; {}", kHow));
  }
  std::string_view name = host.ends_with(']') ? host : host.substr(0, host.rfind(':'));
  if (name.starts_with('[') && name.ends_with(']')) name = name.substr(1, name.size() - 2);
  if (name == "localhost" || parse_ip_address(name)) return std::nullopt;
  return error(403, fmt::format("host \"{}\": expected an address or localhost; {}", host, kHow));
}

}  // namespace tcpvitals
