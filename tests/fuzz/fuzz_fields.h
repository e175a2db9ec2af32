// What every parser of Fields promises, whatever it is given.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "collectors/host/fields.h"

namespace tcpvitals::fuzz {

inline std::string_view text_of(const std::uint8_t* data, std::size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

// Named numbers that no counter could be harmed by, and for what is missing an error in words.
inline void check_fields(const Fields& fields, const ParseErrors& errors) {
  if ((errors.count == 0) != errors.first.empty()) std::abort();
  for (const auto& [name, value] : fields) {
    if (name.empty() || !std::isfinite(value) || value < 0) std::abort();
  }
}
inline void check_fields(const Parsed<Fields>& parsed) {
  check_fields(parsed.record, parsed.errors);
}

}  // namespace tcpvitals::fuzz
