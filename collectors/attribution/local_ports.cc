#include "collectors/attribution/local_ports.h"

#include <algorithm>
#include <charconv>
#include <optional>

namespace tcpvitals {
namespace {

constexpr std::string_view kBlank = " \t\n";

// Takes one number off the front of `text`.
std::optional<std::uint16_t> take_port(std::string_view& text) {
  std::uint16_t port = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  if (error != std::errc()) return std::nullopt;
  text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  return port;
}

bool take(std::string_view& text, char c) {
  if (!text.starts_with(c)) return false;
  text.remove_prefix(1);
  return true;
}

void skip_blanks(std::string_view& text) {
  text.remove_prefix(std::min(text.size(), text.find_first_not_of(kBlank)));
}

Result<PortRange> parse_range(std::string_view text) {
  skip_blanks(text);
  const auto first = take_port(text);
  skip_blanks(text);
  const auto last = take_port(text);
  skip_blanks(text);
  if (!first || !last || !text.empty() || *last < *first) {
    return Error{"ip_local_port_range: not two ports, the lower one first"};
  }
  return PortRange{*first, *last};
}

Result<std::vector<PortRange>> parse_reserved(std::string_view text) {
  std::vector<PortRange> reserved;
  skip_blanks(text);
  while (!text.empty()) {
    const auto first = take_port(text);
    const auto last = first && take(text, '-') ? take_port(text) : first;
    const bool in_order =
        first && last && *first <= *last && (reserved.empty() || reserved.back().last < *first);
    if (!in_order) return Error{"ip_local_reserved_ports: not an ascending list of ports"};
    reserved.push_back({*first, *last});
    if (!take(text, ',')) {
      skip_blanks(text);
      if (!text.empty()) return Error{"ip_local_reserved_ports: no comma between two ports"};
    }
  }
  return reserved;
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

Result<LocalPorts> parse_local_ports(std::string_view range, std::string_view reserved) {
  auto ports = parse_range(range);
  if (!ports) return std::move(ports.error());
  auto without = parse_reserved(reserved);
  if (!without) return std::move(without.error());
  return LocalPorts{*ports, std::move(*without)};
}

}  // namespace tcpvitals
