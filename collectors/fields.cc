#include "collectors/fields.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

#include "collectors/proc_text.h"

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

Result<void> emit_fields(const Fields& fields, std::span<const FieldMetric> table, Sink& sink) {
  bool known = false;
  for (const FieldMetric& metric : table) {
    const auto names = split_words(metric.desc.source);
    for (std::size_t i = 1; i < names.size(); ++i) {
      const auto field = fields.find(names[i]);
      if (field == fields.end()) continue;
      const double value = to_base(metric.unit, field->second);
      if (metric.desc.label_count() == 0) {
        sink.add(metric.desc, value);
      } else {
        sink.add(metric.desc, {metric.label_values[i - 1]}, value);
      }
      known = true;
    }
  }
  if (!known) return Error{"none of the fields that belong in it"};
  return {};
}

Result<void> FieldCollector::collect(Sink& sink, TimePoint /*deadline*/) {
  const auto fields = read_parsed(source_, spec_.path, spec_.parse);
  if (!fields) return fields.error();
  const auto emitted = emit_fields(*fields, spec_.table, sink);
  if (!emitted) return Error(emitted.error()).in(spec_.path);
  return {};
}

}  // namespace tcpvitals
