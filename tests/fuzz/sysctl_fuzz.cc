#include "collectors/host/sysctl.h"
#include "tests/fuzz/fuzz_fields.h"

using namespace tcpvitals;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  for (const std::size_t count : {1U, 2U, 3U}) {
    const auto values = parse_sysctl(fuzz::text_of(data, size), count);
    if (values && values->size() != count) std::abort();
  }
  return 0;
}
