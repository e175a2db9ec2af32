// Scrape: the barrier between the collectors and everything that reads them.
//
// A collector may hang, fail, throw or emit nonsense; the scrape still ends at its deadline with
// what the others gave, and says in metrics of its own which collector did what.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "collectors/collector.h"
#include "exporter/family.h"

namespace tcpvitals {

struct CollectorReport {
  enum class Outcome {
    kOk,
    kAbsent,  // this host does not have it: nothing is wrong
    kFailed,  // nothing of it is in the scrape
  };

  std::string_view collector;
  Outcome outcome = Outcome::kFailed;
  std::string message;  // why, unless ok
  double duration_seconds = 0;
  std::size_t series = 0;
  std::size_t dropped = 0;            // series beyond a limit, in this scrape
  std::vector<std::string> rejected;  // a sentence for each metric that could not be served
  ParseErrors parse_errors;           // what could not be read or parsed, in this scrape
};

struct ScrapeResult {
  // Sorted by name, no name twice; samples sorted by labels, no series twice.
  Families families;
  std::vector<CollectorReport>
      reports;  // one for each selected collector, in the collectors' order
};

// Which collectors a scrape asks: one flag for each, in their order.
using Selection = std::vector<bool>;

// Any thread may call run(), many at a time. Each collector has one thread of its own, so that all
// collectors run at once and none twice. One run of a collector answers all scrapes that waited for
// it, and has as long as the most patient of them: a scrape in a hurry costs the others nothing. A
// metric belongs to one collector: of two that emit the same name the later one loses that metric.
// So does a collector whose metric is invalid (Sink::take), and everything else of it is served.
class Scrape {
 public:
  struct Options {
    std::string version;  // for tcpvitals_build_info
    std::size_t max_series =
        50'000;  // of one collector in one scrape; the rest is dropped and counted

    // Of the whole answer as text. What does not fit is dropped and counted: the last families of
    // the collector that has most.
    std::size_t max_bytes = std::size_t{8} << 20;

    // The longest that a collector is given. One that takes longer hangs: scrapes fail at it at
    // once instead of waiting.
    Clock::duration max_run = std::chrono::seconds(30);
  };

  // The collectors must outlive this. Starts their threads; std::system_error where the system has
  // none left.
  Scrape(std::span<Collector* const> collectors, Options options);
  // Waits for collectors that still run.
  ~Scrape();
  Scrape(const Scrape&) = delete;
  Scrape& operator=(const Scrape&) = delete;

  // Only those in `collect`, or all but those in `exclude`; without either, all. An unknown name,
  // or both lists at once, is an error.
  Result<Selection> select(std::span<const std::string> collect,
                           std::span<const std::string> exclude) const;

  // Every metric that a collector may emit; none if none has that name.
  std::span<const MetricDesc> metrics_of(std::string_view collector) const;

  // Returns at `deadline` at the latest, apart from the time to put the answer together. Until then
  // it waits for a collector that is busy for others, unless that hangs.
  ScrapeResult run(TimePoint deadline, const Selection& selection);
  ScrapeResult run(TimePoint deadline) { return run(deadline, Selection(workers_.size(), true)); }

  // Whether no collector runs, waiting until `deadline` for it. False: the destructor would hang.
  bool wait_idle(TimePoint deadline);

  // What the barrier itself emits.
  static std::span<const MetricDesc> metrics();

 private:
  struct Answer;
  struct Job;
  struct Worker;

  explicit Scrape(Options options);

  std::size_t index_of(std::string_view name) const;  // workers_.size(): unknown
  std::vector<Answer> ask(TimePoint deadline, const Selection& selection);
  void work(Worker& worker);
  Answer collect(Collector& collector, TimePoint deadline) const;
  std::size_t fit(std::vector<Answer>& answers) const;
  void account(ScrapeResult& result, std::size_t bytes);

  Options options_;
  std::mutex mutex_;                  // guards every Worker and Job
  std::condition_variable finished_;  // a collector has run
  bool stopping_ = false;
  std::vector<std::unique_ptr<Worker>> workers_;
};

}  // namespace tcpvitals
