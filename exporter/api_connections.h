// What /api/v1/connections is asked and what it answers. Pure, any thread.
#pragma once

#include <string>

#include "base/result.h"
#include "collectors/connections/search_request.h"
#include "exporter/query_string.h"

namespace tcpvitals {

// An error names the parameter, its value and what would be right.
Result<SearchRequest> parse_connection_query(const QueryParameters& parameters);

// A line of JSON.
std::string render_connections(const SearchResult& list);

}  // namespace tcpvitals
