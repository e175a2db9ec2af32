#include "collectors/connections/sampler_requests.h"

#include <sys/eventfd.h>

#include <utility>

#include "base/log.h"
#include "collectors/connections/pace.h"

namespace tcpvitals {

SamplerRequests::SamplerRequests()
    : wake_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)), latest_(Error{"no sample yet"}) {}

SnapshotResult SamplerRequests::sample(TimePoint deadline) {
  std::unique_lock lock(mutex_);
  const std::uint64_t ticket = ++asked_;
  wake();
  const TimePoint until = answer_by(Clock::now(), deadline);
  const bool answered =
      answered_changed_.wait_until(lock, until, [&] { return answered_ >= ticket; });
  if (!answered && !latest_) return Error{"the sample was not complete before the deadline"};
  return latest_;
}

Result<void> SamplerRequests::reconfigure(ConnectionsConfig config, TimePoint deadline) {
  auto asked = std::make_unique<ReconfigurationRequest>();
  asked->config = std::move(config);
  auto done = asked->done.get_future();
  const ReconfigurationRequest* const ours = asked.get();
  {
    const std::lock_guard lock(mutex_);
    if (reconfiguration_) return Error{"another configuration is about to be applied"};
    reconfiguration_ = std::move(asked);
  }
  wake();
  if (done.wait_until(deadline) == std::future_status::ready) return done.get();
  const std::lock_guard lock(mutex_);
  if (reconfiguration_.get() == ours) {
    reconfiguration_.reset();
    return Error{"the sampler did not take the configuration in time"};
  }
  log_warn("the first sample by the new configuration is not complete yet");
  return {};
}

Result<SearchResult> SamplerRequests::search(const SearchRequest& request, TimePoint deadline) {
  auto asked = std::make_unique<PendingSearch>(PendingSearch{ConnectionSearch(request), {}});
  auto done = asked->done.get_future();
  const PendingSearch* const ours = asked.get();
  {
    const std::lock_guard lock(mutex_);
    searches_.push_back(std::move(asked));
  }
  wake();
  if (done.wait_until(deadline) == std::future_status::ready) return done.get();
  // Else clients that give up at once would leave searches for each row of the next dump.
  const std::lock_guard lock(mutex_);
  std::erase_if(searches_, [&](const auto& search) { return search.get() == ours; });
  return Error{"the dump was not complete before the deadline"};
}

void SamplerRequests::wake() { ::eventfd_write(wake_.get(), 1); }

void SamplerRequests::woken() {
  eventfd_t ignored;
  ::eventfd_read(wake_.get(), &ignored);
}

bool SamplerRequests::wants_sample() {
  const std::lock_guard lock(mutex_);
  return asked_ != answered_;
}

bool SamplerRequests::wants_search() {
  const std::lock_guard lock(mutex_);
  return !searches_.empty();
}

std::unique_ptr<ReconfigurationRequest> SamplerRequests::take_reconfiguration() {
  const std::lock_guard lock(mutex_);
  return std::move(reconfiguration_);
}

PendingSearches SamplerRequests::take_searches() {
  const std::lock_guard lock(mutex_);
  return std::exchange(searches_, {});
}

void SamplerRequests::answer(SnapshotResult result) {
  {
    const std::lock_guard lock(mutex_);
    latest_ = std::move(result);
    answered_ = asked_;
  }
  answered_changed_.notify_all();
}

}  // namespace tcpvitals
