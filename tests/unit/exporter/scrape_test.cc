#include "exporter/scrape.h"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <atomic>
#include <functional>
#include <future>
#include <sstream>
#include <stdexcept>
#include <thread>

#include "exporter/outcome_log.h"
#include "exporter/render.h"

using namespace tcpvitals;
using namespace std::chrono_literals;
using Outcome = CollectorReport::Outcome;

namespace {

constexpr MetricDesc kOne{"test_one", MetricType::kGauge, "One.", {"key"}};
constexpr MetricDesc kTwo{"test_two", MetricType::kGauge, "Two.", {"key"}};

constexpr MetricDesc kThree{"test_three", MetricType::kGauge, "Three.", {"key"}};
constexpr MetricDesc kHistogram{"test_seconds", MetricType::kHistogram, "Four.", {"key"}};
constexpr double kBounds[] = {0.00005, 0.001, 10};
constexpr std::uint64_t kCounts[] = {1, 20, 300, 4000};

// A collector that does what the test says.
class Fake final : public Collector {
 public:
  using Body = std::function<Result<void>(Sink&, TimePoint)>;
  Fake(std::string name, Body body) : name_(std::move(name)), body_(std::move(body)) {}

  std::string_view name() const override { return name_; }
  std::span<const MetricDesc> metrics() const override { return {}; }
  Result<void> collect(Sink& sink, TimePoint deadline) override { return body_(sink, deadline); }

 private:
  std::string name_;
  Body body_;
};

Fake::Body emits(const MetricDesc& desc, const std::vector<std::string>& keys = {"a"}) {
  return [&desc, keys](Sink& sink, TimePoint) -> Result<void> {
    for (const std::string& key : keys) sink.add(desc, {key}, 1);
    return {};
  };
}

// Holds a collector until the test opens it.
class Gate {
 public:
  void open() { promise_.set_value(); }
  void wait() const { future_.wait(); }

 private:
  std::promise<void> promise_;
  std::shared_future<void> future_ = promise_.get_future().share();
};

// Counts its runs, each of which lasts until the gate opens.
Fake::Body gated(const Gate& gate, std::atomic<int>& runs) {
  return [&gate, &runs](Sink&, TimePoint) -> Result<void> {
    ++runs;
    gate.wait();
    return {};
  };
}

std::vector<Collector*> pointers(std::vector<Fake>& fakes) {
  std::vector<Collector*> result;
  result.reserve(fakes.size());
  for (Fake& f : fakes) result.push_back(&f);
  return result;
}

const CollectorReport& report_of(const ScrapeResult& result, std::string_view name) {
  for (const CollectorReport& r : result.reports) {
    if (r.collector == name) return r;
  }
  FAIL("no report of " << name);
  std::abort();
}

bool has(const ScrapeResult& result, std::string_view line) {
  return render_text(result.families).find("\n" + std::string(line)) != std::string::npos;
}

TimePoint soon() { return Clock::now() + 5s; }

}  // namespace

TEST_CASE("a collector is ok, absent or failed, and each shows in the metrics") {
  std::vector<Fake> fakes;
  fakes.emplace_back("good", emits(kOne));
  fakes.emplace_back("gone", [](Sink& sink, TimePoint) -> Result<void> {
    sink.add(kTwo, {"partial"}, 1);
    return Error::absent("no such file");
  });
  fakes.emplace_back("bad", [](Sink& sink, TimePoint) -> Result<void> {
    sink.add(kTwo, {"partial"}, 1);
    return Error{"line 3: nonsense"};
  });
  fakes.emplace_back("thrower", [](Sink& sink, TimePoint) -> Result<void> {
    sink.add(kTwo, {"partial"}, 1);
    throw std::runtime_error("out of luck");
  });
  Scrape scrape(pointers(fakes), {.version = "1.2.3"});
  const ScrapeResult result = scrape.run(soon());

  CHECK(has(result, "tcpvitals_build_info{version=\"1.2.3\"} 1\n"));
  CHECK(has(result, "test_one{key=\"a\"} 1\n"));
  CHECK_FALSE(has(result, "test_two"));  // what came before an error is not served
  const struct {
    const char* name;
    Outcome outcome;
    const char* message;
    const char* success;
    const char* available;
    const char* series;
  } kTable[] = {
      {"good", Outcome::kOk, "", "1", "1", "1"},
      {"gone", Outcome::kAbsent, "no such file", "1", "0", "0"},
      {"bad", Outcome::kFailed, "line 3: nonsense", "0", "1", "0"},
      {"thrower", Outcome::kFailed, "exception: out of luck", "0", "1", "0"},
  };
  for (const auto& row : kTable) {
    CAPTURE(row.name);
    CHECK(report_of(result, row.name).outcome == row.outcome);
    CHECK(report_of(result, row.name).message == row.message);
    const auto value = [&](const std::string& metric, const std::string& v) {
      return has(result, fmt::format("{}{{collector=\"{}\"}} {}\n", metric, row.name, v));
    };
    CHECK(value("tcpvitals_collector_success", row.success));
    CHECK(value("tcpvitals_collector_available", row.available));
    CHECK(value("tcpvitals_series", row.series));
    CHECK(value("tcpvitals_series_dropped_total", "0"));
  }
}

TEST_CASE(
    "one collector that hangs holds the scrape no longer than its deadline, and later ones not at "
    "all") {
  Gate gate;
  std::atomic<int> runs = 0;
  std::vector<Fake> fakes;
  fakes.emplace_back("good", emits(kOne));
  fakes.emplace_back("stuck", [&](Sink& sink, TimePoint) -> Result<void> {
    ++runs;
    gate.wait();
    sink.add(kTwo, {"late"}, 1);
    return {};
  });
  Scrape scrape(pointers(fakes), {.version = "0", .max_run = 50ms});

  // On a busy machine the collector's thread may not even have begun in that time.
  TimePoint start;
  ScrapeResult first;
  do {
    start = Clock::now();
    first = scrape.run(start + 50ms);
  } while (runs == 0);
  CHECK(Clock::now() >= start + 50ms);
  CHECK(report_of(first, "good").outcome == Outcome::kOk);
  CHECK(report_of(first, "stuck").outcome == Outcome::kFailed);
  CHECK(report_of(first, "stuck").message == "no answer within 0.05 s");

  std::this_thread::sleep_for(50ms);                          // then it has run for so long
  const ScrapeResult second = scrape.run(Clock::now() + 1h);  // returns, so it did not wait
  CHECK(report_of(second, "good").outcome == Outcome::kOk);
  CHECK(report_of(second, "stuck").message == "hangs: busy for 0 s with an earlier scrape");
  CHECK(runs == 1);
  CHECK_FALSE(scrape.wait_idle(Clock::now()));

  gate.open();
  REQUIRE(scrape.wait_idle(soon()));
  const ScrapeResult third = scrape.run(soon());
  CHECK(report_of(third, "stuck").outcome == Outcome::kOk);
  CHECK(runs == 2);
}

TEST_CASE("a scrape that gave up in the queue is not run later") {
  Gate gate;
  std::atomic<int> runs = 0;
  std::vector<Fake> fakes;
  fakes.emplace_back("slow", gated(gate, runs));
  Scrape scrape(pointers(fakes), {.version = "0"});
  auto patient = std::async(std::launch::async, [&] { return scrape.run(Clock::now() + 1min); });
  while (runs == 0) std::this_thread::yield();
  const ScrapeResult hasty = scrape.run(Clock::now() + 10ms);
  CHECK(report_of(hasty, "slow").outcome == Outcome::kFailed);
  gate.open();
  CHECK(report_of(patient.get(), "slow").outcome == Outcome::kOk);
  REQUIRE(scrape.wait_idle(soon()));
  CHECK(runs == 1);
}

TEST_CASE("a scrape waits in its own time for a collector that a hasty scrape left busy") {
  Gate gate;
  std::atomic<int> runs = 0;
  std::vector<Fake> fakes;
  fakes.emplace_back("slow", gated(gate, runs));
  Scrape scrape(pointers(fakes), {.version = "0", .max_run = 24h});
  while (runs == 0) scrape.run(Clock::now() + 1ms);
  auto patient = std::async(std::launch::async, [&] { return scrape.run(Clock::now() + 1h); });
  CHECK(patient.wait_for(50ms) == std::future_status::timeout);
  gate.open();
  CHECK(report_of(patient.get(), "slow").outcome == Outcome::kOk);
}

TEST_CASE("one run answers all scrapes that wait for it, in the time of the most patient") {
  Gate gate;
  std::atomic<int> asked = 0;
  std::atomic<int> runs = 0;
  std::vector<TimePoint> deadlines;
  std::vector<Fake> fakes;
  fakes.emplace_back("slow", [&](Sink& sink, TimePoint deadline) -> Result<void> {
    deadlines.push_back(deadline);
    ++runs;
    gate.wait();
    sink.add(kOne, {"a"}, 1);
    return {};
  });
  fakes.emplace_back("quick", [&](Sink&, TimePoint) -> Result<void> {
    ++asked;
    return {};
  });
  Scrape scrape(pointers(fakes), {.version = "0", .max_run = 2h});
  const TimePoint start = Clock::now();
  std::vector<std::future<ScrapeResult>> scrapes;
  // The first occupies the collector; when `quick` has run, both collectors have been asked.
  for (const auto patience : {60min, 50min, 90min, 70min}) {
    const int before = asked;
    scrapes.push_back(
        std::async(std::launch::async, [&, patience] { return scrape.run(start + patience); }));
    while (asked == before || runs == 0) std::this_thread::yield();
  }
  gate.open();
  for (auto& one : scrapes) {
    const ScrapeResult result = one.get();
    CHECK(report_of(result, "slow").outcome == Outcome::kOk);
    CHECK(has(result, "test_one{key=\"a\"} 1\n"));
  }
  CHECK(runs == 2);
  CHECK(deadlines == std::vector<TimePoint>{start + 60min, start + 90min});
}

TEST_CASE("no collector is given longer than max_run") {
  std::vector<Fake> fakes;
  TimePoint given;
  fakes.emplace_back("one", [&](Sink&, TimePoint deadline) -> Result<void> {
    given = deadline;
    return {};
  });
  Scrape scrape(pointers(fakes), {.version = "0", .max_run = 1min});
  scrape.run(Clock::now() + 1h);
  CHECK(given <= Clock::now() + 1min);
}

TEST_CASE("the log tells that a collector fails once a minute at most, and that it works again") {
  const TimePoint start = Clock::now();
  const struct {
    Outcome outcome;
    Clock::duration after;
    bool told;
  } kTable[] = {
      {Outcome::kOk, 0s, false},      {Outcome::kFailed, 1s, true},  {Outcome::kFailed, 2s, false},
      {Outcome::kOk, 3s, true},       {Outcome::kFailed, 4s, false}, {Outcome::kOk, 5s, false},
      {Outcome::kAbsent, 60s, false}, {Outcome::kAbsent, 61s, true}, {Outcome::kFailed, 62s, false},
      {Outcome::kFailed, 121s, true}, {Outcome::kOk, 122s, true},    {Outcome::kOk, 300s, false},
      {Outcome::kFailed, 300s, true},
  };
  OutcomeLog log;
  for (const auto& row : kTable) {
    CAPTURE(seconds(row.after));
    CHECK(log.tells(row.outcome, start + row.after) == row.told);
  }
}

TEST_CASE("collectors run beside each other, and one of them never beside itself") {
  Gate both;
  std::atomic<int> waiting = 0;
  const auto meet = [&](Sink&, TimePoint) -> Result<void> {
    if (++waiting == 2) both.open();
    both.wait();  // passes only when the other collector is here too
    return {};
  };
  std::atomic<int> inside = 0;
  std::atomic<bool> overlapped = false;
  std::vector<Fake> fakes;
  fakes.emplace_back("left", meet);
  fakes.emplace_back("right", meet);
  fakes.emplace_back("alone", [&](Sink& sink, TimePoint) -> Result<void> {
    if (++inside != 1) overlapped = true;
    std::this_thread::sleep_for(1ms);
    --inside;
    sink.add(kOne, {"a"}, 1);
    return {};
  });
  Scrape scrape(pointers(fakes), {.version = "0"});
  CHECK(report_of(scrape.run(soon()), "right").outcome == Outcome::kOk);
  const auto alone = *scrape.select(std::vector<std::string>{"alone"}, {});
  std::vector<std::future<ScrapeResult>> many;
  many.reserve(16);
  for (int i = 0; i < 16; ++i) {
    many.push_back(std::async(std::launch::async, [&] { return scrape.run(soon(), alone); }));
  }
  for (auto& f : many) CHECK(has(f.get(), "test_one{key=\"a\"} 1\n"));
  CHECK_FALSE(overlapped);
}

TEST_CASE("families and samples are sorted, whatever the order of emission") {
  std::vector<Fake> fakes;
  fakes.emplace_back("b", emits(kTwo, {"z", "a", "m"}));
  fakes.emplace_back("a", emits(kOne, {"2", "10", "1"}));
  Scrape scrape(pointers(fakes), {.version = "0"});
  const ScrapeResult result = scrape.run(soon());
  std::vector<std::string> names;
  for (const Family& f : result.families) names.push_back(f->name);
  CHECK(std::is_sorted(names.begin(), names.end()));
  const std::string text = render_text(result.families);
  CHECK(text.find("tcpvitals_series{collector=\"a\"} 3\ntcpvitals_series{collector=\"b\"} 3\n") !=
        std::string::npos);
  CHECK(text.find("test_one{key=\"1\"} 1\ntest_one{key=\"10\"} 1\ntest_one{key=\"2\"} 1\n") !=
        std::string::npos);
  CHECK(text.find("test_two{key=\"a\"} 1\ntest_two{key=\"m\"} 1\ntest_two{key=\"z\"} 1\n") !=
        std::string::npos);
}

TEST_CASE("a metric that cannot be served costs itself, never its collector") {
  static constexpr MetricDesc kNoName{"9 lives\n", MetricType::kGauge, "No.", {"key"}};
  static constexpr MetricDesc kNoLabel{"test_label", MetricType::kGauge, "No.", {"a-b"}};
  static constexpr MetricDesc kCounter{"test_two", MetricType::kCounter, "Two.", {"key"}};
  const struct {
    const char* what;
    Fake::Body emits;
    const char* rejected;
  } kTable[] = {
      {"a series twice", emits(kTwo, {"a", "b", "a"}), "test_two: one series twice: key=\"a\""},
      {"a series twice once it is UTF-8", emits(kTwo, {"\xff", "\xfe"}),
       "test_two: one series twice: key=\"\xEF\xBF\xBD\""},
      {"a wrong name", emits(kNoName), "9 lives\n: not a metric name"},
      {"a wrong label", emits(kNoLabel), "test_label: not a label name: \"a-b\""},
      {"too few label values",
       [](Sink& sink, TimePoint) -> Result<void> {
         sink.add(kTwo, {"a"}, 1);
         sink.add(kTwo, 2);
         return {};
       },
       "test_two: a sample with 0 label values, where 1 belong"},
      {"too many label values",
       [](Sink& sink, TimePoint) -> Result<void> {
         sink.add(kTwo, {"a", "b"}, 2);
         return {};
       },
       "test_two: a sample with 2 label values, where 1 belong"},
      {"two descriptions",
       [](Sink& sink, TimePoint) -> Result<void> {
         sink.add(kTwo, {"a"}, 1);
         sink.add(kCounter, {"b"}, 1);
         return {};
       },
       "test_two: two descriptions of one name"},
  };
  for (const auto& row : kTable) {
    CAPTURE(row.what);
    std::vector<Fake> fakes;
    fakes.emplace_back("mixed", [&](Sink& sink, TimePoint deadline) -> Result<void> {
      sink.add(kOne, {"before"}, 1);
      auto emitted = row.emits(sink, deadline);
      sink.add(kThree, {"after"}, 1);
      return emitted;
    });
    Scrape scrape(pointers(fakes), {.version = "0"});
    for (const char* total : {"1\n", "2\n"}) {
      const ScrapeResult result = scrape.run(soon());
      CHECK(report_of(result, "mixed").outcome == Outcome::kOk);
      CHECK(report_of(result, "mixed").rejected == std::vector<std::string>{row.rejected});
      CHECK(has(result, "test_one{key=\"before\"} 1\n"));
      CHECK(has(result, "test_three{key=\"after\"} 1\n"));
      CHECK(has(result, "tcpvitals_series{collector=\"mixed\"} 2\n"));
      CHECK(has(result,
                std::string("tcpvitals_metrics_rejected_total{collector=\"mixed\"} ") + total));
      for (const Family& family : result.families) {
        CHECK(std::string(row.rejected).find(family->name + ":") != 0);
      }
    }
  }
}

TEST_CASE("of two collectors that emit one name the later one loses that metric alone") {
  static constexpr MetricDesc kStolen{"tcpvitals_build_info", MetricType::kGauge, "Mine.", {"key"}};
  static constexpr MetricDesc kPart{"test_seconds_count", MetricType::kGauge, "Mine.", {"key"}};
  std::vector<Fake> fakes;
  fakes.emplace_back("owner", [](Sink& sink, TimePoint) -> Result<void> {
    sink.add(kOne, {"a"}, 1);
    sink.add_histogram(kHistogram, {"a"}, {kBounds, kCounts, 1});
    return {};
  });
  fakes.emplace_back("intruder", [](Sink& sink, TimePoint) -> Result<void> {
    sink.add(kOne, {"b"}, 1);
    sink.add(kStolen, {"b"}, 1);
    sink.add(kPart, {"b"}, 1);
    sink.add(kTwo, {"b"}, 1);
    return {};
  });
  Scrape scrape(pointers(fakes), {.version = "0"});
  const ScrapeResult result = scrape.run(soon());
  CHECK(report_of(result, "owner").rejected.empty());
  CHECK(report_of(result, "intruder").outcome == Outcome::kOk);
  CHECK(report_of(result, "intruder").rejected ==
        std::vector<std::string>{
            "test_one: test_one already comes from owner",
            "tcpvitals_build_info: tcpvitals_build_info already comes from the scrape itself",
            "test_seconds_count: test_seconds_count already comes from owner"});
  CHECK(has(result, "test_one{key=\"a\"} 1\n"));
  CHECK(has(result, "test_seconds_count{key=\"a\"} 4321\n"));
  CHECK(has(result, "test_two{key=\"b\"} 1\n"));
  CHECK_FALSE(has(result, "test_one{key=\"b\"}"));
  CHECK_FALSE(has(result, "test_seconds_count{key=\"b\"}"));
  CHECK_FALSE(has(result, "tcpvitals_build_info{key"));
  CHECK(has(result, "tcpvitals_series{collector=\"intruder\"} 1\n"));
  CHECK(has(result, "tcpvitals_metrics_rejected_total{collector=\"intruder\"} 3\n"));
  CHECK(has(result, "tcpvitals_metrics_rejected_total{collector=\"owner\"} 0\n"));
}

TEST_CASE("what a collector that failed had left out does not count") {
  std::vector<Fake> fakes;
  std::atomic<bool> fails = false;
  fakes.emplace_back("both", [&](Sink& sink, TimePoint) -> Result<void> {
    for (int i = 0; i < 5; ++i) sink.add(kOne, {"a"}, 1);
    if (fails) return Error{"broken"};
    return {};
  });
  Scrape scrape(pointers(fakes), {.version = "0", .max_series = 3});
  for (int i = 0; i < 3; ++i) {
    const ScrapeResult result = scrape.run(soon());
    CHECK(report_of(result, "both").dropped == (i == 0 ? 2 : 0));
    CHECK(report_of(result, "both").rejected.size() == (i == 0 ? 1 : 0));
    CHECK(has(result, "tcpvitals_series_dropped_total{collector=\"both\"} 2\n"));
    CHECK(has(result, "tcpvitals_metrics_rejected_total{collector=\"both\"} 1\n"));
    fails = true;
  }
}

TEST_CASE("a collector's series are bounded; what is over the bound is counted across scrapes") {
  std::vector<Fake> fakes;
  fakes.emplace_back("big", emits(kOne, {"a", "b", "c", "d", "e"}));
  Scrape scrape(pointers(fakes), {.version = "0", .max_series = 3});
  for (const char* dropped : {"2", "4"}) {
    const ScrapeResult result = scrape.run(soon());
    CHECK(has(result, "tcpvitals_series{collector=\"big\"} 3\n"));
    CHECK(has(result, std::string("tcpvitals_series_dropped_total{collector=\"big\"} ") + dropped));
  }
}

TEST_CASE("collect[] and exclude[] choose; an unknown name or both together is an error") {
  std::vector<Fake> fakes;
  fakes.emplace_back("a", emits(kOne));
  fakes.emplace_back("b", emits(kTwo));
  Scrape scrape(pointers(fakes), {.version = "0"});
  using Names = std::vector<std::string>;
  CHECK(*scrape.select(Names{}, Names{}) == Selection{true, true});
  CHECK(*scrape.select(Names{"b"}, Names{}) == Selection{false, true});
  CHECK(*scrape.select(Names{}, Names{"b"}) == Selection{true, false});
  CHECK(scrape.select(Names{"c"}, Names{}).error().message == "unknown collector \"c\"");
  CHECK(scrape.select(Names{}, Names{""}).error().message == "unknown collector \"\"");
  CHECK(scrape.select(Names{"a"}, Names{"b"}).error().message ==
        "collect[] and exclude[] cannot be used together");

  const ScrapeResult only_b = scrape.run(soon(), *scrape.select(Names{"b"}, Names{}));
  CHECK(only_b.reports.size() == 1);
  CHECK_FALSE(has(only_b, "test_one"));
  CHECK(has(only_b, "test_two"));
}

TEST_CASE("a response over its limit loses the last families of the largest collector") {
  std::vector<std::string> keys;
  for (int i = 0; i < 100; ++i) keys.push_back(fmt::format("key{}", i));
  std::vector<Fake> fakes;
  fakes.emplace_back("small", emits(kOne));
  fakes.emplace_back("big", [&](Sink& sink, TimePoint) -> Result<void> {
    sink.add(kThree, {"kept"}, 1);
    for (const std::string& key : keys) sink.add(kTwo, {key}, 1);
    return {};
  });
  Scrape scrape(pointers(fakes), {.version = "1", .max_bytes = 2000});
  const ScrapeResult result = scrape.run(soon());
  CHECK(has(result, "test_one{key=\"a\"} 1"));
  CHECK(has(result, "test_three{key=\"kept\"} 1"));
  CHECK_FALSE(has(result, "test_two{key=\"key0\"} 1"));
  CHECK(has(result, "tcpvitals_series_dropped_total{collector=\"big\"} 100"));
  CHECK(has(result, "tcpvitals_series{collector=\"big\"} 1"));
  CHECK(has(result, "tcpvitals_response_bytes_limit 2000"));
}

TEST_CASE("the size of a family is never understated, and hardly overstated") {
  Sink sink(1000);
  HistogramSample sample{kBounds, kCounts, 123.456789};
  for (const char* key : {"a", "b", "a longer one"}) {
    sink.add(kOne, {key}, 1.2345678901234567e-300);
    sink.add_histogram(kHistogram, {key}, sample);
  }
  for (const prometheus::MetricFamily& family : sink.take()) {
    CAPTURE(family.name);
    std::size_t lines = 0;
    std::size_t bytes = 0;
    std::istringstream text(render_text({family}, 0));
    for (std::string line; std::getline(text, line);) {
      if (line[0] == '#') continue;
      ++lines;
      bytes += line.size() + 1;
    }
    const FamilySize size = size_of(family);
    CHECK(size.series == lines);
    CHECK(size.text_bytes >= bytes);
    CHECK(size.text_bytes <= 2 * bytes);
  }
}

TEST_CASE("what a collector could not parse is counted over all scrapes, whatever its outcome") {
  std::vector<Fake> fakes;
  fakes.emplace_back("partly", [](Sink& sink, TimePoint) -> Result<void> {
    sink.add(kOne, {"a"}, 1);
    sink.parse_errors().add("file: line 2: odd");
    sink.parse_errors().add("file: line 3: odd");
    return {};
  });
  fakes.emplace_back("not_at_all", [](Sink& sink, TimePoint) -> Result<void> {
    sink.parse_errors().add("file: line 1: odd");
    return Error{"file: line 1: odd"};
  });
  fakes.emplace_back("well", emits(kTwo));
  Scrape scrape(pointers(fakes), {});
  for (const int times : {1, 2}) {
    const ScrapeResult result = scrape.run(soon());
    const auto told = [&](const char* collector, int errors) {
      return has(result, fmt::format("tcpvitals_parse_errors_total{{collector=\"{}\"}} {}\n",
                                     collector, errors));
    };
    CHECK(has(result, "test_one{key=\"a\"} 1\n"));
    CHECK(report_of(result, "partly").outcome == Outcome::kOk);
    CHECK(told("partly", 2 * times));
    CHECK(told("not_at_all", times));
    CHECK(told("well", 0));
  }
}
