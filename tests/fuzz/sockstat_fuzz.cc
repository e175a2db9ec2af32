#include "collectors/host/sockstat.h"
#include "tests/fuzz/fuzz_fields.h"

using namespace tcpvitals;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::check_fields(parse_sockstat(fuzz::text_of(data, size), "TCP"));
  fuzz::check_fields(parse_sockstat(fuzz::text_of(data, size), "TCP6"));
  return 0;
}
