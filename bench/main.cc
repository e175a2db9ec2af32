// tcpvitals_bench [PART...]: what the agent costs, each figure beside its baseline in the same run;
// all parts that every machine can run, or those that are named. Prints tables; exit code 1 only if
// something could not be measured. Ends within five minutes.
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
    bool only_if_named = false;
  };
  constexpr Part kParts[] = {
      {"sockets", bench_sockets},      {"events", bench_events},
      {"render", bench_render},        {"server", bench_server},
      {"churn", bench_churn, true},    {"namespaces", bench_namespaces, true},
      {"million", bench_million, true}};
  const std::vector<std::string_view> wanted(argv + 1, argv + argc);
  for (const std::string_view name : wanted) {
    if (std::none_of(std::begin(kParts), std::end(kParts),
                     [&](const Part& part) { return part.name == name; })) {
      die("no part " + std::string(name) +
          ": expected sockets, events, render, server, churn, namespaces or million");
    }
  }
  ::alarm(280);
  tcpvitals::configure_log(tcpvitals::LogLevel::kError, tcpvitals::LogFormat::kLogfmt);
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  for (const Part& part : kParts) {
    const bool named = std::find(wanted.begin(), wanted.end(), part.name) != wanted.end();
    if (named || (wanted.empty() && !part.only_if_named)) part.run();
  }
}
