// RequestHead: the head of an HTTP/1 request, taken as it comes in, and judged before anything is
// done for it. http_parser judges; the bytes go on as they came.
//
// Bounds: kMaxBytes of memory, each byte parsed once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace tcpvitals {

class RequestHead {
 public:
  static constexpr std::size_t kMaxBytes = 8192;

  enum class State : std::uint8_t {
    kIncomplete,
    kComplete,
    kMalformed,
    kTooLarge,
    kHasBody,  // or says that one will come
  };

  RequestHead();
  ~RequestHead();
  RequestHead(const RequestHead&) = delete;
  RequestHead& operator=(const RequestHead&) = delete;

  // What follows the head is not taken. A state other than kIncomplete is final.
  State take(std::string_view bytes);

  State state() const { return state_; }
  // What was taken; of a complete head all of it, with its empty line.
  std::string_view text() const { return text_; }

 private:
  struct Parser;  // the library, which only request_head.cc knows

  std::unique_ptr<Parser> parser_;
  std::string text_;
  State state_ = State::kIncomplete;
};

}  // namespace tcpvitals
