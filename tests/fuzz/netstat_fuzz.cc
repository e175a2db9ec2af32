#include "collectors/host/netstat.h"
#include "tests/fuzz/fuzz_fields.h"

using namespace tcpvitals;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::check_fields(parse_netstat(fuzz::text_of(data, size)));
  return 0;
}
