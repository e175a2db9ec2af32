// What is measured: the agent as a program of its own, and its sampler within the bench; and what
// else reads sockets.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "bench/child.h"
#include "bench/table.h"
#include "collectors/connections/sampler.h"

namespace tcpvitals::bench {

// Wall time and CPU time of this thread.
Cost timed(const std::function<void()>& work);

struct Scraped {
  Cost cost;
  std::string body;
};

// One GET of /metrics; dies unless it is answered. The CPU is that of `server`.
Scraped scrape(const Child& server, std::uint16_t port);

// Of one series, named with its labels; dies if it is not there. With a default: what to take then.
double value_of(const std::string& body, const std::string& series);
double value_of(const std::string& body, const std::string& series, double otherwise);

// The agent, answering, whose every scrape takes a dump.
class Agent {
 public:
  enum class As { kSelf, kNobody };  // kNobody: uid 65534 without capabilities; takes root

  explicit Agent(std::vector<std::string> flags = {}, As as = As::kSelf);

  // A scrape with a dump of its own; dies if it was answered from an earlier one.
  Scraped scrape();

  double seconds_to_first_answer() const { return seconds_to_first_answer_; }
  const Child& process() const { return process_; }
  std::uint16_t port() const { return port_; }

 private:
  std::uint16_t port_;
  Child process_;
  double seconds_to_first_answer_;
  double samples_ = 0;
};

// With everything on that costs something, and a budget so large that every sample is a dump.
std::unique_ptr<Sampler> new_sampler(const Excludes& excludes = {}, std::size_t most = 262'144);

struct Sampled {
  Cost cost;
  std::shared_ptr<const Snapshot> snapshot;
};
Sampled sample(Sampler& sampler);

Cost run_ss();  // `ss -tinOaH`

inline double mib(std::size_t bytes) { return static_cast<double>(bytes) / (1 << 20); }

}  // namespace tcpvitals::bench
