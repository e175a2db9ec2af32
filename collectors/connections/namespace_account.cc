#include "collectors/connections/namespace_account.h"

#include <string_view>
#include <utility>

#include "collectors/host/sysctl.h"

namespace tcpvitals {
namespace {

constexpr std::uint32_t kAllStates = 0xfff;
constexpr std::uint32_t kListenOnly = 1U << static_cast<unsigned>(TcpState::kListen);

// Nothing where they cannot be read (the sysctl collector says so). A kernel may reserve none.
std::optional<LocalPorts> read_local_ports(const KernelSource& files) {
  const auto range = files.read("sys/net/ipv4/ip_local_port_range");
  if (!range) return std::nullopt;
  const auto reserved = files.read("sys/net/ipv4/ip_local_reserved_ports");
  if (!reserved && !reserved.error().is_absent()) return std::nullopt;
  const auto ports = port_range(parse_sysctl(*range, 2).record);
  if (!ports) return std::nullopt;
  return LocalPorts{*ports, parse_port_list(reserved ? *reserved : "\n").record};
}

}  // namespace

NamespaceAccount::NamespaceAccount(NamespaceIdentity identity, DumpSockets sockets,
                                   std::shared_ptr<const KernelSource> files, TrackerShared& shared,
                                   const Grouping& grouping, Classifier::FindCgroup find_cgroup)
    : identity_(std::move(identity)),
      files_(std::move(files)),
      listener_socket_(std::move(sockets.listeners)),
      dump_socket_(std::move(sockets.dump)),
      groups_(shared.groups),
      classifier_(
          listeners_, grouping, [this] { return refresh_listeners(); }, identity_.netns,
          std::move(find_cgroup)),
      tracker_(shared, classifier_) {}

// Because a direction is uncertain.
bool NamespaceAccount::refresh_listeners() {
  return may_refresh(last_listeners_, Clock::now()) &&
         dump_listeners(ListenerTable::Look::kRefresh);
}

bool NamespaceAccount::dump_listeners(ListenerTable::Look look) {
  const double start = thread_cpu_seconds();
  auto done = read_listeners();
  const TimePoint now = Clock::now();
  if (done) {
    listeners_.commit(now, look);
    listener_error_.reset();
  } else {
    listener_error_ = std::move(done.error()).in("listener dump");
    auto reopened = listener_socket_->reopen();
    if (!reopened) listener_error_ = std::move(reopened.error());
  }
  last_listeners_ = {now, to_duration(thread_cpu_seconds() - start)};
  return !listener_error_;
}

Result<void> NamespaceAccount::read_listeners() {
  auto requested = listener_socket_->request_dump(kListenOnly, DumpDetail::kNone);
  if (!requested) return requested;
  listeners_.begin();
  for (;;) {
    // The kernel has the answer ready when the request returns: nothing to wait for.
    auto received = listener_socket_->receive();
    if (!received) return std::move(received.error());
    if (received->datagrams.empty()) return Error{"no answer"};
    for (const auto& datagram : received->datagrams) {
      InetDiagReader reader(datagram);
      SocketRow row;
      for (;;) {
        const auto next = reader.next(row);
        if (next == InetDiagReader::Next::kDone) return {};
        if (next == InetDiagReader::Next::kError) return Error(reader.error());
        if (next == InetDiagReader::Next::kEnd) break;
        if (row.state == TcpState::kListen) listeners_.add(row);
      }
    }
  }
}

void NamespaceAccount::note_closed_listener(const SocketRow& event, TimePoint now) {
  if (event.remote_port == 0 && event.local_port != 0 && event.remote_address().is_any()) {
    listeners_.closed(event, now);
  }
}

DumpNeed NamespaceAccount::look(TimePoint now, bool everything) {
  classifier_.set_local_ports(files_ ? read_local_ports(*files_) : std::nullopt, groups_);
  if (identity_.nsid == kOwnNamespace) return DumpNeed::kFull;
  activity_ = files_ ? read_activity(*files_) : std::nullopt;
  return dump_need(last_dump_, activity_, now, everything);
}

Result<void> NamespaceAccount::begin_dump(TimePoint now, bool events_lost, DumpDetail detail) {
  queued_bytes_ = 0;
  tracker_.begin_dump(now, events_lost);
  return dump_socket_->request_dump(kAllStates, detail);
}

void NamespaceAccount::add_row(const SocketRow& row) {
  tracker_.add_row(row);
  if (row.state == TcpState::kListen) return;
  queued_bytes_ += std::uint64_t{row.receive_queue} + row.send_queue;
  if (row.info == nullptr) return;
  ++rows_;
  rows_with_cgroup_ += row.cgroup_id != 0 ? 1 : 0;
}

void NamespaceAccount::end_empty_dump(TimePoint now, bool events_lost) {
  queued_bytes_ = 0;
  tracker_.begin_dump(now, events_lost);
  end_dump(now);
}

void NamespaceAccount::end_dump(TimePoint now) {
  const bool first = !tracker_.started();
  tracker_.end_dump(now);
  as_of_ = now;
  last_dump_ = {now, activity_,
                is_settled(tracker_.last_dump().states, queued_bytes_, tracker_.tracked())};
  if (first) totals_at_start_ = read_totals();
}

Result<void> NamespaceAccount::abandon_dump() {
  tracker_.abandon_dump();
  last_dump_.settled = false;
  return dump_socket_->reopen();
}

std::optional<HostTotals> NamespaceAccount::read_totals() const {
  return files_ ? read_host_totals(*files_) : std::nullopt;
}

Snapshot::Namespace NamespaceAccount::report(const Grouping& grouping) const {
  Snapshot::Namespace report;
  if (grouping.by.netns) report.netns = identity_.label;
  report.as_of = as_of_;
  report.states = tracker_.last_dump().states;
  for (const Listener& listener : listeners_.open()) {
    report.listeners.push_back({listener, grouping.service_text(listener.endpoint.port)});
  }
  report.local_ports = classifier_.local_ports();
  report.tracker = tracker_.stats();
  const auto now = totals_at_start_ ? read_totals() : std::nullopt;
  if (now) report.since_start = *now - *totals_at_start_;
  return report;
}

}  // namespace tcpvitals
