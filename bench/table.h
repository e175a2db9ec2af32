// Measuring in rounds, and the tables and targets the bench prints.
#pragma once

#include <functional>
#include <string>
#include <vector>

namespace tcpvitals::bench {

struct Cost {
  double wall = 0;  // seconds
  double cpu = 0;   // seconds
};

struct Contender {
  std::string name;
  std::function<Cost()> run;
  std::vector<Cost> costs{};  // one for each round
};

// Rounds of A B C, A B C ...: what else the machine does falls on all alike.
void run_rounds(std::vector<Contender>& contenders, int rounds);

double median(std::vector<double> values);

// The lowest of the rounds: what else the machine does can only add.
double best(const Contender& c, double Cost::*what);

// The median over the rounds of what c cost to what the baseline cost in the same round: what makes
// a whole round slow falls on both, and one round that was disturbed does not count.
double ratio(const Contender& c, const Contender& baseline, double Cost::*what);

// Medians, bests, and ratios to the first.
void print_table(const std::vector<Contender>& contenders);

// One line: a figure, what it is wished to be, and whether it is. A miss is told, it fails nothing.
enum class Wish { kAtMost, kAtLeast };
void print_target(const std::string& what, double figure, Wish wish, double target,
                  const std::string& unit = "");

}  // namespace tcpvitals::bench
