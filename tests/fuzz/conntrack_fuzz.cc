#include "collectors/host/conntrack.h"
#include "tests/fuzz/fuzz_fields.h"

using namespace tcpvitals;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto [stat, errors] = parse_conntrack_stat(fuzz::text_of(data, size));
  fuzz::check_fields(stat.totals, errors);
  if (stat.cpus == 0 && !stat.totals.empty()) std::abort();
  return 0;
}
