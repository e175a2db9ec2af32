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

// Either an error that says something, or named numbers that no counter could be harmed by.
inline void check_fields(const Result<Fields>& fields) {
  if (!fields) {
    if (fields.error().message.empty()) std::abort();
    return;
  }
  for (const auto& [name, value] : *fields) {
    if (name.empty() || !std::isfinite(value) || value < 0) std::abort();
  }
}

}  // namespace tcpvitals::fuzz
