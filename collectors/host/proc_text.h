// The pieces that the text files below /proc are made of: whole lines, words, numbers. Pure; any
// thread.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "collectors/parse_errors.h"

namespace tcpvitals {

struct Line {
  std::size_t number = 0;  // from 1
  std::vector<std::string_view> words;
};

// The lines of `text` that have words. The kernel ends every line with a newline, so a last line
// without one was cut off, and is left out; that, a blank line and an empty text are errors. The
// views point into `text`.
std::vector<Line> split_lines(std::string_view text, ParseErrors& errors);

// What stands between blanks and tabs. The views point into `line`.
std::vector<std::string_view> split_words(std::string_view line);

// A whole word as a number without a sign that fits 64 bits: "12", in base 16 "00000a2f".
Result<double> parse_count(std::string_view word, int base = 10);

// A whole word as a number that fits 64 bits with its sign: "-1".
Result<double> parse_signed(std::string_view word);

// `line 3: <what>`.
std::string at_line(std::size_t line, std::string_view what);

}  // namespace tcpvitals
