#include "collectors/host/fields.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

#include "collectors/host/proc_text.h"

namespace tcpvitals {
namespace {

// `names` and `values` both begin with the section's name and a colon.
Result<void> add_section(const std::vector<std::string_view>& names,
                         const std::vector<std::string_view>& values, Fields& fields) {
  if (names.size() != values.size()) {
    return Error{fmt::format("{} names but {} values", names.size() - 1, values.size() - 1)};
  }
  const std::string_view section = names[0].substr(0, names[0].size() - 1);
  for (std::size_t i = 1; i < names.size(); ++i) {
    // Tcp: MaxConn says "no limit" in this way; nothing else has a sign.
    if (values[i] == "-1") continue;
    const auto number = parse_number(values[i]);
    if (!number) return Error(number.error()).in(names[i]);
    if (!fields.emplace(fmt::format("{}{}", section, names[i]), *number).second) {
      return Error{fmt::format("{:.32} appears twice", names[i])};
    }
  }
  return {};
}

}  // namespace

Result<Fields> parse_sections(std::string_view text, std::span<const std::string_view> sections) {
  const auto lines = split_lines(text);
  if (!lines) return lines.error();
  Fields fields;
  std::size_t found = 0;
  for (std::size_t i = 0; i < lines->size(); i += 2) {
    const auto names = split_words((*lines)[i]);
    if (names.empty() || !names[0].ends_with(':')) return line_error(i + 1, "no section name");
    if (i + 1 == lines->size()) return line_error(i + 1, "names without values");
    const auto values = split_words((*lines)[i + 1]);
    if (values.empty() || values[0] != names[0]) {
      return line_error(i + 2, fmt::format("not the values of {:.32}", names[0]));
    }
    const std::string_view section = names[0].substr(0, names[0].size() - 1);
    if (std::find(sections.begin(), sections.end(), section) == sections.end()) continue;
    const auto added = add_section(names, values, fields);
    if (!added) return line_error(i + 2, added.error().message);
    ++found;
  }
  if (found < sections.size()) {
    return Error{fmt::format("only {} of the sections {}", found, fmt::join(sections, ", "))};
  }
  return fields;
}

double to_base(Unit unit, double value) {
  switch (unit) {
    case Unit::kBase:
      break;
    case Unit::kMilliseconds:
      return value / 1000;
    case Unit::kPages:
      return value * static_cast<double>(sysconf(_SC_PAGESIZE));
    case Unit::kTicks:
      return value / static_cast<double>(sysconf(_SC_CLK_TCK));
  }
  return value;
}

Result<std::vector<NamespaceFields>> read_fields(const KernelSource& source, std::string_view path,
                                                 Result<Fields> (*parse)(std::string_view text)) {
  std::vector<NamespaceFields> all;
  for (const NamespaceSource& netns : source.namespaces()) {
    auto fields = read_parsed(*netns.source, path, parse);
    if (fields) {
      all.push_back({netns.label, std::move(*fields)});
    } else if (all.empty()) {
      return std::move(fields.error());
    } else if (!fields.error().is_absent()) {
      source.namespace_failed(netns.label, fields.error());
    }
  }
  return all;
}

Result<void> emit_fields(std::span<const NamespaceFields> namespaces,
                         std::span<const FieldMetric> table, Sink& sink) {
  bool known = false;
  for (const FieldMetric& metric : table) {
    const MetricDesc& desc = metric.desc;
    const bool apart = desc.label_count() > 0 && desc.labels[desc.label_count() - 1] == kNetnsLabel;
    const auto names = split_words(desc.source);
    for (const auto& [netns, fields] : apart ? namespaces : namespaces.first(1)) {
      for (std::size_t i = 1; i < names.size(); ++i) {
        const auto field = fields.find(names[i]);
        if (field == fields.end()) continue;
        known = true;
        const std::string_view own = metric.label_values[i - 1];
        const std::array<std::string_view, 2> both{own, netns};
        const auto labels = std::span(both).subspan(own.empty() ? 1 : 0, desc.label_count());
        sink.add(desc, labels, to_base(metric.unit, field->second));
      }
    }
  }
  if (!known) return Error{"none of the fields that belong in it"};
  return {};
}

Result<void> FieldCollector::collect(Sink& sink, TimePoint /*deadline*/) {
  const auto namespaces = read_fields(source_, spec_.path, spec_.parse);
  if (!namespaces) return namespaces.error();
  const auto emitted = emit_fields(*namespaces, spec_.table, sink);
  if (!emitted) return Error(emitted.error()).in(spec_.path);
  return {};
}

}  // namespace tcpvitals
