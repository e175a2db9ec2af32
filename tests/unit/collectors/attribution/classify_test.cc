#include "collectors/attribution/classify.h"

#include <doctest/doctest.h>

#include <array>

#include "tests/support/tracking.h"

using namespace tcpvitals;
using namespace tcpvitals::testing;

namespace {

struct World {
  World() { give(kDefaultEphemeral.first, kDefaultEphemeral.last); }
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
  // A connection that is established, or was.
  GroupKey connection(const FakeSocket& s) {
    const Bytes bytes = message(s);
    const SocketRow row = first_row(bytes);
    const Direction direction = classifier.direction(row);
    classifier.learn(row, direction, true);
    return classifier.key(row, direction);
  }
  void give(std::uint16_t first, std::uint16_t last) {
    classifier.set_local_ports(LocalPorts{{first, last}, {}}, groups);
  }
  void closed(const FakeSocket& s) {
    const Bytes bytes = message(s);
    table.closed(first_row(bytes), now);
  }
  ListenerTable table;
  TimePoint now = Clock::now();
  Grouping grouping{{}, {}, {}};
  GroupTable groups{200};
  Classifier classifier{table, grouping};
};

// As the kernel shows an idle connection that this host opened, or accepted.
FakeSocket opened(std::uint16_t from, std::uint16_t to) {
  return {.local_port = from,
          .remote_port = to,
          .info = {.state = static_cast<std::uint8_t>(TcpState::kEstablished),
                   .bytes_acked = 1,
                   .min_rtt_us = 100}};
}
FakeSocket accepted(std::uint16_t at, std::uint16_t from) {
  FakeSocket s = opened(at, from);
  s.info.bytes_acked = 0;
  s.info.delivered = 1;  // the SYN-ACK
  return s;
}

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
  CHECK(world.classify({.local_port = 40001, .remote_port = 50000}).port == 40001);
  CHECK(world.classify({.local_port = 50000, .remote_port = 0}).port == kPortUnknown);
  CHECK(world.classify({.local_port = 443, .remote_port = 0}).port == 443);
}

TEST_CASE("an attempt to connect is outbound, whatever listens on its local port") {
  World world;
  world.listen({listener("0.0.0.0", 443)});
  CHECK(world.classify({.state = TcpState::kSynSent}).direction == Direction::kOutbound);
}

TEST_CASE("who opened a connection decides its direction, whatever the ports are") {
  for (const auto& [first, last] :
       {std::pair<std::uint16_t, std::uint16_t>{32768, 60999}, {1024, 65535}, {20000, 20009}}) {
    World world;
    world.give(first, last);
    for (const auto& ports : {std::pair<std::uint16_t, std::uint16_t>{720, 50051},
                              {20, 40200},
                              {443, 40000},
                              {40000, 443},
                              {8080, 9092},
                              {179, 179}}) {
      const std::uint16_t ours = ports.first;
      const std::uint16_t theirs = ports.second;
      CAPTURE(ours);
      CAPTURE(theirs);
      CHECK(world.classify(opened(ours, theirs)).direction == Direction::kOutbound);
      CHECK(world.classify(accepted(ours, theirs)).direction == Direction::kInbound);
    }
    world.listen({listener("0.0.0.0", 179)});
    CHECK(world.classify(opened(179, 179)).direction == Direction::kOutbound);
  }
}

TEST_CASE("where the counters are silent, what nobody listens for was opened here") {
  World world;
  CHECK(world.classify({.local_port = 720, .remote_port = 50051}).direction ==
        Direction::kOutbound);
  // The remote port was cleared: from a port that the kernel gives to nobody, a server's.
  CHECK(world.classify({.local_port = 720, .remote_port = 0}).port == 720);
  CHECK(world.classify({.remote_port = 5432}).direction == Direction::kOutbound);
  CHECK(world.classify({.local_port = 50000, .remote_port = 0}).direction == Direction::kOutbound);
}

TEST_CASE("a service outside the range is known by its connections when its listener is gone") {
  World world;
  world.connection(accepted(443, 40000));
  CHECK(world.classify({.remote_port = 0}).direction == Direction::kInbound);
  CHECK(world.classify({.remote_port = 0}).port == 443);
  // Inside it a client may have been given the port since.
  world.connection(accepted(41000, 40000));
  CHECK(world.classify({.local_port = 41000, .remote_port = 0}).direction == Direction::kOutbound);
}

TEST_CASE("of two ports in the range the one that connections share is the service") {
  World world;
  const FakeSocket silent{.local_port = 50051, .remote_port = 40001};
  world.closed({.local = "0.0.0.0", .local_port = 50051, .remote = "0.0.0.0", .remote_port = 0});
  CHECK(world.classify(silent).direction == Direction::kInbound);
  world.connection(opened(40500, 40001));
  world.connection(opened(40501, 40001));
  CHECK(world.classify(silent).direction == Direction::kOutbound);
  CHECK(world.classify(silent).port == 40001);
}

TEST_CASE("a listening port keeps its number in any range") {
  for (const bool wide : {false, true}) {
    World world;
    if (wide) world.give(1024, 65535);
    for (const std::uint16_t port : std::to_array<std::uint16_t>({443, 8080, 9092, 50061})) {
      world.listen({listener("0.0.0.0", port)});
      CHECK(world.classify({.local_port = port}).port == port);
      world.now += std::chrono::minutes(2);
      world.listen({});  // closed; what came while it listened is still the service's
      CHECK(world.classify(accepted(port, 40000)).port == port);
    }
  }
}

TEST_CASE("a remote port in the range keeps its number once two connections share it") {
  World world;
  world.give(1024, 65535);
  for (const std::uint16_t port : std::to_array<std::uint16_t>({5432, 6379, 50051})) {
    CHECK(world.connection(opened(40000, port)).port == kPortEphemeral);
    const std::uint32_t before = world.classifier.generation();
    CHECK(world.connection(opened(40001, port)).port == port);
    CHECK(world.classifier.generation() == before + 1);
    CHECK(world.classify(opened(40000, port)).port == port);  // the first one comes along
  }
  CHECK(world.classify(opened(40000, 7777)).port == kPortEphemeral);
}

TEST_CASE("the first connection to a listener of our own has its number at both ends") {
  World world;
  world.give(1024, 65535);
  world.listen({listener("0.0.0.0", 5432)});
  FakeSocket s = opened(40000, 5432);
  s.remote = s.local;
  CHECK(world.connection(s).port == 5432);
  // Elsewhere something else may have that port; and here it may be a client's.
  CHECK(world.connection(opened(40000, 6379)).port == kPortEphemeral);
  s.remote_port = 6380;
  CHECK(world.connection(s).port == kPortEphemeral);
}

TEST_CASE("attempts that failed name a port too, but it takes sixteen") {
  World world;
  const Bytes bytes = message({.local_port = 40000, .remote_port = 50051});
  for (int i = 0; i < 16; ++i) {
    CHECK(world.classifier.key(first_row(bytes), Direction::kOutbound).port == kPortEphemeral);
    world.classifier.learn(first_row(bytes), Direction::kOutbound, false);
  }
  CHECK(world.classifier.key(first_row(bytes), Direction::kOutbound).port == 50051);
}

TEST_CASE("a range that changes takes no number from a port that is shown") {
  World world;
  world.groups.find_or_add({.direction = Direction::kOutbound, .port = 9092});
  world.groups.find_or_add({.direction = Direction::kInbound, .port = 8080});
  world.give(1024, 65535);
  CHECK(world.classify(opened(40000, 9092)).port == 9092);
  CHECK(world.classify(accepted(8080, 40000)).port == 8080);
  CHECK(world.classify(opened(40000, 9093)).port == kPortEphemeral);
  world.give(50000, 60000);
  CHECK(world.classify(opened(40000, 9093)).port == 9093);
}

TEST_CASE("a reserved port is no client's") {
  World world;
  world.classifier.set_local_ports(LocalPorts{{32768, 60999}, {{50051, 50059}}}, world.groups);
  CHECK(world.classify(opened(40000, 50051)).port == 50051);
  CHECK(world.classify(opened(40000, 50060)).port == kPortEphemeral);
}

TEST_CASE("where the range cannot be read, any port from 1024 up may be a client's") {
  World world;
  world.classifier.set_local_ports(std::nullopt, world.groups);
  CHECK(world.classify(opened(40000, 443)).port == 443);
  CHECK(world.classify(opened(40000, 1024)).port == kPortEphemeral);
  CHECK(world.classify({.local_port = 40000, .remote_port = 443}).direction ==
        Direction::kOutbound);
}

TEST_CASE("a named port is forgotten an hour after its group left") {
  World world;
  world.connection(opened(40000, 50051));
  world.connection(opened(40001, 50051));
  world.groups.find_or_add({.direction = Direction::kOutbound, .port = 50051});
  const auto look = [&](int minutes) {
    world.now += std::chrono::minutes(minutes);
    world.classifier.forget_ports(world.now, world.groups);
  };
  look(0);
  look(120);
  CHECK(world.classify(opened(40000, 50051)).port == 50051);
  world.groups.forget_idle(world.now, std::chrono::seconds(0));
  world.groups.forget_idle(world.now, std::chrono::seconds(0));
  REQUIRE(world.groups.size() == 0);
  look(59);
  CHECK(world.classify(opened(40000, 50051)).port == 50051);
  look(62);
  CHECK(world.classify(opened(40000, 50051)).port == kPortEphemeral);
}

TEST_CASE("without directions a group shows the port of either") {
  World world;
  world.grouping = Grouping{{.direction = false}, {}, {}};
  world.connection(opened(40000, 50051));
  const GroupKey key = world.connection(opened(40001, 50051));
  REQUIRE(key.port == 50051);
  world.groups.find_or_add(key);
  for (int i = 0; i < 2; ++i) {
    world.classifier.forget_ports(world.now, world.groups);
    world.now += std::chrono::hours(2);
  }
  world.classifier.forget_ports(world.now, world.groups);
  CHECK(world.classify(opened(40000, 50051)).port == 50051);
  world.give(2000, 60999);
  world.groups.find_or_add({.port = 9092});
  world.give(3000, 60999);
  CHECK(world.classify(opened(40000, 9092)).port == 9092);
  CHECK(world.classify(accepted(9092, 40000)).port == 9092);
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

TEST_CASE("sockets that were bound and never listened make no client inbound") {
  World world;
  for (std::uint32_t port = 32768; port < 37768; ++port) {
    world.closed({.local = "127.0.0.1",
                  .local_port = static_cast<std::uint16_t>(port),
                  .remote = "0.0.0.0",
                  .remote_port = 0});
  }
  CHECK(world.table.remembered() == ListenerTable::kMaxRemembered);
  FakeSocket s = opened(37000, 7777);
  s.local = s.remote = "127.0.0.1";
  CHECK(world.classify(s).direction == Direction::kOutbound);
  s.info = {.min_rtt_us = 100};  // cleared
  CHECK(world.classify(s).direction == Direction::kOutbound);
}

TEST_CASE("an uncertain direction has the table renewed, a client's never does") {
  ListenerTable table;
  int asked = 0;
  const Grouping grouping({}, {}, {});
  Classifier classifier(table, grouping, [&] {
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
  const Bytes other = message({.local_port = 40002});
  CHECK(classifier.direction(first_row(other)) == Direction::kOutbound);
  CHECK(asked == 2);
  const Bytes over = message(
      {.state = TcpState::kTimeWait, .local_port = 40002, .has_info = false, .time_wait = true});
  CHECK(classifier.direction(first_row(over)) == Direction::kOutbound);
  CHECK(asked == 2);
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
  CHECK(open[0].queue == AcceptQueue{3, 128});
  CHECK(open[0].peak == AcceptQueue{40, 128});
  CHECK(open[0].sockets == 2);
  for (int i = 0; i < 13; ++i) {
    world.now += std::chrono::seconds(5);
    world.listen({busy});
  }
  CHECK(world.table.open()[0].peak == AcceptQueue{3, 128});
}

TEST_CASE("a listener dump that broke off changes nothing") {
  World world;
  FakeSocket s = listener("0.0.0.0", 443);
  s.receive_queue = 4;
  world.listen({s});
  world.table.begin();
  world.listen({s});
  CHECK(world.table.open()[0].queue.length == 4);
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
