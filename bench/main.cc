// tcpvitals_bench: what the agent costs, each figure beside its baseline in the same run. Prints
// tables; exit code 1 only if something could not be measured. Ends within three minutes.
#include <unistd.h>

#include <cstdio>

#include "base/log.h"
#include "bench/benches.h"

int main() {
  using namespace tcpvitals::bench;
  ::alarm(175);
  tcpvitals::configure_log(tcpvitals::LogLevel::kError, tcpvitals::LogFormat::kLogfmt);
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  bench_sockets();
  bench_events();
  bench_render();
}
