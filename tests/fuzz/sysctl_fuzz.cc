#include "collectors/host/sysctl.h"
#include "tests/fuzz/fuzz_fields.h"

using namespace tcpvitals;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  for (const std::size_t count : {1U, 2U, 3U}) {
    const auto values = parse_sysctl(fuzz::text_of(data, size), count).record;
    if (!values.empty() && values.size() != count) std::abort();
  }
  for (const PortSpan& span : parse_port_list(fuzz::text_of(data, size)).record) {
    if (span.first < 0 || span.last < 0) std::abort();
  }
  return 0;
}
