#include "collectors/exposed.h"

#include <doctest/doctest.h>

#include <atomic>
#include <thread>

using namespace tcpvitals;

namespace {

constexpr MetricDesc kValue[] = {{"value", MetricType::kGauge, "A value.", {"of"}}};

class OneCollector final : public Collector {
 public:
  OneCollector(std::string name, Result<void> outcome, int series = 1)
      : name_(std::move(name)), outcome_(std::move(outcome)), series_(series) {}

  std::string_view name() const override { return name_; }
  std::span<const MetricDesc> metrics() const override { return kValue; }
  Result<void> collect(Sink& sink, TimePoint deadline) override {
    CHECK(deadline > Clock::now());
    CHECK_FALSE(busy_.exchange(true));
    for (int i = 0; i < series_; ++i) sink.add(kValue[0], {std::to_string(i)}, i);
    busy_ = false;
    return outcome_;
  }

 private:
  const std::string name_;
  const Result<void> outcome_;
  const int series_;
  std::atomic<bool> busy_{false};
};

}  // namespace

TEST_CASE("a collector that fails costs its own metrics and is named") {
  OneCollector good("good", {});
  OneCollector absent("absent", Error::absent("not here"));
  OneCollector bad("bad", Error{"broken"});
  const auto families = ExposedCollectors({&bad, &absent, &good}).Collect();
  REQUIRE(families.size() == 2);
  CHECK(families[0].name == "value");
  CHECK(families[0].metric.size() == 1);
  REQUIRE(families[1].name == kCollectorSuccess.name);
  REQUIRE(families[1].metric.size() == 3);
  for (const auto& metric : families[1].metric) {
    CAPTURE(metric.label[0].value);
    CHECK(metric.gauge.value == (metric.label[0].value == "bad" ? 0 : 1));
  }
}

TEST_CASE("what is exposed is bounded, collector by collector") {
  OneCollector many("many", {}, 100);
  OneCollector few("few", {}, 3);
  const auto families = ExposedCollectors({&many, &few}, {.max_series = 10}).Collect();
  REQUIRE(families.size() == 3);
  CHECK(families[0].metric.size() == 10);
  CHECK(families[1].metric.size() == 3);
}

TEST_CASE("scrapes at once ask a collector one after the other") {
  OneCollector collector("one", {}, 100);
  const ExposedCollectors exposed({&collector});
  std::vector<std::thread> scrapers;
  for (int i = 0; i < 4; ++i) {
    scrapers.emplace_back([&] {
      for (int j = 0; j < 50; ++j) CHECK(exposed.Collect().size() == 2);
    });
  }
  for (std::thread& scraper : scrapers) scraper.join();
}
