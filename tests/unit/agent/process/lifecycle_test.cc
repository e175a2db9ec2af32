#include "agent/process/lifecycle.h"

#include <doctest/doctest.h>
#include <pthread.h>
#include <unistd.h>

#include <atomic>
#include <string>
#include <thread>

#include "tests/support/mask.h"
#include "tests/support/service_manager.h"
#include "tests/support/serving.h"

using namespace tcpvitals;
using namespace tcpvitals::testing;

namespace {

void send(int signal) { ::kill(::getpid(), signal); }

// Keeps its streams open when the server drains.
class Stubborn final : public Handler {
 public:
  void on_data(Stream stream, std::string_view bytes) override { stream.write(bytes); }
  void on_drain(Stream /*stream*/) override {}
};

ListenerOptions stubborn() {
  ListenerOptions listener{.name = "stubborn", .handler = HandlerKind::kOwn};
  listener.make_handler = [] { return std::make_unique<Stubborn>(); };
  return listener;
}

// An agent's parts, small.
struct Agent {
  explicit Agent(ListenerOptions listener = {},
                 DrainOptions drain_for = {.wait = 0s, .timeout = 60s})
      : drain(drain_for),
        server(start({.listeners = {std::move(listener)}, .workers = 2})),
        http(std::move(*HttpServer::start({}))) {
    http->serve(scrape);
    http->set_ready(true);
  }

  void run() {
    Lifecycle({*server, *http, reloader, service_manager, [this] { ++reopened; },
               [this] { return drain; }},
              signals)
        .run();
  }

  bool is_ready() const {
    Client client = Client::to(http->endpoint());
    client.send("GET /-/ready HTTP/1.1\r\nHost: x\r\n\r\n");
    return client.receive(1000).find(" 200 ") != std::string::npos;
  }

  const Mask mask;
  Signals signals{std::nullopt};  // before any thread
  const std::string address = "@tcpvitals-lifecycle-" + std::to_string(::getpid());
  Manager manager{address};
  Environment environment{{"NOTIFY_SOCKET", address}};
  ServiceManager service_manager = ServiceManager::from_environment();
  DrainOptions drain;
  std::unique_ptr<Server> server;
  Scrape scrape{{}, {}};
  std::unique_ptr<HttpServer> http;
  Reloader reloader{"", {}, {}};
  int reopened = 0;
};

}  // namespace

TEST_CASE("signals are served in turn: rotation, a reload that the manager hears of, the end") {
  Agent agent;
  Client client = Client::to(agent.server->endpoint());
  CHECK(client.echoes("hello"));
  send(SIGUSR1);
  send(SIGHUP);
  send(SIGTERM);
  std::thread closes([&] {
    CHECK(client.at_end());
    client.close();
  });
  agent.run();
  closes.join();
  CHECK(agent.reloader.status().failures == 1);  // there is no file
  CHECK(agent.reopened == 2);                    // for either, whatever became of the reload
  CHECK(agent.manager.heard().rfind("RELOADING=1\nMONOTONIC_USEC=", 0) == 0);
  CHECK(agent.manager.heard() == "READY=1");
  CHECK(agent.manager.heard() == "STOPPING=1");
  CHECK(agent.manager.heard() == "nothing");
  CHECK_FALSE(agent.is_ready());
  CHECK(closed(statistics(*agent.server), CloseCause::kDrain) == 1);
}

TEST_CASE("before a drain it is not ready and still accepts, for as long as it is told") {
  Agent agent({}, {.wait = 1s, .timeout = 60s});
  CHECK(agent.is_ready());
  const Endpoint endpoint = agent.server->endpoint();
  const TimePoint start = Clock::now();
  send(SIGINT);
  std::thread running([&] { agent.run(); });
  while (agent.is_ready()) std::this_thread::sleep_for(1ms);
  CHECK(Client::to(endpoint).echoes("hello"));
  CHECK(Clock::now() - start < 1s);
  running.join();
  CHECK(Clock::now() - start >= 1s);
  CHECK_FALSE(Client(AF_INET).can_connect(endpoint));
}

TEST_CASE("who does not end by himself is cut when the patience is over") {
  Agent agent(stubborn(), {.wait = 0s, .timeout = 1s});
  Client client = Client::to(agent.server->endpoint());
  CHECK(client.echoes("hello"));
  send(SIGTERM);
  const TimePoint start = Clock::now();
  agent.run();
  CHECK(Clock::now() - start >= 1s);
  CHECK(closed(statistics(*agent.server), CloseCause::kShutdown) == 1);
}

TEST_CASE("a drain without a bound lasts until the last connection has ended") {
  Agent agent(stubborn(), {.wait = 0s, .timeout = 0s});
  Client client = Client::to(agent.server->endpoint());
  CHECK(client.echoes("hello"));
  send(SIGTERM);
  std::thread running([&] { agent.run(); });
  while (agent.is_ready()) std::this_thread::sleep_for(1ms);
  std::this_thread::sleep_for(200ms);
  CHECK(client.echoes("still here"));
  client.end_stream();
  client.close();
  running.join();
  CHECK(closed(statistics(*agent.server), CloseCause::kShutdown) == 0);
}

TEST_CASE("a second signal to end ends the wait, and the drain") {
  for (const DrainOptions& drain :
       {DrainOptions{.wait = 60s, .timeout = 60s}, DrainOptions{.wait = 0s, .timeout = 60s}}) {
    Agent agent(stubborn(), drain);
    Client client = Client::to(agent.server->endpoint());
    CHECK(client.echoes("hello"));
    send(SIGHUP);
    send(SIGINT);
    std::thread running([&] { agent.run(); });
    while (agent.is_ready()) std::this_thread::sleep_for(1ms);
    send(SIGHUP);  // not now any more
    send(SIGTERM);
    const TimePoint start = Clock::now();
    running.join();
    CHECK(Clock::now() - start < 30s);
    CHECK(agent.reloader.status().failures == 1);
    CHECK(closed(statistics(*agent.server), CloseCause::kShutdown) == 1);
  }
}
