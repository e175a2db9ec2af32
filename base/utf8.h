// UTF-8, by the table of well-formed sequences in the Unicode standard: no overlong forms, no
// surrogates, nothing above U+10FFFF.
#pragma once

#include <cstddef>
#include <string_view>

namespace tcpvitals {

// Bytes of the character that `text` begins with; 0: that is not UTF-8, or there is none.
std::size_t utf8_length(std::string_view text);

}  // namespace tcpvitals
