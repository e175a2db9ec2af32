#include "collectors/host/proc_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstdint>

namespace tcpvitals {

Result<std::vector<std::string_view>> split_lines(std::string_view text) {
  if (text.empty()) return Error{"empty"};
  std::vector<std::string_view> lines;
  while (!text.empty()) {
    const std::size_t end = text.find('\n');
    if (end == std::string_view::npos)
      return line_error(lines.size() + 1, "cut off before its end");
    lines.push_back(text.substr(0, end));
    text.remove_prefix(end + 1);
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

Result<double> parse_number(std::string_view word, int base) {
  std::uint64_t number = 0;
  const char* const end = word.data() + word.size();
  const auto [stop, code] = std::from_chars(word.data(), end, number, base);
  if (code == std::errc::result_out_of_range) {
    return Error{fmt::format("\"{:.32}\" does not fit 64 bits", word)};
  }
  if (code != std::errc() || stop != end) {
    return Error{fmt::format("\"{:.32}\" is not a number", word)};
  }
  return static_cast<double>(number);
}

Error line_error(std::size_t line, std::string_view what) {
  return {fmt::format("line {}: {}", line, what)};
}

}  // namespace tcpvitals
