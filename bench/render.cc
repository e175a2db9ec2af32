#include "exporter/render.h"

#include <fmt/format.h>
#include <prometheus/text_serializer.h>

#include <ctime>

#include "base/clock.h"
#include "bench/benches.h"
#include "bench/child.h"
#include "bench/table.h"

namespace tcpvitals::bench {
namespace {

constexpr std::size_t kFamilies = 100;
constexpr std::size_t kSamples = 1000;  // of each
constexpr int kRounds = 11;

// What a host with a thousand groups would serve: whole numbers, and seconds.
std::vector<prometheus::MetricFamily> families() {
  std::vector<prometheus::MetricFamily> families(kFamilies);
  for (std::size_t f = 0; f < kFamilies; ++f) {
    families[f].name = fmt::format("tcp_something_{}_total", f);
    families[f].help = "A sentence that says what the kernel's field is.";
    families[f].type = prometheus::MetricType::Counter;
    for (std::size_t i = 0; i < kSamples; ++i) {
      prometheus::ClientMetric metric;
      metric.label = {{"direction", i % 2 == 0 ? "inbound" : "outbound"},
                      {"port", std::to_string(1000 + i)},
                      {"peer", "private"}};
      const auto value = static_cast<double>(f * 7'919 + i * 104'729);
      metric.counter.value = f % 4 == 0 ? value / 1e6 : value;
      families[f].metric.push_back(std::move(metric));
    }
  }
  return families;
}

template <typename Render>
Cost timed(std::size_t& bytes, const Render& render) {
  const TimePoint start = Clock::now();
  const std::clock_t cpu = std::clock();
  bytes = render().size();
  return {seconds_since(start), static_cast<double>(std::clock() - cpu) / CLOCKS_PER_SEC};
}

}  // namespace

void bench_render() {
  const auto input = families();
  const Families shared(input.begin(), input.end());
  std::size_t theirs = 0;
  std::size_t ours = 0;
  std::vector<Contender> contenders{
      {"prometheus-cpp TextSerializer",
       [&] {
         return timed(theirs, [&] { return prometheus::TextSerializer().Serialize(input); });
       }},
      {"render_text", [&] { return timed(ours, [&] { return render_text(shared, ours); }); }}};
  run_rounds(contenders, kRounds);
  fmt::print("\n{} samples rendered as text: {} and {} bytes\n", kFamilies * kSamples, theirs,
             ours);
  print_table(contenders);
  for (const Contender& c : contenders) {
    fmt::print("     {:<55}{:>9.0f} ns a sample\n", c.name,
               best(c, &Cost::wall) * 1e9 / static_cast<double>(kFamilies * kSamples));
  }
}

}  // namespace tcpvitals::bench
