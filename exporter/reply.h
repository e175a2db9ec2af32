// The head of an HTTP reply, the same whoever answers.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace tcpvitals {

inline constexpr char kPlainText[] = "text/plain; charset=utf-8";

// With its empty line; nobody keeps the reply or guesses its type, and the connection ends after
// it. `headers`: further ones, each with its line end.
std::string reply_head(int status, std::string_view content_type, std::size_t content_length,
                       std::string_view headers = "");

}  // namespace tcpvitals
