// Any bytes, read as a request's head: the verdict does not depend on how they are cut, is final,
// and a complete head is what it was taken from.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "exporter/request_head.h"

using namespace tcpvitals;

namespace {

void require(bool holds) {
  if (!holds) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  RequestHead whole;
  const auto state = whole.take(bytes);
  require(whole.text().size() <= RequestHead::kMaxBytes);
  require(bytes.starts_with(whole.text()));

  RequestHead cut;
  const std::size_t piece = size > 0 ? 1 + data[0] % 7 : 1;
  for (std::size_t i = 0; i < size; i += piece) cut.take(bytes.substr(i, piece));
  require(cut.state() == state);

  switch (state) {
    case RequestHead::State::kIncomplete:
      require(whole.text() == bytes && size < RequestHead::kMaxBytes);
      break;
    case RequestHead::State::kTooLarge:
      require(whole.text().size() == RequestHead::kMaxBytes);
      break;
    case RequestHead::State::kComplete: {
      require(cut.text() == whole.text());
      require(whole.text().ends_with('\n'));
      RequestHead again;
      require(again.take(whole.text()) == RequestHead::State::kComplete);
      break;
    }
    case RequestHead::State::kMalformed:
    case RequestHead::State::kHasBody:
      break;
  }
  require(whole.take("GET / HTTP/1.1\r\n\r\n") == state ||
          state == RequestHead::State::kIncomplete);
  return 0;
}
