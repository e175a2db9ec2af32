// tcpvitals_bench [PART...]: what the agent costs, each figure beside its baseline in the same run;
// all parts, or those that are named. Prints tables; exit code 1 only if something could not be
// measured. Ends within five minutes.
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <string_view>
#include <vector>

#include "base/log.h"
#include "bench/benches.h"
#include "bench/child.h"

int main(int argc, char** argv) {
  using namespace tcpvitals::bench;
  struct Part {
    std::string_view name;
    void (*run)();
  };
  constexpr Part kParts[] = {{"sockets", bench_sockets},
                             {"events", bench_events},
                             {"render", bench_render},
                             {"server", bench_server}};
  const std::vector<std::string_view> wanted(argv + 1, argv + argc);
  for (const std::string_view name : wanted) {
    if (std::none_of(std::begin(kParts), std::end(kParts),
                     [&](const Part& part) { return part.name == name; })) {
      die("no part " + std::string(name) + ": expected sockets, events, render or server");
    }
  }
  ::alarm(280);
  tcpvitals::configure_log(tcpvitals::LogLevel::kError, tcpvitals::LogFormat::kLogfmt);
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  for (const Part& part : kParts) {
    if (wanted.empty() || std::find(wanted.begin(), wanted.end(), part.name) != wanted.end()) {
      part.run();
    }
  }
}
