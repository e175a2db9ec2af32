// Test doubles and helpers that several unit tests share.
#pragma once

#include <doctest/doctest.h>
#include <prometheus/metric_family.h>

#include <atomic>
#include <functional>
#include <initializer_list>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "collectors/collector.h"
#include "collectors/kernel_source.h"
#include "collectors/metric.h"
#include "tests/fixtures/directory.h"

namespace tcpvitals::testing {

// tests/fixtures/<fixture>/proc as a KernelSource.
inline ProcSource fixture_source(const std::string& fixture) {
  return ProcSource(fixture_path(fixture + "/proc"));
}

// The text of one file of a fixture; the test ends if it is not there.
inline std::string fixture_text(const std::string& fixture, std::string_view path) {
  const auto text = fixture_source(fixture).read(path);
  REQUIRE(text.ok());
  return *text;
}

// A few files written in the test; all others are absent.
class TextSource final : public KernelSource {
 public:
  TextSource(std::initializer_list<std::pair<const std::string, std::string>> files)
      : files_(files) {}

  void set(const std::string& path, std::string text) { files_[path] = std::move(text); }

  Result<std::string> read(std::string_view path) const override {
    const auto file = files_.find(path);
    if (file == files_.end()) return Error::absent(std::string(path) + ": not in this test");
    return file->second;
  }
  Result<std::size_t> count_entries(std::string_view path) const override {
    return Error::absent(std::string(path) + ": not in this test");
  }

 private:
  std::map<std::string, std::string, std::less<>> files_;
};

// What can go wrong with a file of the kernel.
enum class Fault { kError, kMissing, kTruncated, kGarbage };
inline constexpr Fault kFaults[] = {Fault::kError, Fault::kMissing, Fault::kTruncated,
                                    Fault::kGarbage};

// Another source with one fault in it: in a path, or in the k-th call. Thread-safe.
class FailingSource final : public KernelSource {
 public:
  // Without a fault it only remembers what was asked of it.
  explicit FailingSource(const KernelSource& real) : real_(real) {}
  FailingSource(const KernelSource& real, Fault fault, std::string path)
      : real_(real), fault_(fault), path_(std::move(path)) {}
  // Calls count from 1.
  FailingSource(const KernelSource& real, Fault fault, int call)
      : real_(real), fault_(fault), call_(call) {}

  Result<std::string> read(std::string_view path) const override {
    if (!strikes(path)) return real_.read(path);
    auto text = real_.read(path);
    switch (fault_) {
      case Fault::kError:
        return Error{std::string(path) + ": Input/output error"};
      case Fault::kMissing:
        return Error::absent(std::string(path) + ": No such file or directory");
      case Fault::kTruncated:
        if (text) text->resize(text->size() / 2);
        return text;
      case Fault::kGarbage:
        return std::string("\x01\xff garbage: 1 x\n99999999999999999999999 \n-7\n");
    }
    return text;
  }

  // A directory has no text: every fault but kMissing is an error.
  Result<std::size_t> count_entries(std::string_view path) const override {
    if (!strikes(path)) return real_.count_entries(path);
    if (fault_ == Fault::kMissing) return Error::absent(std::string(path) + ": No such directory");
    return Error{std::string(path) + ": Input/output error"};
  }

  int calls() const { return calls_; }
  std::set<std::string> paths() const {
    const std::lock_guard lock(mutex_);
    return paths_;
  }

 private:
  bool strikes(std::string_view path) const {
    const int call = ++calls_;
    const std::lock_guard lock(mutex_);
    paths_.emplace(path);
    return call == call_ || path == path_;
  }

  const KernelSource& real_;
  const Fault fault_ = Fault::kError;
  const std::string path_;
  const int call_ = 0;
  mutable std::atomic<int> calls_ = 0;
  mutable std::mutex mutex_;
  mutable std::set<std::string> paths_;
};

// What one collector produced: the outcome, and each sample under `name` or `name{label="value"}`.
struct Collected {
  Result<void> outcome;
  std::map<std::string, double> samples;
  std::vector<prometheus::MetricFamily> families;
  ParseErrors parse_errors;

  bool has(const std::string& sample) const { return samples.count(sample) != 0; }
  double at(const std::string& sample) const {
    INFO(sample);
    REQUIRE(has(sample));
    return samples.at(sample);
  }
};

inline double plain_value(const prometheus::MetricFamily& family,
                          const prometheus::ClientMetric& metric) {
  switch (family.type) {
    case prometheus::MetricType::Counter:
      return metric.counter.value;
    case prometheus::MetricType::Gauge:
      return metric.gauge.value;
    default:
      return metric.untyped.value;
  }
}

// Counters, gauges and untyped metrics only.
inline Collected collect(Collector& collector) {
  Sink sink(100'000);
  Collected result{collector.collect(sink, Clock::now() + std::chrono::seconds(10)), {}, {}, {}};
  CHECK(sink.dropped() == 0);
  result.parse_errors = sink.parse_errors();
  result.families = sink.take();
  for (const auto& family : result.families) {
    for (const auto& metric : family.metric) {
      std::string sample = family.name;
      for (std::size_t i = 0; i < metric.label.size(); ++i) {
        sample +=
            (i == 0 ? "{" : ",") + metric.label[i].name + "=\"" + metric.label[i].value + "\"";
      }
      if (!metric.label.empty()) sample += "}";
      const bool is_new = result.samples.emplace(sample, plain_value(family, metric)).second;
      INFO(sample);
      CHECK(is_new);
    }
  }
  return result;
}

// Gives every proper prefix of `text` to `parse`. Each must give a record of which `agrees(record)`
// is true, and an error where it ends in the middle of a line: a file that was cut off never
// becomes other numbers, nor passes for a whole one.
template <typename Parse, typename Agrees>
void check_every_prefix(const std::string& text, Parse parse, Agrees agrees) {
  for (std::size_t size = 0; size < text.size(); ++size) {
    CAPTURE(size);
    const std::string_view prefix = std::string_view(text).substr(0, size);
    const auto parsed = parse(prefix);
    CHECK(agrees(parsed.record));
    CHECK((prefix.ends_with('\n') || parsed.errors.count > 0));
  }
}

}  // namespace tcpvitals::testing
