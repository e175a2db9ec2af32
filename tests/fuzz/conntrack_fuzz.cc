#include "collectors/host/conntrack.h"
#include "tests/fuzz/fuzz_fields.h"

using namespace tcpvitals;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto stat = parse_conntrack_stat(fuzz::text_of(data, size));
  fuzz::check_fields(stat ? Result<Fields>(stat->totals) : stat.error());
  if (stat && stat->cpus == 0) std::abort();
  return 0;
}
