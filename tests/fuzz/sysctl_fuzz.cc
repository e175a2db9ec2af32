#include "collectors/host/local_ports.h"
#include "collectors/host/sysctl.h"
#include "tests/fuzz/fuzz_fields.h"

using namespace tcpvitals;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  for (const std::size_t count : {1U, 2U, 3U}) {
    const auto values = parse_sysctl(fuzz::text_of(data, size), count).record;
    if (!values.empty() && values.size() != count) std::abort();
  }
  int last = -1;
  for (const PortRange& range : parse_port_list(fuzz::text_of(data, size)).record) {
    if (range.first <= last || range.last < range.first) std::abort();
    last = range.last;
  }
  return 0;
}
