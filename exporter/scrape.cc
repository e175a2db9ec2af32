#include "exporter/scrape.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <exception>
#include <iterator>
#include <optional>
#include <thread>
#include <utility>

#include "base/log.h"
#include "base/thread.h"
#include "collectors/rejections.h"
#include "exporter/outcome_log.h"

namespace tcpvitals {
namespace {

using prometheus::MetricFamily;
using Outcome = CollectorReport::Outcome;

constexpr std::array kMetrics{
    MetricDesc{"tcpvitals_build_info",
               MetricType::kGauge,
               "Constant 1, labelled with the agent's version.",
               {"version"}},
    MetricDesc{"tcpvitals_collector_available",
               MetricType::kGauge,
               "Whether this host has what the collector reads: 1 if it does, 0 if not.",
               {"collector"}},
    MetricDesc{"tcpvitals_collector_duration_seconds",
               MetricType::kGauge,
               "Time the collector took in this scrape.",
               {"collector"}},
    kCollectorSuccess,
    kParseErrors,
    MetricDesc{"tcpvitals_series",
               MetricType::kGauge,
               "Time series of the collector in this scrape.",
               {"collector"}},
    MetricDesc{
        "tcpvitals_series_dropped_total",
        MetricType::kCounter,
        "Time series left out because the collector or the response exceeded its limit; counted in "
        "every scrape.",
        {"collector"}},
    MetricDesc{
        "tcpvitals_response_bytes", MetricType::kGauge,
        "Size of the collectors' series as text, before compression; estimated slightly too high."},
    MetricDesc{"tcpvitals_response_bytes_limit", MetricType::kGauge,
               "Limit of tcpvitals_response_bytes; series beyond it are left out and counted in "
               "tcpvitals_series_dropped_total."},
    kMetricsRejected,
    MetricDesc{"tcpvitals_log_lines_lost_total", MetricType::kCounter,
               "Lines of the log that were not written: stderr was full, closed or too slow."},
};
constexpr auto& kBuildInfo = kMetrics[0];
constexpr auto& kAvailable = kMetrics[1];
constexpr auto& kDuration = kMetrics[2];
constexpr auto& kSeries = kMetrics[5];
constexpr auto& kSeriesDropped = kMetrics[6];
constexpr auto& kBytes = kMetrics[7];
constexpr auto& kBytesLimit = kMetrics[8];
constexpr auto& kLogLinesLost = kMetrics[10];

// The only place, beside main, where exceptions end: whatever a collector does is an outcome.
Result<void> guarded_collect(Collector& collector, Sink& sink, TimePoint deadline) {
  try {
    return collector.collect(sink, deadline);
  } catch (const std::exception& e) {
    return Error{fmt::format("exception: {}", e.what())};
  } catch (...) {
    return Error{"exception of unknown type"};
  }
}

void log_outcome(const CollectorReport& report) {
  const std::string name(report.collector);
  switch (report.outcome) {
    case Outcome::kFailed:
      return log_warn("collector failed", {{"collector", name}, {"error", report.message}});
    case Outcome::kAbsent:
      return log_info("collector has nothing to read here",
                      {{"collector", name}, {"reason", report.message}});
    case Outcome::kOk:
      return log_info("collector works again", {{"collector", name}});
  }
}

void fail(CollectorReport& report, std::string message) {
  report.outcome = Outcome::kFailed;
  report.message = std::move(message);
  report.series = 0;
  report.dropped = 0;
  report.rejected.clear();
}

}  // namespace

// What a scrape got from one collector.
struct Scrape::Answer {
  CollectorReport report;
  Families families;
};

// One scrape's question to one collector. Shared with its worker, because a scrape waits no longer
// than its deadline, and the worker may still be at it then.
struct Scrape::Job {
  TimePoint deadline;
  bool done = false;
  Answer answer;
};

struct Scrape::Worker {
  explicit Worker(Collector& c) : collector(c) {}

  Collector& collector;
  std::vector<std::shared_ptr<Job>> waiting;  // for its next run
  std::optional<TimePoint> running_since;
  std::condition_variable wake;
  OutcomeLog outcome_log;
  std::size_t dropped_total = 0;
  Rejections rejections;
  ParseErrorTotal parse_errors;
  std::thread thread;
};

Scrape::Scrape(Options options) : options_(std::move(options)) {}

// Whatever thread cannot be had, the destructor ends those that could.
Scrape::Scrape(std::span<Collector* const> collectors, Options options)
    : Scrape(std::move(options)) {
  for (Collector* collector : collectors) {
    Worker& worker = *workers_.emplace_back(std::make_unique<Worker>(*collector));
    worker.thread = start_thread(std::string(collector->name()), [this, &worker] { work(worker); });
  }
}

Scrape::~Scrape() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  for (auto& worker : workers_) worker->wake.notify_one();
  for (auto& worker : workers_) {
    if (worker->thread.joinable()) worker->thread.join();
  }
}

Result<Selection> Scrape::select(std::span<const std::string> collect,
                                 std::span<const std::string> exclude) const {
  if (!collect.empty() && !exclude.empty()) {
    return Error{"collect[] and exclude[] cannot be used together"};
  }
  const bool only = !collect.empty();
  Selection selection(workers_.size(), !only);
  for (const std::string& name : only ? collect : exclude) {
    const std::size_t i = index_of(name);
    if (i == workers_.size()) return Error{fmt::format("unknown collector \"{}\"", name)};
    selection[i] = only;
  }
  return selection;
}

std::size_t Scrape::index_of(std::string_view name) const {
  const auto named = [&](const auto& worker) { return worker->collector.name() == name; };
  const auto found = std::find_if(workers_.begin(), workers_.end(), named);
  return static_cast<std::size_t>(found - workers_.begin());
}

std::span<const MetricDesc> Scrape::metrics_of(std::string_view collector) const {
  const std::size_t i = index_of(collector);
  if (i == workers_.size()) return {};
  return workers_[i]->collector.metrics();
}

ScrapeResult Scrape::run(TimePoint deadline, const Selection& selection) {
  ScrapeResult result;
  std::vector<Answer> answers = ask(deadline, selection);
  MetricNames names;
  for (const MetricDesc& desc : kMetrics) names.reserve(desc, "the scrape itself");
  for (Answer& answer : answers) {
    names.claim(answer.families, answer.report.collector, answer.report.rejected);
  }
  const std::size_t bytes = fit(answers);
  for (Answer& answer : answers) {
    std::move(answer.families.begin(), answer.families.end(), std::back_inserter(result.families));
    result.reports.push_back(std::move(answer.report));
  }
  account(result, bytes);
  std::sort(result.families.begin(), result.families.end(),
            [](const Family& a, const Family& b) { return a->name < b->name; });
  return result;
}

// Makes the answers fit into max_bytes, and counts their series; tells how many bytes they take.
std::size_t Scrape::fit(std::vector<Answer>& answers) const {
  std::size_t total = 0;
  std::size_t most = 0;
  Answer* largest = nullptr;
  for (Answer& answer : answers) {
    std::size_t bytes = 0;
    for (const MetricFamily& family : answer.families) {
      const FamilySize size = size_of(family);
      bytes += size.text_bytes;
      answer.report.series += size.series;
    }
    total += bytes;
    if (bytes > most) largest = &answer;
    most = std::max(most, bytes);
  }
  while (total > options_.max_bytes && !largest->families.empty()) {
    const FamilySize last = size_of(largest->families.back());
    largest->families.pop_back();
    largest->report.series -= last.series;
    largest->report.dropped += last.series;
    total -= last.text_bytes;
  }
  return total;
}

std::vector<Scrape::Answer> Scrape::ask(TimePoint deadline, const Selection& selection) {
  const TimePoint start = Clock::now();
  std::vector<std::pair<Worker*, std::shared_ptr<Job>>> jobs;
  std::unique_lock lock(mutex_);
  for (std::size_t i = 0; i < workers_.size(); ++i) {
    if (!selection[i]) continue;
    Worker& worker = *workers_[i];
    const auto job = std::make_shared<Job>();
    job->deadline = deadline;
    job->answer.report.collector = worker.collector.name();
    jobs.emplace_back(&worker, job);
    if (worker.running_since && start - *worker.running_since >= options_.max_run) {
      // To wait for it would make every scrape as slow as its deadline allows.
      fail(job->answer.report, fmt::format("hangs: busy for {:.0f} s with an earlier scrape",
                                           seconds(start - *worker.running_since)));
      job->done = true;
    } else {
      worker.waiting.push_back(job);
      worker.wake.notify_one();
    }
  }
  finished_.wait_until(lock, deadline, [&] {
    return std::all_of(jobs.begin(), jobs.end(), [](const auto& j) { return j.second->done; });
  });
  std::vector<Answer> answers;
  for (auto& [worker, job] : jobs) {
    if (job->done) {
      answers.push_back(std::move(job->answer));
      continue;
    }
    std::erase(worker->waiting, job);
    CollectorReport& report = answers.emplace_back().report;
    report.collector = worker->collector.name();
    report.duration_seconds = seconds_since(start);
    fail(report, fmt::format("no answer within {:.2f} s", seconds(deadline - start)));
  }
  return answers;
}

void Scrape::work(Worker& worker) {
  std::unique_lock lock(mutex_);
  for (;;) {
    worker.wake.wait(lock, [&] { return stopping_ || !worker.waiting.empty(); });
    if (stopping_) return;
    const auto jobs = std::exchange(worker.waiting, {});
    const TimePoint start = Clock::now();
    worker.running_since = start;
    lock.unlock();
    TimePoint patience = start;
    for (const auto& job : jobs) patience = std::max(patience, job->deadline);
    const Answer answer = collect(worker.collector, std::min(patience, start + options_.max_run));
    for (const auto& job : jobs) job->answer = answer;
    lock.lock();
    for (const auto& job : jobs) job->done = true;
    worker.running_since.reset();
    finished_.notify_all();
  }
}

Scrape::Answer Scrape::collect(Collector& collector, TimePoint deadline) const {
  Answer answer;
  CollectorReport& report = answer.report;
  const TimePoint start = Clock::now();
  Sink sink(options_.max_series);
  const Result<void> outcome = guarded_collect(collector, sink, deadline);
  report.collector = collector.name();
  report.parse_errors = sink.parse_errors();
  if (outcome) {
    report.outcome = Outcome::kOk;
    report.dropped = sink.dropped();
    std::vector<MetricFamily> families = sink.take();
    answer.families.assign(std::move_iterator(families.begin()),
                           std::move_iterator(families.end()));
    report.rejected = sink.rejected();
  } else {
    fail(report, outcome.error().message);
    if (outcome.error().is_absent()) report.outcome = Outcome::kAbsent;
  }
  report.duration_seconds = seconds_since(start);
  return answer;
}

void Scrape::account(ScrapeResult& result, std::size_t bytes) {
  Sink sink(4 + 7 * result.reports.size());
  sink.add(kBuildInfo, {options_.version}, 1);
  sink.add(kBytes, static_cast<double>(bytes));
  sink.add(kBytesLimit, static_cast<double>(options_.max_bytes));
  sink.add(kLogLinesLost, static_cast<double>(log_lines_lost()));
  const TimePoint now = Clock::now();
  for (const CollectorReport& report : result.reports) {
    Worker& worker = *workers_[index_of(report.collector)];
    std::unique_lock lock(mutex_);
    const std::size_t dropped_total = worker.dropped_total += report.dropped;
    worker.rejections.add(report.collector, report.rejected, now);
    const std::size_t rejected_total = worker.rejections.total();
    worker.parse_errors.add(report.collector, report.parse_errors, now);
    const std::uint64_t parse_errors = worker.parse_errors.count();
    const bool told = worker.outcome_log.tells(report.outcome, now);
    lock.unlock();
    if (told) log_outcome(report);
    sink.add(kAvailable, {report.collector}, report.outcome != Outcome::kAbsent);
    sink.add(kDuration, {report.collector}, report.duration_seconds);
    sink.add(kCollectorSuccess, {report.collector}, report.outcome != Outcome::kFailed);
    sink.add(kParseErrors, {report.collector}, static_cast<double>(parse_errors));
    sink.add(kSeries, {report.collector}, static_cast<double>(report.series));
    sink.add(kSeriesDropped, {report.collector}, static_cast<double>(dropped_total));
    sink.add(kMetricsRejected, {report.collector}, static_cast<double>(rejected_total));
  }
  auto own = sink.take();
  std::move(own.begin(), own.end(), std::back_inserter(result.families));
}

bool Scrape::wait_idle(TimePoint deadline) {
  std::unique_lock lock(mutex_);
  return finished_.wait_until(lock, deadline, [&] {
    return std::none_of(workers_.begin(), workers_.end(),
                        [](const auto& w) { return w->running_since.has_value(); });
  });
}

std::span<const MetricDesc> Scrape::metrics() { return kMetrics; }

}  // namespace tcpvitals
