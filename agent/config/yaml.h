// A YAML file as a plain tree in which every value knows where it stands. The library that reads it
// is known to yaml.cc alone.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace tcpvitals {

struct YamlNode {
  enum class Kind : std::uint8_t { kNull, kScalar, kList, kMap };

  Kind kind = Kind::kNull;
  int line = 1;  // both from 1; nothing stands where its key does, or the list it is in begins
  int column = 1;
  std::string text;                    // of a scalar, without its quotes; empty for all others
  std::vector<const YamlNode*> items;  // of a list; of a map: key, value, key, value, ...
};

// Owns its nodes. What an alias stands for is one node, seen from several places, so a file cannot
// grow by naming itself; it may even contain itself: whoever walks the tree ends by its own shape.
class YamlDocument {
 public:
  const YamlNode& root() const { return nodes_.front(); }

 private:
  friend class YamlBuilder;
  std::deque<YamlNode> nodes_;  // never moved: they point at each other
};

inline constexpr std::size_t kMaxYamlBytes = 1 << 20;
inline constexpr std::size_t kMaxYamlDepth = 32;

// Text without any value is one null. Refused besides what is not YAML: text that is not UTF-8 or
// has control characters or tabs as indentation, tags, a second document, and what is over a bound.
// An error begins with its place, `7:13: `, line and column.
Result<YamlDocument> parse_yaml(std::string_view text);

}  // namespace tcpvitals
