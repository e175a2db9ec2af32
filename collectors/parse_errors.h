// ParseErrors: what of the kernel's text could not be read or parsed. Only that is left out of a
// scrape; it is counted, and the log names one of it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/clock.h"

namespace tcpvitals {

// Of one parse or one scrape. Bounded, however much is wrong.
struct ParseErrors {
  std::uint64_t count = 0;
  std::string first;  // file, line, field and value: "net/snmp: line 2: OutSegs: \"x\" is no count"

  void add(std::string what);
  // Those of one file, or of one namespace, whose name comes first in the text.
  void add(const ParseErrors& others, std::string_view context);
};

// A record, and what of the text is not in it. A parser of the kernel's text always has one.
template <typename Record>
struct Parsed {
  Record record{};
  ParseErrors errors;
};

// Of one collector, over all scrapes. Not thread-safe.
class ParseErrorTotal {
 public:
  // Counts them, and logs the first of them, once an hour at most.
  void add(std::string_view collector, const ParseErrors& errors, TimePoint now);

  std::uint64_t count() const { return count_; }

 private:
  std::uint64_t count_ = 0;
  TimePoint next_line_{};
};

}  // namespace tcpvitals
