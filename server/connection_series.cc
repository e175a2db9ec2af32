#include "server/connection_series.h"

#include <algorithm>

namespace tcpvitals {
namespace {

constexpr Clock::duration kHour = std::chrono::hours(1);

std::size_t at_once(const ConnectionSeriesOptions& options) {
  return std::min(options.slots, (options.new_per_hour + 1) / 2);
}

// In any hour come at most what the bucket holds and what flows in: new_per_hour together.
Clock::duration token_interval(const ConnectionSeriesOptions& options) {
  return kHour / std::max<std::size_t>(1, options.new_per_hour - at_once(options));
}

bool has(const std::vector<std::uint64_t>& ids, std::uint64_t id) {
  return std::binary_search(ids.begin(), ids.end(), id);
}

}  // namespace

ConnectionSeries::ConnectionSeries(const ConnectionSeriesOptions& options)
    : options_(options),
      interval_(token_interval(options)),
      bucket_(interval_ * at_once(options)) {}

std::vector<std::uint64_t> ConnectionSeries::ids() const {
  const std::lock_guard lock(mutex_);
  return ids_;
}

std::vector<ConnectionReport> ConnectionSeries::choose(const std::vector<std::uint64_t>& held,
                                                       const std::vector<ConnectionReport>& live,
                                                       TimePoint now) {
  const std::lock_guard lock(mutex_);
  now_ = std::max(now_, now);
  std::erase_if(ids_, [&](std::uint64_t id) {
    const auto is_it = [&](const ConnectionReport& report) { return report.id == id; };
    return has(held, id) && std::none_of(live.begin(), live.end(), is_it);
  });
  std::vector<ConnectionReport> chosen;
  for (const ConnectionReport& report : live) {
    const bool qualifies = report.age >= options_.lowest_age && ids_.size() < options_.slots;
    if (!has(ids_, report.id)) {
      if (!qualifies || !take_id()) continue;
      ids_.insert(std::upper_bound(ids_.begin(), ids_.end(), report.id), report.id);
    }
    chosen.push_back(report);
  }
  return chosen;
}

bool ConnectionSeries::take_id() {
  const TimePoint full_at = std::max(full_at_, now_) + interval_;
  if (full_at - now_ > bucket_) return false;
  full_at_ = full_at;
  return true;
}

}  // namespace tcpvitals
