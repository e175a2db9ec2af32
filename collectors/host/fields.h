// Fields: one kernel file as numbers by name, and the tables that turn such numbers into metrics.
//
// Most files below /proc/net are nothing but names and numbers, so their collectors are one parser
// and one table: a new metric is one row.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "collectors/collector.h"
#include "collectors/host/file_reader.h"
#include "collectors/host/proc_text.h"
#include "collectors/kernel_source.h"
#include "collectors/metric.h"
#include "collectors/parse_errors.h"

namespace tcpvitals {

// Names are spelled as nstat(8) prints them: the section and the field in one word,
// TcpExtTCPTimeouts.
using Fields = std::map<std::string, double, std::less<>>;

inline constexpr std::string_view kNetnsLabel = "netns";

// Fields as a parser finds them. A value that is no count, or a name that comes twice, costs that
// field.
class FieldsBuilder {
 public:
  // The field `name` of `section`, as it stands in that line.
  void add(std::size_t line, std::string_view section, std::string_view name,
           std::string_view value);
  void reject(std::size_t line, std::string_view what) { errors_.add(at_line(line, what)); }
  ParseErrors& errors() { return errors_; }

  Parsed<Fields> take() &&;

 private:
  Fields fields_;
  std::vector<Fields::iterator> twice_;
  ParseErrors errors_;
};

// The format that /proc/net/snmp and /proc/net/netstat share: pairs of lines, `Tcp: Name Name ...`
// over `Tcp: 1 2 ...`. Only the named sections are read. Of a section whose names and values are
// not equally many nobody knows what belongs to what: it is left out. Names alone are no error: a
// kernel that counts none of it prints them so. Pure; any thread.
Parsed<Fields> parse_sections(std::string_view text, std::span<const std::string_view> sections);

// The kernel's units that are not ours.
enum class Unit : std::uint8_t { kBase, kMilliseconds, kPages, kTicks };

// `value` in seconds or bytes.
double to_base(Unit unit, double value);

// One metric and where it stands in Fields: its fields are the words of desc.source after the path,
// so what METRICS.md says is what is read. More than one field: one value of desc's own label for
// each, in the same order.
struct FieldMetric {
  static constexpr std::size_t kMaxValues = 5;

  MetricDesc desc;
  std::array<std::string_view, kMaxValues> label_values{};
  Unit unit = Unit::kBase;
  bool machine_wide = false;  // the same in every network namespace
};

// The rows of a table.
struct FieldLabel {
  std::string_view name{};
  std::array<std::string_view, FieldMetric::kMaxValues> values{};
};
constexpr FieldMetric counter_row(std::string_view name, std::string_view source,
                                  std::string_view help, const FieldLabel& label = {},
                                  Unit unit = Unit::kBase) {
  return {{name, MetricType::kCounter, help, {label.name}, source}, label.values, unit};
}
constexpr FieldMetric gauge_row(std::string_view name, std::string_view source,
                                std::string_view help, Unit unit = Unit::kBase) {
  return {{name, MetricType::kGauge, help, {}, source}, {}, unit};
}
constexpr FieldMetric machine_gauge_row(std::string_view name, std::string_view source,
                                        std::string_view help, Unit unit = Unit::kBase) {
  return {{name, MetricType::kGauge, help, {}, source}, {}, unit, true};
}

// The rows of a file that each network namespace has its own of: with the label `netns`.
template <std::size_t N>
constexpr std::array<FieldMetric, N> in_each_namespace(std::array<FieldMetric, N> table) {
  for (FieldMetric& row : table) {
    if (!row.machine_wide) row.desc.labels[row.desc.label_count()] = kNetnsLabel;
  }
  return table;
}

// The descs of a table, for Collector::metrics().
template <std::size_t N>
constexpr std::array<MetricDesc, N> descs_of(const std::array<FieldMetric, N>& table) {
  std::array<MetricDesc, N> descs;
  for (std::size_t i = 0; i < N; ++i) descs[i] = table[i].desc;
  return descs;
}

// What one network namespace's file says.
struct NamespaceFields {
  const NamespaceSource* netns = nullptr;
  Fields fields;
};

// What the file at `path` says in every network namespace where it can be read.
std::vector<NamespaceFields> read_fields(FileReader& files, std::string_view path,
                                         Parsed<Fields> (*parse)(std::string_view text));

// The largest number of things that the kernel can count: it does so with an int. More is a counter
// that fell below zero and wrapped.
inline constexpr double kMostThings = 2'147'483'647;

// Adds a sample for every field that the kernel gave; one that it did not give is absent, not zero,
// and so is a gauge of more things than there can be, which is rejected.
void emit_fields(FileReader& files, std::span<const NamespaceFields> namespaces,
                 std::span<const FieldMetric> table, Sink& sink);

// The collector of one such file. All that it is given is static.
class FieldCollector final : public Collector {
 public:
  struct Spec {
    std::string_view name;
    std::string_view path;  // below /proc
    Parsed<Fields> (*parse)(std::string_view text);
    std::span<const FieldMetric> table;
    std::span<const MetricDesc> metrics;
  };

  // `source` must outlive the collector.
  FieldCollector(const KernelSource& source, const Spec& spec) : source_(source), spec_(spec) {}

  std::string_view name() const override { return spec_.name; }
  std::span<const MetricDesc> metrics() const override { return spec_.metrics; }
  Result<void> collect(Sink& sink, TimePoint deadline) override;

 private:
  const KernelSource& source_;
  const Spec spec_;
};

}  // namespace tcpvitals
