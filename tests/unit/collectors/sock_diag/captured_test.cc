// What the kernel really sent, against what ss said at the same moment.
#include <doctest/doctest.h>

#include <map>
#include <sstream>

#include "collectors/connections/tracker.h"
#include "tests/fixtures/datagrams.h"
#include "tests/fixtures/directory.h"
#include "tests/support/tracking.h"

using namespace tcpvitals;
using namespace tcpvitals::testing;

namespace {

const std::string kFixture = fixture_path("6.18-states/");

// Rows point into the datagrams, which must outlive them.
std::vector<SocketRow> rows_of(const std::vector<std::vector<std::byte>>& datagrams) {
  std::vector<SocketRow> rows;
  for (const auto& datagram : datagrams) {
    InetDiagReader reader(datagram);
    SocketRow row;
    InetDiagReader::Next next;
    while ((next = reader.next(row)) == InetDiagReader::Next::kRow) rows.push_back(row);
    CHECK(next != InetDiagReader::Next::kError);
  }
  return rows;
}

// A line of `ss -tinemOa`, keyed by "local peer".
std::map<std::string, std::string> ss_lines() {
  std::map<std::string, std::string> lines;
  std::ifstream file(kFixture + "ss.txt");
  std::string line;
  std::getline(file, line);
  while (std::getline(file, line)) {
    std::istringstream words(line);
    std::string state, receive, send, local, peer;
    words >> state >> receive >> send >> local >> peer;
    lines[local + " " + peer] = line;
  }
  return lines;
}

std::string ss_state(TcpState state) {
  constexpr const char* kNames[] = {"",           "ESTAB",      "SYN-SENT",  "SYN-RECV",
                                    "FIN-WAIT-1", "FIN-WAIT-2", "TIME-WAIT", "UNCONN",
                                    "CLOSE-WAIT", "LAST-ACK",   "LISTEN",    "CLOSING"};
  return kNames[static_cast<std::size_t>(state)];
}

std::string key_of(const SocketRow& row) {
  const std::string peer = row.remote_port == 0
                               ? "0.0.0.0:*"
                               : to_string(Endpoint{row.remote_address(), row.remote_port});
  return to_string(Endpoint{row.local_address(), row.local_port}) + " " + peer;
}

// The value behind `name:` in a line of ss; absent there means zero.
std::uint64_t ss_value(const std::string& line, const std::string& name) {
  const auto at = line.find(" " + name + ":");
  return at == std::string::npos ? 0 : std::stoull(line.substr(at + name.size() + 2));
}

}  // namespace

TEST_CASE("captured: every socket of the dump is the one that ss showed") {
  const auto datagrams = read_datagrams(kFixture + "dump.bin");
  const auto rows = rows_of(datagrams);
  const auto lines = ss_lines();
  REQUIRE(rows.size() == 27);
  REQUIRE(lines.size() == rows.size());
  for (const SocketRow& row : rows) {
    CAPTURE(key_of(row));
    const auto it = lines.find(key_of(row));
    REQUIRE(it != lines.end());
    const std::string& line = it->second;
    std::istringstream words(line);
    std::string state;
    std::uint32_t receive_queue = 0;
    std::uint32_t send_queue = 0;
    words >> state >> receive_queue >> send_queue;
    CHECK(state == ss_state(row.state));
    CHECK(row.receive_queue == receive_queue);
    CHECK(row.send_queue == send_queue);
    CHECK(row.time_wait == (line.find("timer:(timewait") != std::string::npos));
    std::ostringstream cookie;
    cookie << "sk:" << std::hex << row.cookie << " ";
    CHECK(line.find(cookie.str()) != std::string::npos);
    const TcpInfo info = row.tcp_info().info;
    CHECK((row.info == nullptr) == (row.time_wait || row.state == TcpState::kSynReceived));
    if (row.state == TcpState::kListen) continue;
    CHECK(info.data_segs_out == ss_value(line, "data_segs_out"));
    CHECK(info.bytes_sent == ss_value(line, "bytes_sent"));
    CHECK(info.bytes_received == ss_value(line, "bytes_received"));
    CHECK(info.segs_in == ss_value(line, "segs_in"));
    CHECK(info.delivered == ss_value(line, "delivered"));
  }
}

TEST_CASE("captured: the dump and the events after it add up to what was done") {
  const auto dump = read_datagrams(kFixture + "dump.bin");
  const auto events = read_datagrams(kFixture + "events.bin");
  Tracking tracking;
  ListenerTable& listeners = tracking.listeners;
  GroupTable& groups = tracking.groups;
  Tracker& tracker = tracking.tracker;
  listeners.begin();
  for (const SocketRow& row : rows_of(dump)) {
    if (row.state == TcpState::kListen) listeners.add(row);
  }
  const TimePoint now = Clock::now();
  listeners.commit(now);
  tracking.begin_dump(now);
  for (const SocketRow& row : rows_of(dump)) tracker.add_row(row);
  tracking.end_dump(now);
  for (std::size_t state = 1; state < kTcpStates; ++state) {
    CAPTURE(state);
    CHECK((tracker.last_dump().states[state] > 0) ==
          (static_cast<TcpState>(state) != TcpState::kClose));
  }

  const auto rows = rows_of(events);
  for (const SocketRow& row : rows) {
    if (row.remote_port == 0 && row.remote_address().is_any()) listeners.closed(row, now);
  }
  for (const SocketRow& row : rows) tracker.add_event(row, tracking.now);

  const auto group = [&](Direction direction, PortLabel port) -> const GroupStats& {
    return tracking.group(direction, port, "127.0.0.1");
  };
  const GroupStats& server = group(Direction::kInbound, 7100);
  const GroupStats& client = group(Direction::kOutbound, 7100);
  CHECK(server.opened == 20);
  CHECK(server.closes() == 20);
  CHECK(client.opened == 20);
  CHECK(client.closes() == 20);
  CHECK(server.received_bytes == 20 * 100);
  CHECK(server.sent_bytes == 20 * 50);
  CHECK(client.received_bytes == 20 * 50);
  CHECK(client.sent_bytes == 20 * 100);
  CHECK(group(Direction::kInbound, 7101).closes() == 5);
  CHECK(group(Direction::kOutbound, kPortUnknown).closes() == 5);
  CHECK(tracker.stats().closes_without_counters == 5);
  const auto failures = [&](PortLabel port, ConnectFailure reason) {
    return group(Direction::kOutbound, port).failures[static_cast<std::size_t>(reason)];
  };
  CHECK(failures(7999, ConnectFailure::kRefused) == 3);
  CHECK(failures(kPortUnknown, ConnectFailure::kUnknown) == 1);
  for (const GroupTable::Group& g : groups.groups()) {
    CHECK(g.stats.opened + static_cast<std::uint64_t>(g.stats.at_start) >= g.stats.closes());
  }
}

TEST_CASE("captured: every prefix of every datagram is read without harm") {
  for (const char* name : {"dump.bin", "listeners.bin", "events.bin"}) {
    const auto datagrams = read_datagrams(kFixture + name);
    REQUIRE_FALSE(datagrams.empty());
    for (const auto& datagram : datagrams) {
      const std::size_t whole = rows_of({datagram}).size();
      for (std::size_t size = 0; size < datagram.size(); ++size) {
        const Bytes prefix(datagram.begin(), datagram.begin() + static_cast<std::ptrdiff_t>(size));
        InetDiagReader reader(prefix);
        SocketRow row;
        std::size_t rows = 0;
        while (reader.next(row) == InetDiagReader::Next::kRow) ++rows;
        CHECK(rows <= whole);
      }
    }
  }
}
