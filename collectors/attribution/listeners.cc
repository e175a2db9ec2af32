#include "collectors/attribution/listeners.h"

#include <sys/socket.h>

#include <algorithm>
#include <tuple>

namespace tcpvitals {
namespace {

IpAddress any_v4() {
  constexpr std::array<std::uint8_t, 4> kZero{};
  return IpAddress::v4(kZero.data());
}

bool by_port_first(const Listener& a, const Listener& b) {
  return std::tie(a.endpoint.port, a.endpoint.address) <
         std::tie(b.endpoint.port, b.endpoint.address);
}

}  // namespace

bool AcceptQueue::fuller_than(const AcceptQueue& other) const {
  const std::uint64_t ours = std::uint64_t{length} * (std::uint64_t{other.limit} + 1);
  const std::uint64_t theirs = std::uint64_t{other.length} * (std::uint64_t{limit} + 1);
  return ours != theirs ? ours > theirs : limit < other.limit;
}

Listener& Listener::operator+=(const Listener& other) {
  sockets += other.sockets;
  queue_full += other.queue_full;
  if (other.queue.fuller_than(queue)) queue = other.queue;
  if (other.peak.fuller_than(peak)) peak = other.peak;
  return *this;
}

void ListenerTable::begin() {
  for (Entry& e : entries_) {
    e.seen = 0;
    e.seen_full = 0;
  }
  new_order_.clear();
}

std::uint32_t ListenerTable::find_or_add(const Endpoint& endpoint) {
  const auto next = static_cast<std::uint32_t>(entries_.size());
  const auto [known, is_new] = by_endpoint_.try_emplace(endpoint, next);
  if (is_new) {
    entries_.emplace_back().listener.endpoint = endpoint;
    ports_.set(endpoint.port);
  }
  return known->second;
}

void ListenerTable::add(const SocketRow& row) {
  const Endpoint endpoint{row.local_address(), row.local_port};
  const std::size_t place = new_order_.size();
  const bool as_before =
      place < order_.size() && entries_[order_[place]].listener.endpoint == endpoint;
  const std::uint32_t index = as_before ? order_[place] : find_or_add(endpoint);
  new_order_.push_back(index);
  Entry& e = entries_[index];
  const bool first = e.seen == 0;
  e.listener.takes_v4 = (!first && e.listener.takes_v4) || row.family == AF_INET || !row.v6only;
  e.listener.takes_v6 = (!first && e.listener.takes_v6) || row.family == AF_INET6;
  e.listener.cgroup_id = row.cgroup_id;
  const AcceptQueue queue{row.receive_queue, row.send_queue};
  if (first || queue.fuller_than(e.seen_queue)) e.seen_queue = queue;
  ++e.seen;
  e.seen_full += queue.full() ? 1 : 0;
}

void ListenerTable::commit(TimePoint now, Look look) {
  rotate_peaks(now);
  order_.swap(new_order_);
  open_ = 0;
  for (Entry& e : entries_) {
    e.open = e.seen > 0;
    if (!e.open) continue;
    ++open_;
    e.last_open = now;
    e.listener.sockets = e.seen;
    e.listener.queue = e.seen_queue;
    if (look == Look::kRegular) e.listener.queue_full += e.seen_full;
    AcceptQueue& peak = e.peaks[slot_];
    if (e.seen_queue.fuller_than(peak)) peak = e.seen_queue;
  }
  forget_closed(now);
}

void ListenerTable::rotate_peaks(TimePoint now) {
  if (now - slot_start_ < kPeakSlot) return;
  const auto passed = static_cast<std::size_t>((now - slot_start_) / kPeakSlot);
  for (std::size_t i = 0; i < std::min(passed, kPeakSlots); ++i) {
    slot_ = (slot_ + 1) % kPeakSlots;
    for (Entry& e : entries_) e.peaks[slot_] = {};
  }
  slot_start_ = now;
}

void ListenerTable::forget_closed(TimePoint now) {
  while (!brief_order_.empty() && (brief_order_.size() > kMaxRemembered ||
                                   now - brief_.at(brief_order_.front()).closed > kRemembered)) {
    brief_.erase(brief_order_.front());
    brief_order_.pop_front();
  }
  const std::size_t closed = entries_.size() - open_;
  std::size_t too_many = closed - std::min(closed, kMaxRemembered);
  const auto forgotten = [&](const Entry& e) {
    if (e.open) return false;
    return now - e.last_open > kRemembered || (too_many > 0 && too_many-- > 0);
  };
  if (closed == 0 || std::erase_if(entries_, forgotten) == 0) return;
  by_endpoint_.clear();
  ports_.reset();
  order_.clear();  // it points to where entries were
  for (const Entry& e : entries_) {
    by_endpoint_.emplace(e.listener.endpoint, static_cast<std::uint32_t>(by_endpoint_.size()));
    ports_.set(e.listener.endpoint.port);
  }
}

void ListenerTable::closed(const SocketRow& event, TimePoint now) {
  const Endpoint endpoint{event.local_address(), event.local_port};
  if (by_endpoint_.contains(endpoint)) return;
  const auto [brief, is_new] = brief_.try_emplace(endpoint);
  brief->second.v4 |= event.family == AF_INET || endpoint.address.is_any();
  brief->second.v6 |= event.family == AF_INET6;
  if (!is_new) return;
  brief->second.closed = now;
  brief_order_.push_back(endpoint);
  if (brief_order_.size() > kMaxRemembered) {
    brief_.erase(brief_order_.front());
    brief_order_.pop_front();
  }
}

// Where a connection to `local` may have come in: that address, then the wildcards.
template <typename Found>
bool first_of(const IpAddress& local, std::uint16_t port, const Found& found) {
  return found(Endpoint{local, port}) || (local.is_v4() && found(Endpoint{any_v4(), port})) ||
         found(Endpoint{IpAddress{}, port});
}

const Listener* ListenerTable::find(const IpAddress& local, std::uint16_t port) const {
  if (!ports_.test(port)) return nullptr;
  const Listener* listener = nullptr;
  first_of(local, port, [&](const Endpoint& endpoint) {
    const auto known = by_endpoint_.find(endpoint);
    if (known == by_endpoint_.end()) return false;
    const Listener& l = entries_[known->second].listener;
    if (endpoint.address == local || (local.is_v4() ? l.takes_v4 : l.takes_v6)) listener = &l;
    return listener != nullptr;
  });
  return listener;
}

bool ListenerTable::listens(const IpAddress& local, std::uint16_t port) const {
  return find(local, port) != nullptr;
}

bool ListenerTable::may_have_listened(const IpAddress& local, std::uint16_t port) const {
  return first_of(local, port, [&](const Endpoint& endpoint) {
    const auto brief = brief_.find(endpoint);
    if (brief == brief_.end()) return false;
    return endpoint.address == local || (local.is_v4() ? brief->second.v4 : brief->second.v6);
  });
}

std::uint64_t ListenerTable::cgroup_id(const IpAddress& local, std::uint16_t port) const {
  const Listener* listener = find(local, port);
  return listener == nullptr ? 0 : listener->cgroup_id;
}

std::vector<Listener> ListenerTable::open() const {
  std::vector<Listener> listeners;
  listeners.reserve(open_);
  for (const Entry& e : entries_) {
    if (!e.open) continue;
    Listener& l = listeners.emplace_back(e.listener);
    l.peak = l.queue;
    for (const AcceptQueue& peak : e.peaks) {
      if (peak.length > 0 && peak.fuller_than(l.peak)) l.peak = peak;
    }
  }
  std::sort(listeners.begin(), listeners.end(), by_port_first);
  return listeners;
}

}  // namespace tcpvitals
