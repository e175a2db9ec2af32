// The text exposition format 0.0.4, written from prometheus-cpp's model.
#pragma once

#include <cstddef>
#include <string>

#include "exporter/family.h"

namespace tcpvitals {

inline constexpr char kTextContentType[] = "text/plain; version=0.0.4; charset=utf-8";

// Families and samples in the order given (a ScrapeResult is sorted), so equal input gives equal
// bytes. Cannot fail: HELP and label values are escaped, a byte that is not UTF-8 becomes U+FFFD.
// Numbers are the shortest that read back exactly; integers up to 2^53 carry no exponent.
// Timestamps are left out. `size_hint`: bytes to reserve, best the size of the last rendering.
std::string render_text(const Families& families, std::size_t size_hint = 0);

}  // namespace tcpvitals
