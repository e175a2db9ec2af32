#include "exporter/query_string.h"

#include <charconv>
#include <cstdint>

namespace tcpvitals {
namespace {

std::string decoded(std::string_view text) {
  std::string plain;
  plain.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    const std::string_view digits = text.substr(i + 1, 2);
    std::uint8_t byte = 0;
    if (text[i] == '%' && digits.size() == 2 &&
        std::from_chars(digits.data(), digits.data() + 2, byte, 16).ptr == digits.data() + 2) {
      plain += static_cast<char>(byte);
      i += 2;
    } else {
      plain += text[i] == '+' ? ' ' : text[i];
    }
  }
  return plain;
}

}  // namespace

QueryParameters parse_query_string(std::string_view query) {
  QueryParameters parameters;
  while (!query.empty()) {
    const std::string_view piece = query.substr(0, query.find('&'));
    query.remove_prefix(std::min(piece.size() + 1, query.size()));
    if (piece.empty()) continue;
    const auto equals = piece.find('=');
    parameters.emplace_back(
        decoded(piece.substr(0, equals)),
        decoded(equals == std::string_view::npos ? "" : piece.substr(equals + 1)));
  }
  return parameters;
}

}  // namespace tcpvitals
