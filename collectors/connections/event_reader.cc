#include "collectors/connections/event_reader.h"

#include <algorithm>

#include "collectors/connections/pace.h"

namespace tcpvitals {

EventReader::EventReader(std::unique_ptr<DiagSocket> socket, HostAccount& host)
    : socket_(std::move(socket)),
      host_(host),
      pause_(event_pause(socket_->buffer_bytes())),
      turn_(events_a_turn(socket_->buffer_bytes())),
      last_look_(Clock::now()) {}

void EventReader::read() {
  const TimePoint start = Clock::now();
  longest_pause_ = std::max(longest_pause_, start - last_look_);
  last_look_ = start;
  for (std::size_t events = 0; events < turn_;) {
    auto received = socket_->receive();
    if (!received) return fail(std::move(received.error()));
    if (received->overrun) {
      ++overruns_;
      ++events;
      loss_ = true;
      continue;
    }
    if (received->datagrams.empty()) return;
    events += received->datagrams.size();
    quiet_until_ = Clock::now() + pause_;
    count(*received);
  }
  quiet_until_ = {};  // more may wait
}

void EventReader::count(const Received& batch) {
  rows_.clear();
  for (std::size_t i = 0; i < batch.datagrams.size(); ++i) {
    NamespaceAccount* account =
        host_.account_of(batch.nsids.empty() ? kOwnNamespace : batch.nsids[i]);
    if (account == nullptr) continue;  // not adopted yet, or gone
    InetDiagReader reader(batch.datagrams[i]);
    SocketRow row;
    for (;;) {
      const auto next = reader.next(row);
      if (next == InetDiagReader::Next::kError) fail(Error(reader.error()));
      if (next != InetDiagReader::Next::kRow) break;
      rows_.push_back({account, row});
    }
  }
  // Listeners first: one that lived for milliseconds tells the direction of its connections.
  const TimePoint now = Clock::now();
  for (const auto& [account, row] : rows_) account->note_closed_listener(row, now);
  for (const auto& [account, row] : rows_) account->tracker().add_event(row, now);
}

// What came in broken was an event all the same.
void EventReader::fail(Error error) {
  ++failures_;
  loss_ = true;
  quiet_until_ = Clock::now() + pause_;
  error_ = std::move(error).in("DESTROY events");
}

Result<void> EventReader::listen_to_ours() {
  read();  // as long as each tells whose it is
  auto done = socket_->listen_own_namespace();
  if (!done) return done;
  // Whose event it is that came in between cannot be told: it is lost.
  for (std::size_t events = 0; events < turn_;) {
    const auto received = socket_->receive();
    if (!received) break;
    if (received->datagrams.empty() && !received->overrun) break;
    events += std::max<std::size_t>(1, received->datagrams.size());
    failures_ += received->datagrams.size();
    loss_ = true;
  }
  return {};
}

}  // namespace tcpvitals
