#include "collectors/parse_errors.h"

#include <utility>

#include "base/log.h"

namespace tcpvitals {

void ParseErrors::add(std::string what) {
  if (count++ == 0) first = std::move(what);
}

void ParseErrors::add(const ParseErrors& others, std::string_view context) {
  if (count == 0 && others.count > 0) first = std::string(context) + ": " + others.first;
  count += others.count;
}

void ParseErrorTotal::add(std::string_view collector, const ParseErrors& errors, TimePoint now) {
  count_ += errors.count;
  if (errors.count == 0 || now < next_line_) return;
  next_line_ = now + std::chrono::hours(1);
  log_warn("part of the kernel's files was left out", {{"collector", std::string(collector)},
                                                       {"parts", std::to_string(errors.count)},
                                                       {"first", errors.first}});
}

}  // namespace tcpvitals
