#include "collectors/attribution/classify.h"

#include <doctest/doctest.h>

#include "tests/support/tracking.h"

using namespace tcpvitals;
using namespace tcpvitals::testing;

namespace {

struct World {
  void listen(const std::vector<FakeSocket>& sockets) {
    table.begin();
    for (const FakeSocket& s : sockets) {
      const Bytes bytes = message(s);
      table.add(first_row(bytes));
    }
    table.commit(now);
  }
  GroupKey classify(const FakeSocket& s) {
    const Bytes bytes = message(s);
    return testing::classify(classifier, first_row(bytes));
  }
  ListenerTable table;
  TimePoint now = Clock::now();
  Grouping grouping{{}, {}, {}, kDefaultEphemeral};
  Classifier classifier{table, grouping};
};

FakeSocket listener(const std::string& address, std::uint16_t port, bool v6only = false) {
  return {.state = TcpState::kListen,
          .local = address,
          .local_port = port,
          .remote = address.find(':') == std::string::npos ? "0.0.0.0" : "::",
          .remote_port = 0,
          .has_info = false,
          .v6only = v6only};
}

}  // namespace

TEST_CASE("a connection is inbound if its local end belongs to a listener") {
  struct Row {
    const char* listens;
    bool v6only;
    FakeSocket socket;
    bool inbound;
  };
  constexpr std::uint16_t kPort = 40001;  // that it is a service's only the table knows
  const FakeSocket v4{.local_port = kPort};
  const FakeSocket v6{.local = "2001:db8::1", .local_port = kPort, .remote = "2001:db8::2"};
  const FakeSocket mapped{
      .local = "::ffff:192.0.2.1", .local_port = kPort, .remote = "::ffff:10.0.0.1", .ipv6 = true};
  for (const Row& row :
       {Row{"192.0.2.1", false, v4, true}, Row{"192.0.2.2", false, v4, false},
        Row{"0.0.0.0", false, v4, true}, Row{"0.0.0.0", false, v6, false},
        Row{"::", false, v4, true}, Row{"::", false, v6, true}, Row{"::", false, mapped, true},
        Row{"::", true, v4, false}, Row{"::", true, v6, true}, Row{"2001:db8::1", false, v6, true},
        Row{"2001:db8::9", false, v6, false}}) {
    World world;
    world.listen({listener(row.listens, kPort, row.v6only)});
    CAPTURE(row.listens);
    CAPTURE(row.socket.local);
    CHECK((world.classify(row.socket).direction == Direction::kInbound) == row.inbound);
  }
}

TEST_CASE("the port label is the service's: local if inbound, remote if outbound") {
  World world;
  world.listen({listener("0.0.0.0", 443), listener("0.0.0.0", 40001)});
  CHECK(world.classify({}).port == 443);
  CHECK(world.classify({.local_port = 50000, .remote_port = 5432}).port == 5432);
  CHECK(world.classify({.local_port = 50000, .remote_port = 40000}).port == kPortEphemeral);
  CHECK(world.classify({.local_port = 40001, .remote_port = 50000}).port == kPortEphemeral);
  CHECK(world.classify({.local_port = 50000, .remote_port = 0}).port == kPortUnknown);
  CHECK(world.classify({.local_port = 443, .remote_port = 0}).port == 443);
}

TEST_CASE("an attempt to connect is outbound, whatever listens on its local port") {
  World world;
  world.listen({listener("0.0.0.0", 443)});
  CHECK(world.classify({.state = TcpState::kSynSent}).direction == Direction::kOutbound);
}

TEST_CASE("from a service's port to an ephemeral one: a server, though its listener is gone") {
  World world;
  CHECK(world.classify({}).direction == Direction::kInbound);
  CHECK(world.classify({}).port == 443);
  CHECK(world.classify({.remote_port = 0}).direction == Direction::kInbound);
  CHECK(world.classify({.remote_port = 5432}).direction == Direction::kOutbound);
  CHECK(world.classify({.local_port = 50000, .remote_port = 0}).direction == Direction::kOutbound);
}

TEST_CASE("a listener that closed is remembered for a minute") {
  World world;
  world.listen({listener("0.0.0.0", 40001)});
  world.now += std::chrono::seconds(59);
  world.listen({});
  CHECK(world.table.open().empty());
  CHECK(world.classify({.local_port = 40001}).direction == Direction::kInbound);
  world.now += std::chrono::seconds(2);
  world.listen({});
  CHECK(world.classify({.local_port = 40001}).direction == Direction::kOutbound);
}

TEST_CASE("a listener that lived between two dumps tells the direction by its own end") {
  World world;
  const FakeSocket ended{.state = TcpState::kClose,
                         .local = "0.0.0.0",
                         .local_port = 8080,
                         .remote = "0.0.0.0",
                         .remote_port = 0};
  const Bytes bytes = message(ended);
  world.table.closed(first_row(bytes), world.now);
  CHECK(world.classify({.local_port = 8080}).direction == Direction::kInbound);
  CHECK(world.table.open().empty());
}

TEST_CASE("an uncertain direction has the table renewed, a client's never does") {
  ListenerTable table;
  int asked = 0;
  const Grouping grouping({}, {}, {}, kDefaultEphemeral);
  const Classifier classifier(table, grouping, [&] {
    ++asked;
    const Bytes bytes = message(listener("0.0.0.0", 40001));
    table.begin();
    table.add(first_row(bytes));
    table.commit(Clock::now());
    return true;
  });
  const Bytes client = message({.local_port = 50000, .remote_port = 443});
  CHECK(classifier.direction(first_row(client)) == Direction::kOutbound);
  CHECK(asked == 0);
  const Bytes server = message({.local_port = 40001});
  CHECK(classifier.direction(first_row(server)) == Direction::kInbound);
  CHECK(asked == 1);
  CHECK(classifier.direction(first_row(server)) == Direction::kInbound);
  CHECK(asked == 1);
}

TEST_CASE("a listener's queues are connections, its peak is of the last minute") {
  World world;
  FakeSocket busy = listener("0.0.0.0", 443);
  busy.receive_queue = 40;
  busy.send_queue = 128;
  world.listen({busy, listener("127.0.0.1", 80)});
  busy.receive_queue = 3;
  world.now += std::chrono::milliseconds(100);
  world.listen({busy, busy});  // two sockets, one address: SO_REUSEPORT
  const auto open = world.table.open();
  REQUIRE(open.size() == 1);
  CHECK(open[0].queue_length == 6);
  CHECK(open[0].queue_limit == 256);
  CHECK(open[0].queue_peak == 40);
  for (int i = 0; i < 13; ++i) {
    world.now += std::chrono::seconds(5);
    world.listen({busy});
  }
  CHECK(world.table.open()[0].queue_peak == 3);
}

TEST_CASE("a listener dump that broke off changes nothing") {
  World world;
  FakeSocket s = listener("0.0.0.0", 443);
  s.receive_queue = 4;
  world.listen({s});
  world.table.begin();
  world.listen({s});
  CHECK(world.table.open()[0].queue_length == 4);
}

TEST_CASE("groups over the bound are counted under other, per direction and peer") {
  GroupTable groups(2);
  const GroupId a = groups.find_or_add({.direction = Direction::kInbound, .port = 80});
  groups.find_or_add({.direction = Direction::kInbound, .port = 81});
  const GroupId over = groups.find_or_add({.direction = Direction::kInbound, .port = 82});
  CHECK(groups.find_or_add({.direction = Direction::kInbound, .port = 83}) == over);
  CHECK(groups.find_or_add({.direction = Direction::kOutbound, .port = 83}) != over);
  CHECK(groups.find_or_add({.direction = Direction::kInbound, .port = 80}) == a);
  CHECK(groups.groups()[over].key.port == kPortOther);
  CHECK(groups.overflowed() == 3);
}
