#include "agent/config/config_field.h"

#include <cstdint>
#include <nlohmann/json.hpp>
#include <utility>

namespace tcpvitals {
namespace {

std::string shown(const YamlNode& node) {
  constexpr std::size_t kLongest = 60;
  switch (node.kind) {
    case YamlNode::Kind::kNull:
      return "nothing";
    case YamlNode::Kind::kList:
      return "a list";
    case YamlNode::Kind::kMap:
      return "a map";
    case YamlNode::Kind::kScalar:
      break;
  }
  std::string text = node.text.substr(0, kLongest);
  if (text.size() < node.text.size()) text += "...";
  return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

bool parse_port(std::string_view text, std::uint16_t& out) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  return error == std::errc() && end == text.data() + text.size() && out != 0;
}

}  // namespace

ConfigField ConfigField::child(std::string_view key, const YamlNode& value) const {
  return {value, path.empty() ? std::string(key) : fmt::format("{}.{}", path, key)};
}

Error ConfigField::error(std::string_view what) const {
  return {fmt::format("{}:{}: {}{}{}: {}", node.line, node.column, path, path.empty() ? "" : ": ",
                      shown(node), what)};
}

ConfigField value_of(const ConfigField& map, std::string_view key) {
  for (std::size_t i = 0; i + 1 < map.node.items.size(); i += 2) {
    if (map.node.items[i]->text == key) return map.child(key, *map.node.items[i + 1]);
  }
  return map;
}

bool has_value(const ConfigField& map, std::string_view key) {
  return &value_of(map, key).node != &map.node;
}

// Only a scalar has text, so that the readers refuse lists, maps and nothing without asking.

Result<void> read_flag(const ConfigField& field, bool& out) {
  const std::string& text = field.node.text;
  if (text != "true" && text != "false") return field.error("expected true or false");
  out = text == "true";
  return {};
}

Result<void> read_prefix(const ConfigField& field, IpPrefix& out) {
  const std::string& text = field.node.text;
  const auto prefix = parse_ip_prefix(text);
  if (!prefix) return field.error("expected a prefix such as 10.0.0.0/8 or fc00::/7");
  if (*parse_ip_address(text.substr(0, text.find('/'))) != prefix->address) {
    return field.error("bits are set past its length: expected " + to_string(*prefix));
  }
  out = *prefix;
  return {};
}

Result<void> read_port_range(const ConfigField& field, PortRange& out) {
  const std::string_view text = field.node.text;
  const auto dash = text.find('-');
  const bool is_range = dash != std::string_view::npos;
  PortRange range;
  if (!parse_port(text.substr(0, dash), range.first) ||
      !parse_port(is_range ? text.substr(dash + 1) : text, range.last)) {
    return field.error("expected a port from 1 to 65535, or a range such as 8000-8099");
  }
  if (range.first > range.last) {
    return field.error(
        fmt::format("ends before it begins: expected {}-{}", range.last, range.first));
  }
  out = range;
  return {};
}

Result<void> read_duration(const ConfigField& field, std::chrono::seconds& out) {
  constexpr std::int64_t kDay = 86'400;
  constexpr std::int64_t kYear = 365 * kDay;
  constexpr std::pair<char, std::int64_t> kUnits[] = {{'y', kYear}, {'w', 7 * kDay}, {'d', kDay},
                                                      {'h', 3600},  {'m', 60},       {'s', 1}};
  const std::string& text = field.node.text;
  const char* const end = text.data() + text.size();
  const char* rest = text.data();
  std::int64_t total = 0;
  for (const auto& [unit, size] : kUnits) {  // each at most once, the larger first
    std::uint32_t count = 0;
    const auto number = std::from_chars(rest, end, count);
    if (number.ec != std::errc() || number.ptr == end || *number.ptr != unit) continue;
    total += count * size;
    rest = number.ptr + 1;
  }
  if (rest != end || total < 1 || total > kYear) {
    return field.error("expected a duration from 1s to 1y, such as 90s, 5m or 1h30m");
  }
  out = std::chrono::seconds(total);
  return {};
}

Result<void> check_name(const ConfigField& key, std::span<const std::string_view> reserved) {
  constexpr std::size_t kLongest = 64;
  constexpr std::string_view kAllowed =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-";
  const std::string& name = key.node.text;
  if (name.empty() || name.size() > kLongest ||
      name.find_first_not_of(kAllowed) != std::string::npos) {
    return key.error(
        fmt::format("expected a name of 1 to {} letters, digits, _ . and -", kLongest));
  }
  if (std::find(reserved.begin(), reserved.end(), name) != reserved.end()) {
    return key.error("a name with a meaning of its own: expected another");
  }
  return {};
}

}  // namespace tcpvitals
