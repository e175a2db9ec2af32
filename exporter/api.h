// The JSON API, version 1: single connections, those of the embedded server, and groups as /metrics
// has them. docs/api.md is its documentation.
//
// Every reply is one JSON object with "version": 1; one that failed has "error", a sentence for a
// person. Fields are in base units and bear the words of the metrics; one that is not known is left
// out. Further fields may come within a version.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "base/ip.h"
#include "base/result.h"
#include "collectors/connections/search_request.h"
#include "exporter/scrape.h"
#include "server/statistics.h"

namespace tcpvitals {

// Any thread. Blocks until `deadline` at most.
using FindConnections =
    std::function<Result<SearchResult>(const SearchRequest&, TimePoint deadline)>;

// Any thread; by `deadline`, or fails.
using ReadServer = std::function<Result<ServerSnapshot>(TimePoint deadline)>;

// Each may be empty: then there is none.
struct ApiSources {
  FindConnections find_connections;
  ReadServer read_server;
};

struct ApiReply {
  int status = 200;
  std::string body;  // JSON, a line
};

// Any thread; what is given must outlive it.
class Api {
 public:
  static constexpr char kConnections[] = "/api/v1/connections";
  static constexpr char kGroups[] = "/api/v1/groups";
  static constexpr char kServerConnections[] = "/api/v1/server/connections";

  Api(Scrape& scrape, ApiSources sources) : scrape_(scrape), sources_(std::move(sources)) {}

  ApiReply connections(std::string_view query, TimePoint deadline) const;
  ApiReply groups(std::string_view query, TimePoint deadline) const;
  ApiReply server_connections(std::string_view query, TimePoint deadline) const;

 private:
  Scrape& scrape_;
  ApiSources sources_;
};

// Whether proxies add a header of this name to what they pass on, each by its own custom.
bool is_proxy_header(std::string_view name);

// The reply to a client that may not use an API which answers on loopback only; nothing: it may.
// `host`: the Host header, which must be an address or localhost: else a web
// page could read the API through its visitor's browser, by a name of its own that points to
// 127.0.0.1. `forwarded`: a proxy passed the request on, for a client that may be anywhere.
std::optional<ApiReply> refuse_remote(const IpAddress& client, std::string_view host,
                                      bool forwarded);

}  // namespace tcpvitals
