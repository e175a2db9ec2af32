#include "collectors/host/fields.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>

namespace tcpvitals {
namespace {

bool is_apart(const MetricDesc& desc) {
  return desc.label_count() > 0 && desc.labels[desc.label_count() - 1] == kNetnsLabel;
}

// Both begin with the section's name and a colon.
void add_section(const Line& names, const Line& values, FieldsBuilder& fields) {
  if (names.words.size() != values.words.size()) {
    return fields.reject(values.number,
                         fmt::format("{:.32} {} names but {} values", names.words[0],
                                     names.words.size() - 1, values.words.size() - 1));
  }
  const std::string_view section = names.words[0].substr(0, names.words[0].size() - 1);
  for (std::size_t i = 1; i < names.words.size(); ++i) {
    // How the kernel says that there is no such limit.
    if (names.words[i] == "MaxConn" && values.words[i] == "-1") continue;
    fields.add(values.number, section, names.words[i], values.words[i]);
  }
}

}  // namespace

void FieldsBuilder::add(std::size_t line, std::string_view section, std::string_view name,
                        std::string_view value) {
  const auto number = parse_count(value);
  if (!number) return reject(line, fmt::format("{:.32}: {}", name, number.error().message));
  std::string field;
  field.reserve(section.size() + name.size());
  field.append(section).append(name);
  const auto [found, is_new] = fields_.emplace(std::move(field), *number);
  if (is_new) return;
  twice_.push_back(found);
  reject(line, fmt::format("{:.32} appears twice", name));
}

Parsed<Fields> FieldsBuilder::take() && {
  std::sort(twice_.begin(), twice_.end(), [](auto a, auto b) { return a->first < b->first; });
  twice_.erase(std::unique(twice_.begin(), twice_.end()), twice_.end());
  for (const auto field : twice_) fields_.erase(field);
  return {std::move(fields_), std::move(errors_)};
}

Parsed<Fields> parse_sections(std::string_view text, std::span<const std::string_view> sections) {
  FieldsBuilder fields;
  const auto lines = split_lines(text, fields.errors());
  for (std::size_t i = 0; i < lines.size(); ++i) {
    const Line& names = lines[i];
    const std::string_view head = names.words[0];
    if (!head.ends_with(':')) {
      fields.reject(names.number, "no section name");
      continue;
    }
    const bool paired = i + 1 < lines.size() && lines[i + 1].words[0] == head;
    if (paired) ++i;
    if (std::find(sections.begin(), sections.end(), head.substr(0, head.size() - 1)) ==
        sections.end()) {
      continue;
    }
    if (paired) {
      add_section(names, lines[i], fields);
    } else if (names.words.size() > 1 && parse_signed(names.words[1])) {
      fields.reject(names.number, fmt::format("{:.32} values without names", head));
    }
  }
  return std::move(fields).take();
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

std::vector<NamespaceFields> read_fields(FileReader& files, std::string_view path,
                                         Parsed<Fields> (*parse)(std::string_view text)) {
  std::vector<NamespaceFields> all;
  for (const NamespaceSource& netns : files.namespaces()) {
    if (auto fields = files.read(netns, path, parse)) all.push_back({&netns, std::move(*fields)});
  }
  return all;
}

void emit_fields(FileReader& files, std::span<const NamespaceFields> namespaces,
                 std::span<const FieldMetric> table, Sink& sink) {
  for (const FieldMetric& metric : table) {
    const MetricDesc& desc = metric.desc;
    const auto names = split_words(desc.source);
    const std::size_t count = is_apart(desc) ? namespaces.size() : std::size_t{1};
    for (const auto& [netns, fields] : namespaces.first(std::min(count, namespaces.size()))) {
      for (std::size_t i = 1; i < names.size(); ++i) {
        const auto field = fields.find(names[i]);
        if (field == fields.end()) continue;
        const double value = field->second;
        if (desc.type == MetricType::kGauge && value > kMostThings) {
          files.reject(*netns, names[0],
                       fmt::format("{}: {:.0f} is more than there can be", names[i], value));
          continue;
        }
        const std::string_view own = metric.label_values[i - 1];
        const std::array<std::string_view, 2> both{own, netns->label};
        const auto labels = std::span(both).subspan(own.empty() ? 1 : 0, desc.label_count());
        sink.add(desc, labels, to_base(metric.unit, value));
      }
    }
  }
}

Result<void> FieldCollector::collect(Sink& sink, TimePoint /*deadline*/) {
  FileReader files(source_, sink);
  emit_fields(files, read_fields(files, spec_.path, spec_.parse), spec_.table, sink);
  return files.outcome();
}

}  // namespace tcpvitals
