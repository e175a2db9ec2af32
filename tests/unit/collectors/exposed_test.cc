#include "collectors/exposed.h"

#include <doctest/doctest.h>

#include <atomic>
#include <map>
#include <string>
#include <thread>

using namespace tcpvitals;

namespace {

constexpr MetricDesc kValue[] = {{"value", MetricType::kGauge, "A value.", {"of"}}};
constexpr MetricDesc kOther[] = {{"other", MetricType::kGauge, "Another.", {"of"}}};

class OneCollector final : public Collector {
 public:
  OneCollector(std::string name, Result<void> outcome, int series = 1,
               std::span<const MetricDesc> metrics = kValue)
      : name_(std::move(name)), outcome_(std::move(outcome)), series_(series), metrics_(metrics) {}

  std::string_view name() const override { return name_; }
  std::span<const MetricDesc> metrics() const override { return metrics_; }
  Result<void> collect(Sink& sink, TimePoint deadline) override {
    CHECK(deadline > Clock::now());
    CHECK_FALSE(busy_.exchange(true));
    for (int i = 0; i < series_; ++i) sink.add(metrics_[0], {std::to_string(i)}, i);
    busy_ = false;
    return outcome_;
  }

 private:
  const std::string name_;
  const Result<void> outcome_;
  const int series_;
  const std::span<const MetricDesc> metrics_;
  std::atomic<bool> busy_{false};
};

}  // namespace

TEST_CASE("a collector that fails costs its own metrics and is named") {
  OneCollector good("good", {});
  OneCollector absent("absent", Error::absent("not here"));
  OneCollector bad("bad", Error{"broken"});
  const auto families = ExposedCollectors({&bad, &absent, &good}).Collect();
  REQUIRE(families.size() == 4);
  CHECK(families[0].name == "value");
  CHECK(families[0].metric.size() == 1);
  REQUIRE(families[1].name == kCollectorSuccess.name);
  REQUIRE(families[1].metric.size() == 3);
  for (const auto& metric : families[1].metric) {
    CAPTURE(metric.label[0].value);
    CHECK(metric.gauge.value == (metric.label[0].value == "bad" ? 0 : 1));
  }
}

TEST_CASE("what a collector could not parse is counted") {
  class Odd final : public Collector {
   public:
    std::string_view name() const override { return "odd"; }
    std::span<const MetricDesc> metrics() const override { return kValue; }
    Result<void> collect(Sink& sink, TimePoint /*deadline*/) override {
      for (int i = 0; i < 2; ++i) sink.parse_errors().add("odd");
      return {};
    }
  } odd;
  OneCollector well("well", {});
  const ExposedCollectors exposed({&odd, &well});
  for (const double errors : {2, 4}) {
    std::map<std::string, double> told;
    for (const auto& family : exposed.Collect()) {
      if (family.name != kParseErrors.name) continue;
      for (const auto& metric : family.metric) {
        told[metric.label[0].value] = metric.counter.value;
      }
    }
    CHECK(told == std::map<std::string, double>{{"odd", errors}, {"well", 0}});
  }
}

TEST_CASE("what is exposed is bounded, collector by collector") {
  OneCollector many("many", {}, 100);
  OneCollector few("few", {}, 3, kOther);
  const auto families = ExposedCollectors({&many, &few}, {.max_series = 10}).Collect();
  REQUIRE(families.size() == 5);
  CHECK(families[0].metric.size() == 10);
  CHECK(families[1].metric.size() == 3);
}

TEST_CASE("a metric that is invalid, or of another collector already, is left out alone") {
  class Stutter final : public Collector {
   public:
    std::string_view name() const override { return "stutter"; }
    std::span<const MetricDesc> metrics() const override { return kOther; }
    Result<void> collect(Sink& sink, TimePoint) override {
      static constexpr MetricDesc kFine{"fine", MetricType::kGauge, "Fine.", {}};
      sink.add(kOther[0], {"a"}, 1);
      sink.add(kFine, 2);
      sink.add(kOther[0], {"a"}, 3);
      sink.add(kValue[0], {"a"}, 4);
      return {};
    }
  };
  OneCollector first("first", {});
  Stutter stutter;
  const ExposedCollectors exposed({&first, &stutter});
  for (const double total : {2, 4}) {
    const auto families = exposed.Collect();
    REQUIRE(families.size() == 5);
    CHECK(families[0].name == "value");
    CHECK(families[0].metric.size() == 1);
    CHECK(families[1].name == "fine");
    CHECK(families[2].name == kCollectorSuccess.name);
    for (const auto& metric : families[2].metric) CHECK(metric.gauge.value == 1);
    CHECK(families[3].name == kMetricsRejected.name);
    REQUIRE(families[3].metric.size() == 2);
    CHECK(families[3].metric[0].counter.value == 0);
    CHECK(families[3].metric[1].label[0].value == "stutter");
    CHECK(families[3].metric[1].counter.value == total);
  }
}

TEST_CASE("scrapes at once ask a collector one after the other") {
  OneCollector collector("one", {}, 100);
  const ExposedCollectors exposed({&collector});
  std::vector<std::thread> scrapers;
  for (int i = 0; i < 4; ++i) {
    scrapers.emplace_back([&] {
      for (int j = 0; j < 50; ++j) CHECK(exposed.Collect().size() == 4);
    });
  }
  for (std::thread& scraper : scrapers) scraper.join();
}
