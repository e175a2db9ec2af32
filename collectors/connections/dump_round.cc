#include "collectors/connections/dump_round.h"

#include <utility>

namespace tcpvitals {
namespace {

constexpr auto kSilence = std::chrono::seconds(2);

}  // namespace

void DumpRound::begin(Options options) {
  options_ = std::move(options);
  report_ = {.start = now_(), .events_lost = options_.events_lost};
  start_cpu_ = thread_cpu_seconds();
  running_ = true;
  position_ = 0;
  dumping_ = renewed_ = false;
  host_.begin_dump();
}

int DumpRound::fd() const {
  // The kernel makes the next piece of a dump as this one is read: it is there.
  return !dumping_ || flows_ ? -1 : host_.namespaces()[position_]->dump_socket().fd();
}

void DumpRound::read() {
  if (dumping_) {
    read_dump();
  } else {
    begin_namespace();
  }
}

void DumpRound::begin_namespace() {
  progress_ = now_();
  const bool everything = options_.events_lost || options_.regrouped ||
                          !options_.searches.empty() || host_.renames(account());
  DumpNeed need = account().look(progress_, everything);
  // One a round, so that they do not all come together.
  if (need == DumpNeed::kRenewal && std::exchange(renewed_, true)) need = DumpNeed::kNone;
  if (need == DumpNeed::kNone) {
    host_.keep_dump(account());
    account().confirm(progress_);
    return next_namespace();
  }
  if (need == DumpNeed::kEmpty) {
    account().end_empty_dump(progress_, options_.events_lost);
    return next_namespace();
  }
  ++report_.namespaces;
  dumping_ = true;
  flows_ = false;
  const auto detail = options_.searches.empty() ? DumpDetail::kCounters : DumpDetail::kEverything;
  auto requested = account().begin_dump(progress_, options_.events_lost, detail);
  if (!requested) fail(std::move(requested.error()));
}

void DumpRound::read_dump() {
  auto received = account().dump_socket().receive();
  if (!received) return fail(std::move(received.error()));
  const TimePoint now = now_();
  flows_ = !received->datagrams.empty();
  if (!flows_) {
    if (now - progress_ > kSilence) fail({"the kernel stopped answering"});
    return;
  }
  progress_ = now;
  for (const auto& datagram : received->datagrams) {
    report_.bytes += datagram.size();
    auto done = add(datagram);
    if (!done) return fail(std::move(done.error()));
    if (*done) {
      account().end_dump(now_());
      return next_namespace();
    }
  }
}

// True at the end of the dump.
Result<bool> DumpRound::add(std::span<const std::byte> datagram) {
  InetDiagReader reader(datagram);
  SocketRow row;
  for (;;) {
    const auto next = reader.next(row);
    if (next == InetDiagReader::Next::kError) return Error(reader.error());
    if (next != InetDiagReader::Next::kRow) return next == InetDiagReader::Next::kDone;
    account().add_row(row);
    if (!options_.searches.empty()) search(row);
  }
}

void DumpRound::search(const SocketRow& row) {
  if (row.state == TcpState::kListen) return;
  const Tracker::Known found = account().tracker().known(row);
  for (const auto& asked : options_.searches) {
    asked->search.consider(row, found, report_.start,
                           [this](const GroupKey& key) { return host_.labels(key); });
  }
}

void DumpRound::fail(Error error) {
  auto reopened = account().abandon_dump();
  if (position_ > 0) {
    // Another namespace's failure is not ours; most likely it is about to go.
    on_failure_(account(), error);
    if (!reopened) on_failure_(account(), reopened.error());
    return next_namespace();
  }
  report_.error = reopened ? std::move(error).in("socket dump") : std::move(reopened.error());
  end();
}

void DumpRound::next_namespace() {
  dumping_ = false;
  if (++position_ < host_.namespaces().size()) return;
  host_.end_dump(now_());
  end();
}

void DumpRound::end() {
  running_ = false;
  report_.end = now_();
  report_.cpu_seconds = thread_cpu_seconds() - start_cpu_;
}

void DumpRound::answer_searches() {
  for (const auto& asked : options_.searches) {
    asked->done.set_value(report_.error ? Result<SearchResult>(Error(*report_.error))
                                        : Result<SearchResult>(asked->search.take()));
  }
  options_.searches.clear();
}

}  // namespace tcpvitals
