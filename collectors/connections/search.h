// ConnectionSearch: the `top` of all connections that match a query, while a dump goes by.
//
// Holds no more than `top` of them, in full; of the others only how many there were. Not
// thread-safe: the sampler's thread only.
#pragma once

#include <absl/container/flat_hash_map.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "collectors/attribution/groups.h"
#include "collectors/connections/search_request.h"
#include "collectors/connections/snapshot.h"
#include "collectors/connections/tracker.h"

namespace tcpvitals {

class ConnectionSearch {
 public:
  explicit ConnectionSearch(SearchRequest query) : query_(std::move(query)) {}

  // One row of the dump. `found`: what the tracker knows of it. `labels` tells those of a key.
  void consider(const SocketRow& row, const Tracker::Known& found, TimePoint now,
                const std::function<GroupLabels(const GroupKey&)>& labels);

  SearchResult take();

 private:
  struct Candidate {
    std::uint64_t rank;  // the highest is wanted
    FoundConnection detail;
  };
  static bool ranks_higher(const Candidate& a, const Candidate& b);

  struct Matched {
    bool wanted;
    GroupLabels labels;
  };
  const Matched& match(const Tracker::Known& found,
                       const std::function<GroupLabels(const GroupKey&)>& labels);

  SearchRequest query_;
  absl::flat_hash_map<std::pair<GroupKey, Direction>, Matched> known_;
  std::vector<Candidate> top_;  // a heap: the lowest in front
  std::size_t matched_ = 0;
};

}  // namespace tcpvitals
