#include "collectors/connections/search.h"

#include <algorithm>
#include <utility>

#include "collectors/sock_diag/socket_detail.h"

namespace tcpvitals {
namespace {

std::uint64_t rank_of(SearchRequest::Sort sort, const SocketRow& row, TimePoint first_seen) {
  const TcpInfo info = row.tcp_info().info;
  switch (sort) {
    case SearchRequest::Sort::kRetransmits:
      return info.total_retrans;
    case SearchRequest::Sort::kRtt:
      return info.rtt_us;
    case SearchRequest::Sort::kBytes:
      return info.bytes_sent + info.bytes_received;
    case SearchRequest::Sort::kSendQueue:
      return row.send_queue;
    case SearchRequest::Sort::kAge:
      return static_cast<std::uint64_t>((TimePoint::max() - first_seen).count());
  }
  return 0;
}

}  // namespace

bool ConnectionSearch::ranks_higher(const Candidate& a, const Candidate& b) {
  return a.rank > b.rank;
}

const ConnectionSearch::Matched& ConnectionSearch::match(
    const Tracker::Known& found, const std::function<GroupLabels(const GroupKey&)>& labels) {
  const auto known = known_.find({found.key, found.direction});
  if (known != known_.end()) return known->second;
  Matched matched{true, labels(found.key)};
  // What connections are not grouped by is known of each all the same.
  matched.labels.direction = to_string(found.direction);
  const auto wanted = [](const std::optional<std::string>& asked, const std::string& value) {
    return !asked || *asked == value;
  };
  matched.wanted = wanted(query_.direction, matched.labels.direction) &&
                   wanted(query_.port, matched.labels.port) &&
                   wanted(query_.peer, matched.labels.peer);
  return known_.emplace(std::pair{found.key, found.direction}, std::move(matched)).first->second;
}

void ConnectionSearch::consider(const SocketRow& row, const Tracker::Known& found, TimePoint now,
                                const std::function<GroupLabels(const GroupKey&)>& labels) {
  if (query_.state && *query_.state != row.state) return;
  const Matched& group = match(found, labels);
  if (!group.wanted) return;
  ++matched_;
  const std::uint64_t rank = rank_of(query_.sort, row, std::max(found.first_seen, TimePoint{}));
  if (top_.size() >= query_.top) {
    if (top_.empty() || rank <= top_.front().rank) return;
    std::pop_heap(top_.begin(), top_.end(), ranks_higher);
    top_.pop_back();
  }
  Candidate& added = top_.emplace_back(Candidate{rank, {}});
  added.detail.socket = read_detail(row);
  added.detail.direction = group.labels.direction;
  added.detail.port = group.labels.port;
  added.detail.peer = group.labels.peer;
  added.detail.cgroup = group.labels.cgroup;
  added.detail.netns = group.labels.netns;
  if (found.first_seen != TimePoint::min() && found.first_seen != TimePoint::max()) {
    added.detail.age_seconds = seconds(now - found.first_seen);
  }
  std::push_heap(top_.begin(), top_.end(), ranks_higher);
}

SearchResult ConnectionSearch::take() {
  std::sort_heap(top_.begin(), top_.end(), ranks_higher);
  SearchResult list;
  list.matched = matched_;
  list.connections.reserve(top_.size());
  for (Candidate& candidate : top_) list.connections.push_back(std::move(candidate.detail));
  return list;
}

}  // namespace tcpvitals
