// SamplerRequests: what other threads ask of the sampler's, and how each waits for its answer. The
// only state that the sampler shares.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <future>
#include <memory>
#include <mutex>
#include <vector>

#include "base/clock.h"
#include "base/fd.h"
#include "base/result.h"
#include "collectors/connections/config.h"
#include "collectors/connections/search.h"
#include "collectors/connections/search_request.h"
#include "collectors/connections/snapshot.h"

namespace tcpvitals {

using SnapshotResult = Result<std::shared_ptr<const Snapshot>>;

struct ReconfigurationRequest {
  ConnectionsConfig config;
  std::promise<Result<void>> done;
};

struct PendingSearch {
  ConnectionSearch search;
  std::promise<Result<SearchResult>> done;
};

using PendingSearches = std::vector<std::unique_ptr<PendingSearch>>;

class SamplerRequests {
 public:
  SamplerRequests();

  // Any thread; see Sampler.
  SnapshotResult sample(TimePoint deadline);
  Result<void> reconfigure(ConnectionsConfig config, TimePoint deadline);
  Result<SearchResult> search(const SearchRequest& request, TimePoint deadline);

  // Any thread: fd() becomes readable, as it does with every request.
  void wake();

  // All below: the sampler's thread.
  int fd() const { return wake_.get(); }
  void woken();
  bool wants_sample();
  bool wants_search();
  std::unique_ptr<ReconfigurationRequest> take_reconfiguration();  // null: none
  PendingSearches take_searches();

  // To all that have asked for a sample by now.
  void answer(SnapshotResult result);

 private:
  Fd wake_;
  std::mutex mutex_;  // of all below
  std::condition_variable answered_changed_;
  std::uint64_t asked_ = 0;
  std::uint64_t answered_ = 0;
  SnapshotResult latest_;
  std::unique_ptr<ReconfigurationRequest> reconfiguration_;
  PendingSearches searches_;
};

}  // namespace tcpvitals
