#include "collectors/attribution/listeners.h"

#include <sys/socket.h>

#include <algorithm>
#include <tuple>

namespace tcpvitals {

bool ListenerTable::by_port_first(const Entry& e, const Endpoint& wanted) {
  const Endpoint& have = e.listener.endpoint;
  return std::tie(have.port, have.address) < std::tie(wanted.port, wanted.address);
}

bool Listener::accepts(const IpAddress& local, std::uint16_t port) const {
  if (port != endpoint.port) return false;
  if (!endpoint.address.is_any()) return local == endpoint.address;
  return local.is_v4() ? takes_v4 : takes_v6;
}

void ListenerTable::begin() {
  for (Entry& e : entries_) {
    e.seen = false;
    e.seen_length = 0;
    e.seen_limit = 0;
  }
}

ListenerTable::Entry& ListenerTable::find_or_add(const SocketRow& row) {
  const Endpoint endpoint{row.local_address(), row.local_port};
  auto it = std::lower_bound(entries_.begin(), entries_.end(), endpoint, by_port_first);
  if (it == entries_.end() || it->listener.endpoint != endpoint) {
    it = entries_.insert(it, Entry{});
    it->listener.endpoint = endpoint;
    ports_.set(endpoint.port);
  }
  it->listener.takes_v4 |= row.family == AF_INET || !row.v6only;
  it->listener.takes_v6 |= row.family == AF_INET6;
  return *it;
}

void ListenerTable::add(const SocketRow& row) {
  Entry& e = find_or_add(row);
  e.seen = true;
  e.seen_length += row.receive_queue;
  e.seen_limit += row.send_queue;
  e.listener.cgroup_id = row.cgroup_id;
}

void ListenerTable::closed(const SocketRow& event, TimePoint now) {
  const auto open = static_cast<std::size_t>(
      std::count_if(entries_.begin(), entries_.end(), [](const Entry& e) { return e.open; }));
  if (entries_.size() - open < kMaxClosed) find_or_add(event).last_open = now;
}

void ListenerTable::commit(TimePoint now) {
  rotate_peaks(now);
  for (Entry& e : entries_) {
    e.open = e.seen;
    e.listener.queue_length = e.seen_length;
    e.listener.queue_limit = e.seen_limit;
    if (!e.open) continue;
    e.last_open = now;
    if (e.listener.queue_length > 0 && e.listener.queue_length >= e.listener.queue_limit) {
      ++e.listener.queue_full;
    }
    e.peaks[slot_] = std::max(e.peaks[slot_], e.listener.queue_length);
    e.listener.queue_peak = *std::max_element(e.peaks.begin(), e.peaks.end());
  }
  const auto forgotten = [&](const Entry& e) { return !e.open && now - e.last_open > kRemembered; };
  if (std::none_of(entries_.begin(), entries_.end(), forgotten)) return;
  entries_.erase(std::remove_if(entries_.begin(), entries_.end(), forgotten), entries_.end());
  ports_.reset();
  for (const Entry& e : entries_) ports_.set(e.listener.endpoint.port);
}

void ListenerTable::rotate_peaks(TimePoint now) {
  if (now - slot_start_ < kPeakSlot) return;
  const auto passed = static_cast<std::size_t>((now - slot_start_) / kPeakSlot);
  for (std::size_t i = 0; i < std::min(passed, kPeakSlots); ++i) {
    slot_ = (slot_ + 1) % kPeakSlots;
    for (Entry& e : entries_) e.peaks[slot_] = 0;
  }
  slot_start_ = now;
}

const Listener* ListenerTable::find(const IpAddress& local, std::uint16_t port) const {
  if (!ports_.test(port)) return nullptr;
  const Endpoint first{IpAddress{}, port};
  for (auto it = std::lower_bound(entries_.begin(), entries_.end(), first, by_port_first);
       it != entries_.end() && it->listener.endpoint.port == port; ++it) {
    if (it->listener.accepts(local, port)) return &it->listener;
  }
  return nullptr;
}

bool ListenerTable::inbound(const IpAddress& local, std::uint16_t port) const {
  return find(local, port) != nullptr;
}

std::uint64_t ListenerTable::cgroup_id(const IpAddress& local, std::uint16_t port) const {
  const Listener* listener = find(local, port);
  return listener == nullptr ? 0 : listener->cgroup_id;
}

std::vector<Listener> ListenerTable::open() const {
  std::vector<Listener> listeners;
  for (const Entry& e : entries_) {
    if (e.open) listeners.push_back(e.listener);
  }
  return listeners;
}

}  // namespace tcpvitals
