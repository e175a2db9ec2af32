#include "bench/agent.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <utility>

#include "base/clock.h"
#include "bench/net.h"
#include "collectors/kernel_source.h"

namespace tcpvitals::bench {
namespace {

double thread_cpu_seconds() {
  timespec t{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}

// Several agents may run at once.
std::uint16_t next_port() {
  static std::uint16_t last = 19076;
  return ++last;
}

// A copy of the agent that everyone may execute; removed when the bench ends.
std::string program_for_everyone() {
  static const struct Copy {
    std::string directory = "/tmp/tcpvitals-bench-XXXXXX";
    Copy() {
      if (::mkdtemp(directory.data()) == nullptr) die("make " + directory);
      ::chmod(directory.c_str(), 0755);
      std::filesystem::copy(program_directory() + "/tcpvitals", directory);
    }
    ~Copy() { std::filesystem::remove_all(directory); }
  } copy;
  return copy.directory + "/tcpvitals";
}

std::vector<std::string> command(std::uint16_t port, std::vector<std::string> flags, Agent::As as) {
  std::vector<std::string> argv;
  if (as == Agent::As::kNobody) {
    argv = {"setpriv",         "--reuid=65534",       "--regid=65534",  "--clear-groups",
            "--inh-caps=-all", "--bounding-set=-all", "--no-new-privs", program_for_everyone()};
  } else {
    argv = {program_directory() + "/tcpvitals"};
  }
  argv.insert(argv.end(), {fmt::format("--web.listen-address=127.0.0.1:{}", port),
                           fmt::format("--server.listen-address=127.0.0.1:{}", port + 100),
                           "--connections.cpu-budget=1", "--log.level=error"});
  argv.insert(argv.end(), std::make_move_iterator(flags.begin()),
              std::make_move_iterator(flags.end()));
  return argv;
}

}  // namespace

Cost timed(const std::function<void()>& work) {
  const TimePoint start = Clock::now();
  const double cpu = thread_cpu_seconds();
  work();
  return {seconds_since(start), thread_cpu_seconds() - cpu};
}

Scraped scrape(const Child& server, std::uint16_t port) {
  const double cpu = server.cpu_seconds();
  const TimePoint start = Clock::now();
  HttpResponse response = http_get(port, "/metrics");
  const Cost cost{seconds_since(start), server.cpu_seconds() - cpu};
  if (response.status != 200) die(fmt::format("port {} answers {}", port, response.status));
  return {cost, std::move(response.body)};
}

double value_of(const std::string& body, const std::string& series, double otherwise) {
  const std::size_t line = body.find("\n" + series + " ");
  if (line == std::string::npos) return otherwise;
  return std::stod(body.substr(line + series.size() + 2));
}

double value_of(const std::string& body, const std::string& series) {
  if (body.find("\n" + series + " ") == std::string::npos) die("no " + series);
  return value_of(body, series, 0);
}

Agent::Agent(std::vector<std::string> flags, As as)
    : port_(next_port()), process_(command(port_, std::move(flags), as), Child::Output::kDiscard) {
  const TimePoint start = Clock::now();
  wait_until_served(port_, "/metrics");
  seconds_to_first_answer_ = seconds_since(start);
}

Scraped Agent::scrape() {
  Scraped scraped = bench::scrape(process_, port_);
  const double now = value_of(scraped.body, "tcpvitals_samples_total");
  if (now == samples_) die("a scrape was answered from an earlier sample");
  samples_ = now;
  return scraped;
}

std::unique_ptr<Sampler> new_sampler(const Excludes& excludes, std::size_t most) {
  auto sockets = open_diag_sockets(8 << 20);
  if (!sockets) die(sockets.error().message);
  ConnectionsConfig config{.group_by = {.cgroup = true},
                           .excludes = excludes,
                           .limits = {.connections = most},
                           .cpu_budget = 1e9};
  for (std::uint16_t i = 0; i < 100; ++i) {
    config.peers.push_back(
        {fmt::format("net{}", i % 50), *parse_ip_prefix(fmt::format("10.{}.0.0/16", i))});
    const auto port = static_cast<std::uint16_t>(1000 + i);
    config.ports.push_back({fmt::format("service{}", i), {port, port}});
  }
  static const ProcSource files("/proc");
  return std::make_unique<Sampler>(std::move(*sockets),
                                   SamplerOptions{.config = std::move(config), .files = &files});
}

Sampled sample(Sampler& sampler) {
  const TimePoint start = Clock::now();
  const auto result = sampler.sample(start + std::chrono::seconds(30));
  const double wall = seconds_since(start);
  if (!result) die("sample: " + result.error().message);
  return {{wall, (*result)->dump_cpu_seconds}, *result};
}

Cost run_ss() {
  const TimePoint start = Clock::now();
  Child ss({"ss", "-tinOaH"}, Child::Output::kDiscard);
  const double cpu = ss.wait();
  return {seconds_since(start), cpu};
}

}  // namespace tcpvitals::bench
