// UTF-8, by the table of well-formed sequences in the Unicode standard: no overlong forms, no
// surrogates, nothing above U+10FFFF.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace tcpvitals {

// Bytes of the character that `text` begins with; 0: that is not UTF-8, or there is none.
std::size_t utf8_length(std::string_view text);

// `bytes` with U+FFFD in place of each byte that is not UTF-8.
std::string to_utf8(std::string_view bytes);

}  // namespace tcpvitals
