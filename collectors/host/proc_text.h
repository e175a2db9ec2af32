// The pieces that the text files below /proc are made of: whole lines, words, numbers. Pure; any
// thread.
#pragma once

#include <cstddef>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace tcpvitals {

// The lines of `text`, without their newlines. The kernel ends every line with one, so a text that
// is empty or stops in the middle of a line was cut off, and is an error. The views point into
// `text`.
Result<std::vector<std::string_view>> split_lines(std::string_view text);

// What stands between blanks and tabs. The views point into `line`.
std::vector<std::string_view> split_words(std::string_view line);

// A whole word as one number without a sign that fits 64 bits: "12", in base 16 "00000a2f".
Result<double> parse_number(std::string_view word, int base = 10);

// `line 3: <what>`; lines count from 1.
Error line_error(std::size_t line, std::string_view what);

}  // namespace tcpvitals
