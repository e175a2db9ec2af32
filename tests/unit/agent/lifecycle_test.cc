#include "agent/lifecycle.h"

#include <doctest/doctest.h>
#include <pthread.h>
#include <unistd.h>

#include <atomic>
#include <string>
#include <thread>

#include "tests/support/service_manager.h"
#include "tests/support/serving.h"

using namespace tcpvitals;
using namespace tcpvitals::testing;

namespace {

// Blocked in this thread, and in those it starts; as before when the test ends.
class Signals {
 public:
  Signals() {
    ::pthread_sigmask(SIG_BLOCK, nullptr, &before_);
    pipe_before_ = ::signal(SIGPIPE, SIG_IGN);
    ours_ = Lifecycle::block_signals();
  }
  ~Signals() {
    ::pthread_sigmask(SIG_SETMASK, &before_, nullptr);
    ::signal(SIGPIPE, pipe_before_);
  }
  Signals(const Signals&) = delete;
  Signals& operator=(const Signals&) = delete;

  const sigset_t& ours() const { return ours_; }
  // To this process: it waits until run() looks.
  static void send(int signal) { ::kill(::getpid(), signal); }

 private:
  sigset_t before_{};
  sigset_t ours_{};
  sighandler_t pipe_before_ = SIG_DFL;
};

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
    Lifecycle({*server, *http, reloader, service_manager}, drain, signals.ours()).run();
  }

  bool is_ready() const {
    Client client = Client::to(http->endpoint());
    client.send("GET /-/ready HTTP/1.1\r\nHost: x\r\n\r\n");
    return client.receive(1000).find(" 200 ") != std::string::npos;
  }

  Signals signals;  // before any thread
  const std::string address = "@tcpvitals-lifecycle-" + std::to_string(::getpid());
  Manager manager{address};
  Environment environment{{"NOTIFY_SOCKET", address}};
  ServiceManager service_manager = ServiceManager::from_environment();
  DrainOptions drain;
  std::unique_ptr<Server> server;
  Scrape scrape{{}, {}};
  std::unique_ptr<HttpServer> http;
  Reloader reloader{"", {}, {}};
};

}  // namespace

TEST_CASE("signals are served in turn: a reload, which the manager hears of, then the end") {
  Agent agent;
  Client client = Client::to(agent.server->endpoint());
  CHECK(client.echoes("hello"));
  Signals::send(SIGTERM);
  Signals::send(SIGHUP);  // of the two that wait this one, the lower, is first
  std::thread closes([&] {
    CHECK(client.at_end());
    client.close();
  });
  agent.run();
  closes.join();
  CHECK(agent.reloader.status().failures == 1);  // there is no file
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
  Signals::send(SIGINT);
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
  Signals::send(SIGTERM);
  const TimePoint start = Clock::now();
  agent.run();
  CHECK(Clock::now() - start >= 1s);
  CHECK(closed(statistics(*agent.server), CloseCause::kShutdown) == 1);
}

TEST_CASE("a second signal to end ends the wait, and the drain") {
  for (const DrainOptions& drain :
       {DrainOptions{.wait = 60s, .timeout = 60s}, DrainOptions{.wait = 0s, .timeout = 60s}}) {
    Agent agent(stubborn(), drain);
    Client client = Client::to(agent.server->endpoint());
    CHECK(client.echoes("hello"));
    Signals::send(SIGINT);  // it comes before SIGTERM
    Signals::send(SIGHUP);  // and this before either
    std::thread running([&] { agent.run(); });
    while (agent.is_ready()) std::this_thread::sleep_for(1ms);
    Signals::send(SIGHUP);  // not now any more
    Signals::send(SIGTERM);
    const TimePoint start = Clock::now();
    running.join();
    CHECK(Clock::now() - start < 30s);
    CHECK(agent.reloader.status().failures == 1);
    CHECK(closed(statistics(*agent.server), CloseCause::kShutdown) == 1);
  }
}
