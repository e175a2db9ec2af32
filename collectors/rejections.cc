#include "collectors/rejections.h"

#include <fmt/format.h>

#include "base/log.h"

namespace tcpvitals {
namespace {

std::vector<std::string> names_of(const prometheus::MetricFamily& family) {
  std::vector<std::string> names{family.name};
  if (family.type == prometheus::MetricType::Histogram) {
    for (const char* part : {"_bucket", "_sum", "_count"}) names.push_back(family.name + part);
  }
  return names;
}

}  // namespace

bool MetricNames::claim_one(const prometheus::MetricFamily& family, std::string_view owner,
                            std::vector<std::string>& rejected) {
  const std::vector<std::string> names = names_of(family);
  for (const std::string& name : names) {
    const auto taken = owners_.find(name);
    if (taken == owners_.end()) continue;
    rejected.push_back(
        fmt::format("{}: {} already comes from {}", family.name, name, taken->second));
    return false;
  }
  for (const std::string& name : names) owners_.emplace(name, owner);
  return true;
}

void Rejections::add(std::string_view collector, std::span<const std::string> rejected,
                     TimePoint now) {
  total_ += rejected.size();
  if (rejected.empty() || now < next_line_) return;
  next_line_ = now + std::chrono::minutes(1);
  log_warn("metrics were left out of a scrape", {{"collector", std::string(collector)},
                                                 {"metrics", std::to_string(rejected.size())},
                                                 {"first", rejected.front()}});
}

}  // namespace tcpvitals
