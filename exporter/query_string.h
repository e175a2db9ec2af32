// The parameters of a URL's query string. Pure, any bytes.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace tcpvitals {

using QueryParameters = std::vector<std::pair<std::string, std::string>>;  // name, value

// "a=1&b=x%20y&c" in its order; a parameter without a value has an empty one. What is no valid
// escape stands for itself.
QueryParameters parse_query_string(std::string_view query);

}  // namespace tcpvitals
