// ConfigField: a value of a configuration file with the keys that lead to it, and the readers of
// what a value may be. Whoever reads a part of the file writes a table of its keys:
//
//   constexpr ConfigKey<Excludes> kKeys[] = {
//       {"loopback", [](const ConfigField& f, Excludes& e) { return read_flag(f, e.loopback); }},
//   };
//   return read_keys(field, kKeys, excludes);
//
// Everything reads in the order of the file and ends at the first error.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <iterator>
#include <map>
#include <span>
#include <string>
#include <string_view>

#include "agent/config/yaml.h"
#include "base/ip.h"
#include "base/result.h"
#include "collectors/connections/config.h"

namespace tcpvitals {

// Refers to a node of a YamlDocument, which must outlive it.
struct ConfigField {
  const YamlNode& node;
  std::string path;  // connections.limits.groups; of a key: the path of its map

  ConfigField child(std::string_view key, const YamlNode& value) const;

  // `7:13: connections.limits.groups: "-1": expected ...`, on one line whatever the file has there.
  Error error(std::string_view what) const;
};

// Calls use(key, value), both fields, for each entry of a map. No value at all is an empty map: a
// key with all below it commented out. A key that stands there twice is an error.
template <typename Use>
Result<void> for_each_entry(const ConfigField& map, Use use) {
  if (map.node.kind == YamlNode::Kind::kNull) return {};
  if (map.node.kind != YamlNode::Kind::kMap) return map.error("expected a map");
  std::map<std::string_view, int> lines;
  for (std::size_t i = 0; i + 1 < map.node.items.size(); i += 2) {
    const ConfigField key{*map.node.items[i], map.path};
    if (key.node.kind != YamlNode::Kind::kScalar) return key.error("expected a key");
    const auto [first, is_new] = lines.emplace(key.node.text, key.node.line);
    if (!is_new) return key.error(fmt::format("a second time; first in line {}", first->second));
    const ConfigField value = map.child(key.node.text, *map.node.items[i + 1]);
    if (auto used = use(key, value); !used) return used;
  }
  return {};
}

// The value under a key of a map; the map itself, if it does not have it.
ConfigField value_of(const ConfigField& map, std::string_view key);
bool has_value(const ConfigField& map, std::string_view key);

// Calls use(value) for a single value, or for each of a list of them.
template <typename Use>
Result<void> for_each_value(const ConfigField& field, Use use) {
  if (field.node.kind != YamlNode::Kind::kList) return use(field);
  if (field.node.items.empty()) return field.error("expected at least one value in it");
  for (const YamlNode* item : field.node.items) {
    if (auto used = use(ConfigField{*item, field.path}); !used) return used;
  }
  return {};
}

// Calls use(row), of the row whose `key` is the text of `field`.
template <typename Rows, typename Use>
Result<void> for_row_of(const ConfigField& field, const Rows& rows, Use use) {
  std::string keys;
  for (const auto& row : rows) {
    if (row.key == field.node.text) return use(row);
    keys += fmt::format("{}{}", keys.empty() ? "" : ", ", row.key);
  }
  return field.error("expected one of " + keys);
}

// Calls use(row, value) for each entry of a map of which each key must be the `key` of a row.
template <typename Rows, typename Use>
Result<void> for_each_row(const ConfigField& map, const Rows& rows, Use use) {
  return for_each_entry(map, [&](const ConfigField& key, const ConfigField& value) {
    return for_row_of(key, rows, [&](const auto& row) { return use(row, value); });
  });
}

// A key of a map, and how its value gets into the T.
template <typename T>
struct ConfigKey {
  std::string_view key;
  Result<void> (*read)(const ConfigField& field, T& out);
};

template <typename T, std::size_t n>
Result<void> read_keys(const ConfigField& map, const ConfigKey<T> (&keys)[n], T& out) {
  return for_each_row(map, keys, [&](const ConfigKey<T>& row, const ConfigField& value) {
    return row.read(value, out);
  });
}

// Readers of one value. On error `out` is unchanged.

template <typename T>
Result<void> read_number(const ConfigField& field, T lowest, T highest, T& out) {
  const std::string& text = field.node.text;
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool whole = error == std::errc() && end == text.data() + text.size();
  if (!whole || !(value >= lowest && value <= highest)) {
    return field.error(fmt::format("expected a number from {} to {}", lowest, highest));
  }
  out = value;
  return {};
}

Result<void> read_flag(const ConfigField& field, bool& out);
Result<void> read_prefix(const ConfigField& field, IpPrefix& out);
// "443" or "8000-8099".
Result<void> read_port_range(const ConfigField& field, PortRange& out);
// As Prometheus writes them, in whole seconds: "90s", "1h30m"; from 1s to 1y.
Result<void> read_duration(const ConfigField& field, std::chrono::seconds& out);

// Whether a key may be the value of a label: 1 to 64 letters, digits, `_`, `.` and `-`, and none of
// those that mean something else.
Result<void> check_name(const ConfigField& key, std::span<const std::string_view> reserved);

}  // namespace tcpvitals
