#include "collectors/host/local_ports.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "collectors/host/proc_text.h"

namespace tcpvitals {
namespace {

std::optional<double> number(std::string_view text) {
  const auto count = parse_count(text);
  return count ? std::optional(*count) : std::nullopt;
}

// "8080" or "9148-9150".
std::optional<PortRange> parse_span(std::string_view text) {
  const std::size_t dash = text.find('-');
  const std::string_view last = dash == std::string_view::npos ? text : text.substr(dash + 1);
  return port_range(std::array{number(text.substr(0, dash)), number(last)});
}

}  // namespace

bool LocalPorts::contains(std::uint16_t port) const {
  if (!range.contains(port)) return false;
  return std::none_of(reserved.begin(), reserved.end(),
                      [&](const PortRange& r) { return r.contains(port); });
}

std::size_t LocalPorts::size() const {
  std::size_t ports = std::size_t{range.last} - range.first + 1;
  for (const PortRange& r : reserved) {
    const std::uint16_t first = std::max(r.first, range.first);
    const std::uint16_t last = std::min(r.last, range.last);
    if (first <= last) ports -= std::size_t{last} - first + 1;
  }
  return ports;
}

std::optional<PortRange> port_range(std::span<const std::optional<double>> numbers) {
  if (numbers.size() != 2 || !numbers[0] || !numbers[1]) return std::nullopt;
  const double first = *numbers[0];
  const double last = *numbers[1];
  if (first < 0 || last < first || last > 65'535) return std::nullopt;
  return PortRange{static_cast<std::uint16_t>(first), static_cast<std::uint16_t>(last)};
}

Parsed<std::vector<PortRange>> parse_port_list(std::string_view text) {
  Parsed<std::vector<PortRange>> parsed;
  if (!text.ends_with('\n')) parsed.errors.add("cut off before its end");
  std::string_view rest = text.substr(0, text.find('\n'));
  while (!rest.empty()) {
    const std::string_view span = rest.substr(0, rest.find(','));
    rest.remove_prefix(std::min(span.size() + 1, rest.size()));
    const auto range = parse_span(span);
    if (range && (parsed.record.empty() || parsed.record.back().last < range->first)) {
      parsed.record.push_back(*range);
    } else {
      parsed.errors.add(fmt::format("\"{:.32}\" is no port and no range of ports", span));
    }
  }
  return parsed;
}

}  // namespace tcpvitals
