#include "bench/table.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <utility>

namespace tcpvitals::bench {
namespace {

std::vector<double> column(const Contender& c, double Cost::*what) {
  std::vector<double> values;
  for (const Cost& cost : c.costs) values.push_back(cost.*what);
  return values;
}

}  // namespace

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

void run_rounds(std::vector<Contender>& contenders, int rounds) {
  for (int i = 0; i < rounds; ++i) {
    for (Contender& c : contenders) c.costs.push_back(c.run());
  }
}

double best(const Contender& c, double Cost::*what) {
  const auto values = column(c, what);
  return *std::min_element(values.begin(), values.end());
}

double ratio(const Contender& c, const Contender& baseline, double Cost::*what) {
  std::vector<double> ratios;
  for (std::size_t i = 0; i < c.costs.size(); ++i) {
    ratios.push_back(c.costs[i].*what / baseline.costs[i].*what);
  }
  return median(std::move(ratios));
}

void print_table(const std::vector<Contender>& contenders) {
  fmt::print("{:<40}{:>18}{:>18}{:>16}\n", "", "wall ms", "CPU ms", "to the first");
  fmt::print("{:<40}{:>10}{:>8}{:>10}{:>8}{:>8}{:>8}\n", "", "median", "best", "median", "best",
             "wall", "CPU");
  for (const Contender& c : contenders) {
    fmt::print("{:<40}{:>10.1f}{:>8.1f}{:>10.1f}{:>8.1f}{:>8.2f}{:>8.2f}\n", c.name,
               median(column(c, &Cost::wall)) * 1e3, best(c, &Cost::wall) * 1e3,
               median(column(c, &Cost::cpu)) * 1e3, best(c, &Cost::cpu) * 1e3,
               ratio(c, contenders.front(), &Cost::wall), ratio(c, contenders.front(), &Cost::cpu));
  }
}

void print_target(const std::string& what, double figure, Wish wish, double target,
                  const std::string& unit) {
  const bool met = wish == Wish::kAtMost ? figure <= target : figure >= target;
  fmt::print("{:<5}{:<55}{:>9.2f}  {} {:.2f} {}\n", met ? "ok" : "MISS", what, figure,
             wish == Wish::kAtMost ? "<=" : ">=", target, unit);
}

}  // namespace tcpvitals::bench
