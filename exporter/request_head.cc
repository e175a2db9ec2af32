#include "exporter/request_head.h"

#include <http_parser.h>

#include <algorithm>

namespace tcpvitals {

struct RequestHead::Parser {
  Parser() {
    http_parser_init(&http, HTTP_REQUEST);
    http.data = this;
    http_parser_settings_init(&settings);
    settings.on_headers_complete = on_complete;
  }

  // Not zero: the library goes no further.
  static int on_complete(http_parser* http) {
    auto& parser = *static_cast<Parser*>(http->data);
    constexpr int kStop = 3;
    parser.complete = true;
    const bool has_length = (http->flags & F_CONTENTLENGTH) != 0 && http->content_length > 0;
    parser.has_body = has_length || http->uses_transfer_encoding != 0;
    return kStop;
  }

  State state() const {
    if (!complete) return http.http_errno == HPE_OK ? State::kIncomplete : State::kMalformed;
    if (http.http_major != 1) return State::kMalformed;
    return has_body ? State::kHasBody : State::kComplete;
  }

  http_parser http;
  http_parser_settings settings;
  bool complete = false;
  bool has_body = false;
};

RequestHead::RequestHead() : parser_(std::make_unique<Parser>()) {}
RequestHead::~RequestHead() = default;

RequestHead::State RequestHead::take(std::string_view bytes) {
  if (state_ != State::kIncomplete || bytes.empty()) return state_;
  const std::string_view part = bytes.substr(0, kMaxBytes - text_.size());
  const std::size_t parsed =
      http_parser_execute(&parser_->http, &parser_->settings, part.data(), part.size());
  // The library stops at the head's last byte, before it has taken it.
  text_.append(part.substr(0, parser_->complete ? parsed + 1 : part.size()));
  state_ = parser_->state();
  if (state_ == State::kIncomplete && text_.size() == kMaxBytes) state_ = State::kTooLarge;
  return state_;
}

}  // namespace tcpvitals
