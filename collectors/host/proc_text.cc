#include "collectors/host/proc_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <utility>

namespace tcpvitals {
namespace {

template <typename Integer>
Result<double> parse_integer(std::string_view word, int base, std::string_view kind) {
  Integer number = 0;
  const char* const end = word.data() + word.size();
  const auto [stop, code] = std::from_chars(word.data(), end, number, base);
  if (code == std::errc::result_out_of_range) {
    return Error{fmt::format("\"{:.32}\" does not fit 64 bits", word)};
  }
  if (code != std::errc() || stop != end) {
    return Error{fmt::format("\"{:.32}\" is not a {}", word, kind)};
  }
  return static_cast<double>(number);
}

}  // namespace

std::vector<Line> split_lines(std::string_view text, ParseErrors& errors) {
  if (text.empty()) errors.add("empty");
  std::vector<Line> lines;
  for (std::size_t number = 1; !text.empty(); ++number) {
    const std::size_t end = text.find('\n');
    if (end == std::string_view::npos) {
      errors.add(at_line(number, "cut off before its end"));
      break;
    }
    auto words = split_words(text.substr(0, end));
    text.remove_prefix(end + 1);
    if (words.empty()) {
      errors.add(at_line(number, "blank"));
    } else {
      lines.push_back({number, std::move(words)});
    }
  }
  return lines;
}

std::vector<std::string_view> split_words(std::string_view line) {
  constexpr std::string_view kBlanks = " \t";
  std::vector<std::string_view> words;
  std::size_t begin = line.find_first_not_of(kBlanks);
  while (begin != std::string_view::npos) {
    const std::size_t end = std::min(line.find_first_of(kBlanks, begin), line.size());
    words.push_back(line.substr(begin, end - begin));
    begin = line.find_first_not_of(kBlanks, end);
  }
  return words;
}

Result<double> parse_count(std::string_view word, int base) {
  return parse_integer<std::uint64_t>(word, base, "count");
}

Result<double> parse_signed(std::string_view word) {
  return parse_integer<std::int64_t>(word, 10, "number");
}

std::string at_line(std::size_t line, std::string_view what) {
  return fmt::format("line {}: {}", line, what);
}

}  // namespace tcpvitals
