#include "agent/server_reload.h"

#include <unistd.h>

#include <fstream>

#include "server/relay_table.h"
#include "tests/support/mask.h"
#include "tests/support/serving.h"
#include "tests/support/tls_testing.h"

using namespace tcpvitals;
using namespace tcpvitals::testing;

namespace {

// A server as the agent has it, and a reloader of its file.
struct Agent {
  explicit Agent(const std::string& text) {
    write(text);
    options.config_file = path;
    const auto config = read_config(path);
    if (!config) FAIL(config.error().message);
    (*audit.prepare(config->server.audit))();
    auto started =
        Server::start({.listeners = config->server.listeners, .workers = 2, .audit = &audit});
    if (!started) FAIL(started.error().message);
    server = std::move(*started);
    drain.emplace(config->server.drain, signals);
    reloader.emplace(path, ConfigFlags{}, server_parts({options, door, &audit, *server, *drain}));
  }

  void write(const std::string& text) const { std::ofstream(path) << text; }
  std::string reload(const std::string& text) {
    write(text);
    const auto done = reloader->reload();
    return done ? "ok" : done.error().message;
  }

  const Mask mask;
  const Directory directory;
  const std::string path = directory.path("t.yml");
  Options options;
  RelayTable relays;
  Door door{*parse_endpoint("127.0.0.1:9"), relays};
  AuditLog audit;
  Signals signals{std::nullopt, [] {}};
  std::unique_ptr<Server> server;
  std::optional<DrainInForce> drain;
  std::optional<Reloader> reloader;
};

std::string listeners(const std::string& more = "") {
  return "server:\n  workers: 2\n  listeners:\n    echo: {address: '127.0.0.1:0'" + more + "}\n";
}

}  // namespace

TEST_CASE("a reload refuses another number of workers by its line, and changes nothing") {
  Agent agent(listeners());
  const std::string pid = std::to_string(::getpid());
  CHECK(agent.reload("server:\n  workers: 3\n  listeners:\n    other: {address: ':0'}\n") ==
        agent.path +
            ":2:12: server.workers: \"3\": it is 2 since the start, and another number needs a "
            "restart: kill -USR2 " +
            pid);
  CHECK(snapshot(*agent.server).listeners.at(0).name == "echo");
  CHECK(agent.reload(listeners(", max_connections: 7")) == "ok");
  CHECK(snapshot(*agent.server).listeners.at(0).gauges.limit == 7);
}

TEST_CASE("whichever part of the server cannot be changed, none is") {
  const auto other = start({.workers = 1});
  Agent agent(listeners());
  Client client = Client::to(agent.server->endpoint());
  const std::string taken = to_string(other->endpoint());
  CHECK(agent.reload(listeners(", deny: 127.0.0.0/8") + "    taken: {address: '" + taken + "'}\n" +
                     "  audit: {file: " + agent.directory.path("audit") + "}\n" +
                     "  drain: {timeout: 1s}\n") ==
        agent.path + ": listener taken on " + taken + ": bind: Address already in use");
  CHECK(agent.reload(listeners(", deny: 127.0.0.0/8") + "  audit: {file: /proc/none/audit}\n") ==
        agent.path +
            ":5:17: server.audit.file: \"/proc/none/audit\": audit log /proc/none/audit: No such "
            "file or "
            "directory");
  CHECK(client.echoes("x"));
  CHECK_FALSE(agent.audit.is_on());
  CHECK(agent.drain->get().timeout == 20s);
  CHECK(agent.reload(listeners() + "  audit: {file: " + agent.directory.path("audit") + "}\n" +
                     "  drain: {timeout: 1s}\n") == "ok");
  CHECK(agent.audit.is_on());
  CHECK(agent.drain->get().timeout == 1s);
  CHECK(client.echoes("y"));
  client.close();
  statistics_when_idle(*agent.server);
  CHECK(agent.audit.flush(Clock::now() + 10s));
  CHECK(agent.audit.statistics().lines == 1);
}
