#include "collectors/host/proc_tcp.h"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "tests/support/testing.h"

using namespace tcpvitals;
using namespace tcpvitals::testing;

namespace {

constexpr std::string_view kHeader =
    "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout "
    "inode                                                     \n";
// Two listeners on one port, of which one has 5 waiting; an established connection with unread
// bytes; FIN_WAIT2 and TIME_WAIT without a socket.
constexpr std::string_view kTcp =
    "   0: 00000000:1F90 00000000:0000 0A 00000000:00000002 00:00000000 00000000     0        0 "
    "1603 1 000000009908ad68 100 0 0 10 0                      \n"
    "   1: 00000000:1F90 00000000:0000 0A 00000000:00000005 00:00000000 00000000     0        0 "
    "1604 1 000000009908ad69 100 0 0 10 0                      \n"
    "   2: 0100007F:1F90 0200000A:C350 01 00000010:000000FF 01:00000014 00000000 65534        0 "
    "1605 2 000000009908ad6a 20 4 30 10 -1                     \n"
    "   3: 0100007F:C351 0100007F:1F90 05 00000000:00000000 03:00001770 00000000     0        0 0 "
    "3 000000009908ad6b                                       \n"
    "   4: 0100007F:C352 0100007F:1F90 06 00000000:00000000 03:00001770 00000000     0        0 0 "
    "3 000000009908ad6c                                       \n";
constexpr std::string_view kTcp6 =
    "   0: 00000000000000000000000001000000:01BB 00000000000000000000000000000000:0000 0A "
    "00000000:00000001 00:00000000 00000000     0        0 1700 1 0000000000000000 100 0 0 10 0\n"
    "   1: B80D0120000000000000000001000000:01BB B80D0120000000000000000002000000:D431 08 "
    "00000000:00000001 00:00000000 00000000     0        0 1701 1 0000000000000000 100 0 0 10 0\n";

std::string file(std::string_view lines) { return std::string(kHeader) + std::string(lines); }

struct Read : ProcTcp {
  std::uint64_t bad_lines = 0;
};

Read parse(std::string_view text, std::size_t piece = 1 << 20) {
  Read all;
  ProcTcpReader reader(all);
  for (; !text.empty(); text.remove_prefix(std::min(piece, text.size()))) {
    reader.add(text.substr(0, piece));
  }
  reader.end_file();
  all.bad_lines = reader.errors().count;
  return all;
}

std::uint64_t in(const ProcTcp& all, TcpState state) {
  return all.states.at(static_cast<std::size_t>(state));
}

std::uint64_t sum(const ProcTcp& all) {
  std::uint64_t sockets = 0;
  for (const std::uint64_t n : all.states) sockets += n;
  return sockets;
}

std::uint64_t waiting(const ProcTcp& all, const char* endpoint) {
  const auto found = all.listeners.find(*parse_endpoint(endpoint));
  REQUIRE(found != all.listeners.end());
  return found->second;
}

constexpr auto kHalf = [] { return std::optional<double>(0.5); };

}  // namespace

TEST_CASE("/proc/net/tcp: states are counted, and a listener has the queue of its fullest socket") {
  const Read all = parse(file(kTcp));
  CHECK(in(all, TcpState::kListen) == 2);
  CHECK(in(all, TcpState::kEstablished) == 1);
  CHECK(in(all, TcpState::kFinWait2) == 1);
  CHECK(in(all, TcpState::kTimeWait) == 1);
  CHECK(sum(all) == 5);
  CHECK(all.listeners.size() == 1);
  CHECK(waiting(all, "[0.0.0.0]:8080") == 5);
  CHECK(all.bad_lines == 0);
}

TEST_CASE("/proc/net/tcp6: an address is four words of this machine's byte order") {
  const Read all = parse(file(kTcp6));
  CHECK(waiting(all, "[::1]:443") == 1);
  CHECK(in(all, TcpState::kCloseWait) == 1);
  CHECK(all.listeners.size() == 1);
}

TEST_CASE("every state of a real host is counted as ss counted it at that moment") {
  const Read all = parse(fixture_text("6.18-every-state", "net/tcp"));
  const std::array<std::uint64_t, kTcpStates> ss{0, 8, 1, 1, 1, 5, 2, 0, 3, 1, 4, 1};
  CHECK(all.states == ss);
  CHECK(all.bad_lines == 0);
  const Read all6 = parse(fixture_text("6.18-every-state", "net/tcp6"));
  CHECK(in(all6, TcpState::kEstablished) == 6);
  CHECK(waiting(all6, "[::1]:8443") == 3);
}

TEST_CASE("pieces of the file may end anywhere") {
  const std::string text = file(kTcp);
  for (std::size_t piece = 1; piece < 400; ++piece) {
    CAPTURE(piece);
    const Read all = parse(text, piece);
    CHECK(sum(all) == 5);
    CHECK(waiting(all, "[0.0.0.0]:8080") == 5);
    CHECK(all.bad_lines == 0);
  }
}

TEST_CASE("a line that is not understood costs itself") {
  for (const char* bad :
       {"\n", "garbage\n", "   9: 0100007F:1F90\n",
        "   9: 0100007F:1F90 00000000:0000 0F 00000000:00000000 0\n",   // no such state
        "   9: 0100007F:1F90 00000000:0000 00 00000000:00000000 0\n",   // nor this
        "   9: 0100007F:1F90 00000000:0000 0C 00000000:00000000 0\n",   // nor this
        "   9: 0100007F:1F90 00000000:0000 0A 00000000 0\n",            // one queue
        "   9: 0100007F:1F90 00000000:0000 0A 00000000:0000000x 0\n",   // not a number
        "   9: 0100007:1F90 00000000:0000 0A 00000000:00000000 0\n",    // half an address
        "   9: 0100007F:11F90 00000000:0000 0A 00000000:00000000 0\n",  // a port of 17 bits
        "   9: 0100007G:1F90 00000000:0000 0A 00000000:00000000 0\n"}) {
    CAPTURE(bad);
    const Read all = parse(file(bad) + std::string(kTcp));
    CHECK(all.bad_lines == 1);
    CHECK(sum(all) == 5);
  }
  // Longer than any line: it is not kept in memory.
  const Read all = parse(file(std::string(1'000'000, 'x') + "\n") + std::string(kTcp), 100);
  CHECK(all.bad_lines == 1);
  CHECK(sum(all) == 5);
}

TEST_CASE("a file that is cut off loses its last line alone") {
  const std::string text = file(kTcp);
  for (std::size_t size = 0; size < text.size(); ++size) {
    CAPTURE(size);
    const Read all = parse(std::string_view(text).substr(0, size));
    const auto whole =
        std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(size), '\n');
    CHECK(sum(all) == static_cast<std::uint64_t>(std::max<std::ptrdiff_t>(0, whole - 1)));
  }
}

TEST_CASE("a line that is left out is counted, and named by its file and number") {
  TextSource source(
      {{"net/tcp", file(kTcp)}, {"net/tcp6", file("garbage\n") + std::string(kTcp6)}});
  const Collected got = collect(*make_proc_tcp_collector(source, kHalf));
  REQUIRE(got.outcome.ok());
  CHECK(got.parse_errors.count == 1);
  CHECK(got.parse_errors.first == "net/tcp6: line 2: no socket");
  CHECK(got.at(R"(tcp_host_connections{state="listen"})") == 3);
}

TEST_CASE("where sock_diag is not there, states and queues come from /proc, and it is said") {
  TextSource source({{"net/tcp", file(kTcp)}, {"net/tcp6", file(kTcp6)}});
  const auto collector = make_proc_tcp_collector(source, kHalf);
  const Collected got = collect(*collector);
  REQUIRE(got.outcome.ok());
  CHECK(got.at(R"(tcp_host_connections{state="listen"})") == 3);
  CHECK(got.at(R"(tcp_host_connections{state="close_wait"})") == 1);
  CHECK(got.at(R"(tcp_host_connections{state="syn_sent"})") == 0);
  CHECK_FALSE(got.has(R"(tcp_host_connections{state="close"})"));  // the files do not tell
  CHECK(got.at(R"(tcp_listener_queue_length{port="8080",address="0.0.0.0"})") == 5);
  CHECK(got.at(R"(tcp_listener_queue_length{port="443",address="::1"})") == 1);
  CHECK(got.at(R"(tcpvitals_feature_available{feature="sock_diag"})") == 0);
  CHECK(got.at("tcpvitals_sample_age_seconds") < 10);
}

TEST_CASE("without IPv6 there is no tcp6; without tcp there is nothing") {
  TextSource source({{"net/tcp", file(kTcp)}});
  CHECK(collect(*make_proc_tcp_collector(source, kHalf)).outcome.ok());
  TextSource no_tcp({{"net/tcp6", file(kTcp6)}});
  CHECK(collect(*make_proc_tcp_collector(no_tcp, kHalf)).outcome.error().is_absent());
  TextSource real({{"net/tcp", file(kTcp)}, {"net/tcp6", file(kTcp6)}});
  for (const char* path : {"net/tcp", "net/tcp6"}) {
    const FailingSource failing(real, Fault::kError, path);
    const Collected got = collect(*make_proc_tcp_collector(failing, kHalf));
    REQUIRE_FALSE(got.outcome.ok());
    CHECK_FALSE(got.outcome.error().is_absent());
    CHECK(got.outcome.error().message.find(path) != std::string::npos);
  }
}

TEST_CASE("it stands aside while sock_diag is there, and reads again when it is gone") {
  TextSource source({{"net/tcp", file(kTcp)}});
  std::optional<double> budget;
  const auto collector = make_proc_tcp_collector(source, [&] { return budget; });
  const FailingSource recorder(source);
  CHECK(collect(*collector).outcome.error().is_absent());
  budget = 1e9;
  CHECK(collect(*collector).at(R"(tcp_host_connections{state="listen"})") == 2);
  budget.reset();
  CHECK(collect(*collector).outcome.error().is_absent());
}

TEST_CASE("within the budget's pause the last reading is served, with its age") {
  TextSource source({{"net/tcp", file(kTcp)}});
  double budget = 1e-9;
  const auto collector = make_proc_tcp_collector(source, [&] { return std::optional(budget); });
  CHECK(collect(*collector).at(R"(tcp_host_connections{state="established"})") == 1);
  source.set("net/tcp", file(""));
  CHECK(collect(*collector).at(R"(tcp_host_connections{state="established"})") == 1);
  const auto generous = make_proc_tcp_collector(source, [] { return std::optional(1e9); });
  CHECK(collect(*generous).at(R"(tcp_host_connections{state="established"})") == 0);
  source.set("net/tcp", file(kTcp));
  CHECK(collect(*generous).at(R"(tcp_host_connections{state="established"})") == 1);
}

TEST_CASE("what cannot be read before the deadline is an error, not a part of the sockets") {
  TextSource source({{"net/tcp", file(kTcp)}});
  const auto collector = make_proc_tcp_collector(source, kHalf);
  Sink sink(1000);
  const auto done = collector->collect(sink, Clock::now() - std::chrono::seconds(1));
  REQUIRE_FALSE(done.ok());
  CHECK(done.error().message == "net/tcp: not read before the deadline");
  CHECK(sink.series() == 0);
}

TEST_CASE("of many listeners the fullest are shown, and the fullest of the others") {
  std::string lines;
  for (int i = 0; i < 300; ++i) {
    lines += fmt::format(
        "{:4}: 00000000:{:04X} 00000000:0000 0A 00000000:{:08X} 00:00000000 00000000 0 0 1 1\n", i,
        1000 + i, i);
  }
  TextSource source({{"net/tcp", file(lines)}});
  const Collected got = collect(*make_proc_tcp_collector(source, kHalf));
  CHECK(got.at(R"(tcp_listener_queue_length{port="1299",address="0.0.0.0"})") == 299);
  CHECK(got.at(R"(tcp_listener_queue_length{port="1044",address="0.0.0.0"})") == 44);
  CHECK_FALSE(got.has(R"(tcp_listener_queue_length{port="1043",address="0.0.0.0"})"));
  CHECK(got.at(R"(tcp_listener_queue_length{port="other",address="other"})") == 43);
}
