// JSON as the API writes it. Only api*.cc include this: the library stays behind it.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace tcpvitals {

using Json = nlohmann::ordered_json;

inline constexpr int kApiVersion = 1;

// Bytes that are not UTF-8 become U+FFFD.
inline std::string to_text(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}
inline std::string to_line(const Json& json) { return to_text(json) + "\n"; }

}  // namespace tcpvitals
