#include "collectors/attribution/cgroup_name.h"

#include <utility>

namespace tcpvitals {
namespace {

constexpr std::size_t kMaxName = 64;
constexpr std::size_t kShortId = 12;  // as `docker ps` shows it

constexpr std::string_view kHex = "0123456789abcdef";
constexpr std::string_view kDigits = "0123456789";

// Calls use(piece) for each piece between separators, empty ones left out.
template <typename Use>
void split(std::string_view text, char separator, Use use) {
  for (;;) {
    const auto end = text.find(separator);
    if (const auto piece = text.substr(0, end); !piece.empty()) use(piece);
    if (end == std::string_view::npos) return;
    text.remove_prefix(end + 1);
  }
}

bool strip_suffix(std::string_view& text, std::string_view suffix) {
  if (!text.ends_with(suffix)) return false;
  text.remove_suffix(suffix.size());
  return true;
}

bool all_of(std::string_view text, std::string_view characters) {
  return !text.empty() && text.find_first_not_of(characters) == std::string_view::npos;
}

// "docker-<64 hex>.scope", "<64 hex>", "...slice:cri-containerd:<64 hex>", and "<32 hex>-<digits>"
// of ECS: the first characters of the id; empty: none of them.
std::string_view container_id(std::string_view component) {
  if (!strip_suffix(component, ".scope")) strip_suffix(component, ".slice");
  const auto last = component.find_last_of("-:_");
  const std::string_view id = component.substr(last == std::string_view::npos ? 0 : last + 1);
  if (id.size() == 64 && all_of(id, kHex)) return id.substr(0, kShortId);
  const std::string_view task = component.substr(0, 32);
  if (last == 32 && all_of(task, kHex) && all_of(id, kDigits)) return task.substr(0, kShortId);
  return {};
}

bool is_unit(std::string_view component) {
  return component.ends_with(".service") || component.ends_with(".scope") ||
         component.ends_with(".socket") || component.ends_with(".mount") ||
         component.ends_with(".swap");
}

// Whether a unit only parts its slice or its manager from the rest of itself.
bool is_inner(std::string_view unit, std::string_view parent) {
  if (unit.starts_with("session-") && parent.starts_with("user-")) return true;
  return unit == "init.scope" && parent.starts_with("user@");
}

// "sshd@7-192.0.2.1:22-198.51.100.7:40000.service": "sshd@.service".
std::string without_addresses(std::string_view unit) {
  const auto at = unit.find('@');
  if (at == std::string_view::npos || unit.find(':', at) == std::string_view::npos) {
    return std::string(unit);
  }
  const auto number_end = unit.find_first_not_of(kDigits, at + 1);
  if (number_end == at + 1 || unit[number_end] != '-') return std::string(unit);
  return std::string(unit.substr(0, at + 1)).append(unit.substr(unit.rfind('.')));
}

int hex_digit(char c) {
  const auto digit = kHex.find(c);
  return digit == std::string_view::npos ? -1 : static_cast<int>(digit);
}

// systemd writes what a unit's name may not hold as \x2d.
std::string unescaped(std::string_view text) {
  std::string plain;
  while (!text.empty()) {
    const int high = text.size() >= 4 && text.starts_with("\\x") ? hex_digit(text[2]) : -1;
    const int low = high >= 0 ? hex_digit(text[3]) : -1;
    plain += low >= 0 ? static_cast<char>(high << 4 | low) : text.front();
    text.remove_prefix(low >= 0 ? 4 : 1);
  }
  return plain;
}

std::string label_value(std::string_view name) {
  std::string value = unescaped(name);
  for (char& c : value) {
    if (c < ' ' || c > '~') c = '_';  // bytes above 0x7f are below zero
  }
  // The innermost part tells more.
  if (value.size() > kMaxName) value.erase(0, value.size() - kMaxName);
  return value;
}

}  // namespace

std::string short_cgroup_name(std::string_view path) {
  std::string name;
  std::string_view parent;
  bool in_container = false;
  split(path, '/', [&](std::string_view component) {
    const std::string_view outer = std::exchange(parent, component);
    if (const auto id = container_id(component); !id.empty()) {
      name = id;
      in_container = true;
    } else if (in_container) {
      return;  // its own units are not the host's
    } else if (outer == "lxc" || outer == "lxc.payload") {
      name = "lxc/" + std::string(component);
      in_container = true;
    } else if (component.starts_with("lxc.payload.")) {
      name = "lxc/" + std::string(component.substr(std::string_view("lxc.payload.").size()));
      in_container = true;
    } else if (component == "payload" && is_unit(name)) {
      in_container = true;  // of systemd-nspawn, whose unit is its name
    } else if (is_unit(component)) {
      if (!is_inner(component, outer)) name = without_addresses(component);
    } else if (component.ends_with(".slice") && !is_unit(name)) {
      name = component;
    }
  });
  return label_value(name.empty() ? path : name);
}

}  // namespace tcpvitals
