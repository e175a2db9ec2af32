#include "collectors/host/process.h"
#include "tests/fuzz/fuzz_fields.h"

using namespace tcpvitals;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text = fuzz::text_of(data, size);
  const auto stat = parse_process_stat(text);
  if (stat && (stat->cpu_ticks < 0 || stat->resident_pages < 0)) std::abort();
  const auto limit = parse_open_files_limit(text);
  if (limit && *limit && **limit < 0) std::abort();
  const auto boot_time = parse_boot_time(text);
  if (boot_time && *boot_time < 0) std::abort();
  return 0;
}
