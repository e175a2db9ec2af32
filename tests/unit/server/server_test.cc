// The embedded server, over real loopback sockets.
#include "server/server.h"

#include <doctest/doctest.h>
#include <netinet/tcp.h>
#include <sys/resource.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <set>
#include <string>
#include <thread>

#include "server/server_collector.h"
#include "server/worker.h"
#include "tests/fixtures/descriptors.h"
#include "tests/support/serving.h"

using namespace tcpvitals;
using namespace tcpvitals::testing;

namespace {

double cpu_seconds() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  const auto of = [](const timeval& t) { return double(t.tv_sec) + double(t.tv_usec) / 1e6; };
  return of(usage.ru_utime) + of(usage.ru_stime);
}

// The share of one core that this process uses while the caller sleeps.
double cpu_share(Clock::duration time) {
  const double before = cpu_seconds();
  std::this_thread::sleep_for(time);
  return (cpu_seconds() - before) / seconds(time);
}

}  // namespace

TEST_CASE("a peer that does not read stops being read, and loses nothing") {
  ServerOptions options{.workers = 1};
  options.listeners[0].max_output_bytes = 10'000;
  auto server = start(std::move(options));
  Client client;
  client.small_receive_buffer();
  client.connect(server->endpoint());
  const std::string sent = pattern(24 << 20);  // more than both ends' kernel buffers hold
  std::thread writer([&] {
    client.send(sent);
    client.end_stream();
  });
  const auto blocked =
      statistics_when(*server, [received = std::uint64_t{0}](const auto& s) mutable {
        const bool still = s.tcp.received_bytes == received && s.output_buffer_bytes > 0;
        received = s.tcp.received_bytes;
        return still;
      });
  CHECK(blocked.output_buffer_bytes > 0);
  CHECK(blocked.output_buffer_bytes <= 10'000);
  CHECK(blocked.tcp.received_bytes < sent.size());
  CHECK(cpu_share(200ms) < 0.5);

  const std::string received = client.receive(sent.size());
  writer.join();
  CHECK(received.size() == sent.size());
  CHECK((received == sent));
  CHECK(client.at_end());
  const auto end = statistics_when_idle(*server);
  CHECK(end.output_buffer_bytes == 0);
  CHECK(closed(end, CloseCause::kPeerFin) == 1);
  CHECK(end.tcp.received_bytes == sent.size());
  CHECK(end.tcp.sent_bytes - end.tcp.retransmitted_bytes == sent.size());
}

TEST_CASE("a half-closed peer gets the rest, and its counters are taken when they are final") {
  auto server = start({.workers = 1});
  Client client;
  client.small_receive_buffer();
  client.connect(server->endpoint());
  const std::string sent =
      pattern(64 << 10);  // the server's kernel buffer holds it, the client's not
  REQUIRE(client.send(sent));
  client.end_stream();
  const auto waiting =
      statistics_when(*server, [&](const auto& s) { return s.tcp.received_bytes == sent.size(); });
  std::this_thread::sleep_for(50ms);
  CHECK(statistics(*server).live() == 1);
  CHECK(waiting.tcp.sent_bytes < sent.size());
  CHECK(cpu_share(200ms) < 0.5);  // hung up for epoll all the while

  CHECK((client.receive(sent.size() + 1) == sent));
  const auto end = statistics_when_idle(*server);
  CHECK(closed(end, CloseCause::kPeerFin) == 1);
  CHECK(end.tcp.received_bytes == sent.size());
  CHECK(end.tcp.sent_bytes - end.tcp.retransmitted_bytes == sent.size());
}

TEST_CASE("a reset closes the connection and keeps its counters") {
  auto server = start({.workers = 1, .sweep_interval = kNever});
  Client polite = Client::to(server->endpoint());
  REQUIRE(polite.echoes("12345"));
  polite.reset();
  // One that ends its stream and resets while the server still writes to it.
  Client rude;
  rude.small_receive_buffer();
  rude.connect(server->endpoint());
  const std::string sent = pattern(100'000);
  REQUIRE(rude.send(sent));
  rude.end_stream();
  statistics_when(*server, [&](const auto& s) { return s.tcp.received_bytes == sent.size() + 5; });
  rude.reset();
  const auto end = statistics_when_idle(*server);
  CHECK(closed(end, CloseCause::kPeerRst) == 2);
  CHECK(end.accepted == 2);
  CHECK(end.tcp.received_bytes == sent.size() + 5);
  CHECK(end.output_buffer_bytes == 0);
}

TEST_CASE("a thousand quick connections are counted once each, to the byte") {
  auto server = start({.workers = 2, .sweep_interval = kNever});
  constexpr std::uint64_t kConnections = 1000;
  std::uint64_t bytes = 0;
  for (std::uint64_t i = 0; i < kConnections; ++i) {
    Client client = Client::to(server->endpoint());
    const std::string payload(1 + i % 40, 'x');
    REQUIRE(client.echoes(payload));
    bytes += payload.size();
  }
  const auto end = statistics_when_idle(*server);
  CHECK(end.accepted == kConnections);
  CHECK(closed(end, CloseCause::kPeerFin) == kConnections);
  CHECK(end.live() == 0);
  CHECK(end.tcp.received_bytes == bytes);
  CHECK(end.tcp.sent_bytes - end.tcp.retransmitted_bytes == bytes);
  CHECK(end.tcp.data_segments_sent - end.tcp.retransmitted_segments == kConnections);
  CHECK(count(end.lifetime) == kConnections);
  CHECK(count(end.tcp.min_rtt) == kConnections);
  CHECK(count(end.tcp.rtt) == kConnections);
}

TEST_CASE("a connection that lived between two looks has its TCP_INFO taken before it is closed") {
  auto server = start({.workers = 1, .sweep_interval = kNever});
  const std::string payload = pattern(200'000);
  {
    Client client = Client::to(server->endpoint());
    std::thread writer([&] { client.send(payload); });
    CHECK((client.receive(payload.size()) == payload));
    writer.join();
  }
  const auto end = statistics_when_idle(*server);
  CHECK(end.tcp.sent_bytes - end.tcp.retransmitted_bytes == payload.size());
  CHECK(end.tcp.received_bytes == payload.size());
}

TEST_CASE("a sweep reads live connections in slices") {
  constexpr std::size_t kConnections = 600;  // three chunks
  const auto received = [](Clock::duration sweep_interval, Clock::duration wait) {
    auto server = start({.workers = 1, .sweep_interval = sweep_interval});
    std::vector<Client> clients;
    for (std::size_t i = 0; i < kConnections; ++i) {
      clients.push_back(Client::to(server->endpoint()));
      REQUIRE(clients.back().echoes("0123456789"));
    }
    std::this_thread::sleep_for(wait);
    return statistics(*server).tcp.received_bytes;
  };
  const std::uint64_t one_slice = received(kNever, 0ms);
  CHECK(one_slice > 0);
  CHECK(one_slice <= (ConnectionSlab::kChunk + 20) * 10);  // a chunk and the twenty reported
  CHECK(received(10ms, 500ms) == kConnections * 10);
}

TEST_CASE("at most N connections have series of their own, and only while they live") {
  auto server = start(
      {.workers = 2, .connection_series = {.slots = 5, .new_per_hour = 100'000, .lowest_age = 0s}});
  ServerCollector collector(*server);
  const auto series = [&] {
    Sink sink(10'000);
    REQUIRE(collector.collect(sink, Clock::now() + 10s).ok());
    std::set<std::string> ids;
    for (const auto& family : sink.take()) {
      if (family.name.rfind("tcp_server_connection_", 0) != 0) continue;
      std::set<std::string> of_family;
      for (const auto& metric : family.metric) {
        REQUIRE(metric.label.size() == 2);
        CHECK(metric.label[0].name == "listener");
        CHECK(metric.label[1].name == "connection");
        CHECK(of_family.insert(metric.label[1].value).second);
        ids.insert(metric.label[1].value);
      }
    }
    return ids;
  };
  CHECK(series().empty());
  std::vector<Client> clients;
  for (int i = 0; i < 30; ++i) {
    clients.push_back(Client::to(server->endpoint()));
    REQUIRE(clients.back().echoes("hello"));
  }
  const std::set<std::string> first = series();
  CHECK(first.size() == 5);
  CHECK(series() == first);
  const auto worst = snapshot(*server).connections;
  REQUIRE(worst.size() == 5);
  for (std::size_t i = 1; i < worst.size(); ++i) CHECK(worse(worst[i - 1], worst[i]));
  CHECK(worst[0].vitals.received_bytes == 5);
  CHECK(worst[0].vitals.sent_bytes >= 5);

  clients.erase(clients.begin() + 3, clients.end());
  statistics_when(*server, [](const auto& s) { return s.live() == 3; });
  const TimePoint give_up = Clock::now() + 10s;
  while (series().size() < 3 && Clock::now() < give_up) std::this_thread::sleep_for(10ms);
  CHECK(series().size() == 3);
  clients.clear();
  statistics_when_idle(*server);
  CHECK(series().empty());
}

TEST_CASE("the worst connection has the highest retransmit ratio, then the slowest RTT") {
  const auto report = [](std::uint64_t id, std::uint32_t segments, std::uint32_t repeats,
                         std::uint32_t rtt_us) {
    ConnectionReport r{id, 0, {}, {}};
    r.vitals.data_segments_sent = segments;
    r.vitals.retransmitted_segments = repeats;
    r.vitals.rtt_us = rtt_us;
    return r;
  };
  CHECK(worse(report(1, 10, 2, 1), report(2, 100, 3, 1)));
  CHECK(worse(report(2, 100, 1, 50), report(1, 100, 1, 40)));
  CHECK(worse(report(1, 0, 0, 7), report(2, 0, 0, 7)));
  CHECK_FALSE(worse(report(1, 0, 0, 7), report(1, 0, 0, 7)));
}

TEST_CASE("a port in use is one clear line, whoever uses it") {
  auto server = start({});
  ListenerOptions free;
  free.endpoint.port = 0;
  ListenerOptions same;
  same.name = "same";
  same.endpoint = server->endpoint();
  const std::size_t descriptors = open_descriptors();
  const auto second = Server::start({.listeners = {free, same}});
  REQUIRE_FALSE(second.ok());
  CHECK(second.error().message ==
        "server: listener same on " + to_string(same.endpoint) + ": bind: Address already in use");
  CHECK(open_descriptors() == descriptors);
}

TEST_CASE("stopping closes what is open, counts it, and leaks no descriptor") {
  const std::size_t before = open_descriptors();
  {
    auto server = start({.workers = 2});
    std::vector<Client> clients;
    for (int i = 0; i < 50; ++i) {
      clients.push_back(Client::to(server->endpoint()));
      REQUIRE(clients.back().echoes("abc"));
    }
    const TimePoint start_of_stop = Clock::now();
    server->stop();
    CHECK(seconds_since(start_of_stop) < 2);
    for (Client& client : clients) CHECK(client.at_end());
    const auto end = statistics(*server);
    CHECK(closed(end, CloseCause::kShutdown) == 50);
    CHECK(end.live() == 0);
    CHECK(end.tcp.received_bytes == 150);
    CHECK(snapshot(*server).connections.empty());
    server->stop();  // again is nothing
    Client late;
  }
  CHECK(open_descriptors() == before);
}

TEST_CASE("at its limit a listener leaves connections waiting, and goes on when one closes") {
  ServerOptions options{.workers = 2};
  options.listeners[0].max_connections = 2;
  auto server = start(std::move(options));
  std::vector<Client> clients;
  for (int i = 0; i < 3; ++i) {
    clients.push_back(Client::to(server->endpoint()));
    REQUIRE(clients.back().send("x"));
  }
  const auto full = statistics_when(
      *server, [](const auto& s) { return s.live() == 2 && pauses(s, PauseReason::kLimit) > 0; });
  CHECK(pauses(full, PauseReason::kLimit) > 0);
  CHECK(cpu_share(200ms) < 0.2);
  // Which one waits is up to the workers.
  const auto waiting = std::partition(clients.begin(), clients.end(),
                                      [](Client& c) { return c.answered_within(0); });
  REQUIRE(clients.end() - waiting == 1);
  CHECK(statistics(*server).accepted == 2);
  clients.front().close();
  CHECK(clients.back().receive(1) == "x");
}

TEST_CASE("without descriptors a listener waits without burning a core, and goes on") {
  auto server = start({.workers = 1});
  std::vector<Client> clients(8);
  rlimit before{};
  REQUIRE(::getrlimit(RLIMIT_NOFILE, &before) == 0);
  const Fd probe(::dup(0));  // the lowest free descriptor: the server gets three from there on
  rlimit tight = before;
  tight.rlim_cur = static_cast<rlim_t>(probe.get()) + 4;
  REQUIRE(::setrlimit(RLIMIT_NOFILE, &tight) == 0);
  for (Client& client : clients) {
    client.connect(server->endpoint());
    client.send("x");
  }
  const auto starved = statistics_when(
      *server, [](const auto& s) { return pauses(s, PauseReason::kDescriptors) > 0; });
  const double share = cpu_share(300ms);
  ::setrlimit(RLIMIT_NOFILE, &before);
  CHECK(starved.accepted == 3);
  CHECK(pauses(starved, PauseReason::kDescriptors) > 0);
  CHECK(share < 0.2);
  for (Client& client : clients) CHECK(client.receive(1) == "x");
}

namespace {

// A backend that accepts nobody: the kernel establishes its connections.
struct SilentBackend {
  SilentBackend() {
    SocketAddress any(Endpoint{*parse_ip_address("127.0.0.1"), 0});
    REQUIRE(::bind(fd.get(), any.get(), any.length) == 0);
    REQUIRE(::listen(fd.get(), 100) == 0);
  }
  const Fd fd{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
};

// Until its end only descriptors below `most` may be opened.
struct DescriptorLimit {
  explicit DescriptorLimit(rlim_t most) {
    REQUIRE(::getrlimit(RLIMIT_NOFILE, &before) == 0);
    const rlimit tight{most, before.rlim_max};
    REQUIRE(::setrlimit(RLIMIT_NOFILE, &tight) == 0);
  }
  ~DescriptorLimit() { ::setrlimit(RLIMIT_NOFILE, &before); }
  rlimit before{};
};

rlim_t lowest_free_descriptor() { return static_cast<rlim_t>(Fd(::dup(0)).get()); }

}  // namespace

TEST_CASE("a relay short of descriptors accepts no client whose backend would have none") {
  const SilentBackend backend;
  ServerOptions options{.workers = 1};
  options.listeners[0].handler = HandlerKind::kRelay;
  options.listeners[0].backend = local_endpoint(backend.fd);
  auto server = start(std::move(options));
  constexpr std::size_t kClients = 8;
  std::vector<Client> clients(kClients);
  {
    const DescriptorLimit limit(lowest_free_descriptor() + 4);
    for (Client& client : clients) client.connect(server->endpoint());
    const auto starved = statistics_when(
        *server, [](const auto& s) { return pauses(s, PauseReason::kDescriptors) > 1; });
    CHECK(pauses(starved, PauseReason::kDescriptors) > 1);
    CHECK(starved.accepted < kClients);
    CHECK(starved.live() == starved.accepted);
  }
  const auto end =
      statistics_when(*server, [](const auto& s) { return s.backend_connections == kClients; });
  CHECK(end.backend_connections == kClients);
  CHECK(end.live() == kClients);
  for (Client& client : clients) CHECK_FALSE(client.answered_within(0));
}

TEST_CASE("a relay has as many clients as descriptors for both ends") {
  const SilentBackend backend;
  ServerOptions options{.workers = 1, .reserved_descriptors = 1'000'000};
  options.listeners[0].handler = HandlerKind::kRelay;
  options.listeners[0].backend = local_endpoint(backend.fd);
  std::unique_ptr<Server> server;
  std::size_t places = 0;
  {
    const rlim_t most = lowest_free_descriptor() + 10;
    const DescriptorLimit limit(most);
    server = start(std::move(options));
    places = most / 2 / 2;  // half of a limit this small is kept
  }
  CHECK(snapshot(*server).listeners[0].gauges.limit == places);
  std::vector<Client> clients;
  for (std::size_t i = 0; i < places + 3; ++i) clients.push_back(Client::to(server->endpoint()));
  const auto full = statistics_when(*server, [&](const auto& s) {
    return s.backend_connections == places && pauses(s, PauseReason::kLimit) > 0;
  });
  CHECK(full.live() == places);
  CHECK(full.backend_connections == places);
  clients.front().reset();
  const auto other = statistics_when(*server, [&](const auto& s) { return s.accepted > places; });
  CHECK(other.backend_failures == 0);
  CHECK(closed(other, CloseCause::kBackend) == 0);
}

namespace {

// How often the server's threads went to sleep, all together.
std::uint64_t sleeps_of_workers() {
  std::uint64_t sum = 0;
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
    std::string name;
    std::getline(std::ifstream(task.path() / "comm"), name);
    if (!name.starts_with("server-")) continue;
    std::ifstream status(task.path() / "status");
    constexpr std::string_view kKey = "voluntary_ctxt_switches:";
    for (std::string line; std::getline(status, line);) {
      if (line.starts_with(kKey)) sum += std::stoull(line.substr(kKey.size()));
    }
  }
  return sum;
}

// A listening socket as a service manager opens it.
std::vector<PassedSocket> passed_socket(Endpoint& endpoint) {
  SocketAddress any(Endpoint{*parse_ip_address("127.0.0.1"), 0});
  Fd fd(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  REQUIRE(::bind(fd.get(), any.get(), any.length) == 0);
  REQUIRE(::listen(fd.get(), 100) == 0);
  endpoint = local_endpoint(fd);
  std::vector<PassedSocket> passed;
  passed.push_back({"echo", std::move(fd)});
  return passed;
}

}  // namespace

TEST_CASE("of workers that share a socket one wakes for a connection, each in its turn") {
  constexpr unsigned kWorkers = 12;
  constexpr std::size_t kConnections = 120;
  ListenerOptions listener{.name = "echo"};
  auto passed = passed_socket(listener.endpoint);
  auto server = Server::start(
      {.listeners = {listener}, .workers = kWorkers, .sweep_interval = kNever}, std::move(passed));
  REQUIRE(server.ok());
  for (unsigned i = 0; i < kWorkers; ++i) {  // all of them wait
    REQUIRE(Client::to(listener.endpoint).echoes("x"));
  }
  statistics_when_idle(**server);
  const std::uint64_t before = sleeps_of_workers();
  const TimePoint start = Clock::now();
  std::vector<Client> clients;
  for (std::size_t i = 0; i < kConnections; ++i) {
    clients.push_back(Client::to(listener.endpoint));
    REQUIRE(clients.back().echoes("x"));
  }
  // One for a connection and one for its data; and each of a worker's seconds.
  const std::uint64_t sleeps = sleeps_of_workers() - before;
  CHECK(double(sleeps) < 4 * kConnections + kWorkers * (2 + 2 * seconds_since(start)));
  const auto live = snapshot(**server).listeners[0].live_by_worker;
  CHECK(live.size() == kWorkers);
  CHECK(std::count(live.begin(), live.end(), 0) == 0);
}

TEST_CASE("listeners are told apart, of both families") {
  ServerOptions options;
  options.listeners.push_back({.name = "six", .endpoint = *parse_endpoint("[::1]:0")});
  auto server = start(std::move(options));
  Client four = Client::to(server->endpoint(0));
  Client six = Client::to(server->endpoint(1));
  Client another = Client::to(server->endpoint(1));
  CHECK(four.echoes("a"));
  CHECK(six.echoes("bb"));
  CHECK(another.echoes("ccc"));
  CHECK(statistics(*server, 0).accepted == 1);
  CHECK(statistics(*server, 0).tcp.received_bytes == 1);
  CHECK(statistics(*server, 1).accepted == 2);
  CHECK(statistics(*server, 1).tcp.received_bytes == 5);
  CHECK(snapshot(*server).listeners[1].name == "six");
}

TEST_CASE("a worker that does not answer is an error that names it") {
  ServerShared shared;
  const ConnectionSeries series({});
  auto worker = Worker::create({7, 1s, series, shared});  // its thread is never started
  REQUIRE(worker.ok());
  const std::uint64_t ticket = (*worker)->request_report();
  const auto report = (*worker)->wait_report(ticket, Clock::now() + 20ms);
  REQUIRE_FALSE(report.ok());
  CHECK(report.error().message == "worker 7 did not answer in time");
}

TEST_CASE("snapshots may be asked for by many threads at once, under load") {
  auto server = start({.workers = 2, .sweep_interval = 1ms});
  std::atomic<bool> done{false};
  std::vector<std::thread> askers;
  std::atomic<int> failures{0};
  for (int i = 0; i < 3; ++i) {
    askers.emplace_back([&] {
      std::uint64_t accepted = 0;
      std::uint64_t bytes = 0;
      while (!done) {
        const auto snapshot = server->snapshot(Clock::now() + 10s);
        const bool fell = !snapshot || snapshot->listeners[0].statistics.accepted < accepted ||
                          snapshot->listeners[0].statistics.tcp.received_bytes < bytes;
        if (fell) ++failures;
        if (!snapshot) continue;
        accepted = snapshot->listeners[0].statistics.accepted;
        bytes = snapshot->listeners[0].statistics.tcp.received_bytes;
      }
    });
  }
  for (int i = 0; i < 200; ++i) {
    Client client = Client::to(server->endpoint());
    REQUIRE(client.echoes(pattern(3000)));
  }
  done = true;
  for (std::thread& asker : askers) asker.join();
  CHECK(failures == 0);
  CHECK(statistics_when_idle(*server).tcp.received_bytes == 600'000);
}
