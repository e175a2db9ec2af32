#include "collectors/host/process.h"
#include "tests/fuzz/fuzz_fields.h"

using namespace tcpvitals;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text = fuzz::text_of(data, size);
  const ProcessStat stat = parse_process_stat(text).record;
  for (const auto& value :
       {stat.cpu_ticks, stat.threads, stat.start_ticks, stat.virtual_bytes, stat.resident_pages,
        parse_open_files_limit(text).record, parse_boot_time(text).record}) {
    if (value && *value < 0) std::abort();
  }
  return 0;
}
