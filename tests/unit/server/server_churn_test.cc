// Connections of every kind at once, while everything that can change beside them does: for the
// sanitizers above all.
#include <doctest/doctest.h>

#include <array>
#include <atomic>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "server/audit/audit.h"
#include "tests/fixtures/descriptors.h"
#include "tests/support/serving.h"
#include "tests/support/tls_peer.h"
#include "tests/support/tls_testing.h"

using namespace tcpvitals;
using namespace tcpvitals::testing;

namespace {

constexpr std::size_t kThreads = 4;
constexpr std::size_t kRounds = 60;  // of a thread, one connection of each kind in each

enum Port : std::size_t { kEcho, kSecure, kRelayed, kProxied };

bool echo(Client& client, std::string_view bytes) {
  return client.send(bytes) && client.receive(bytes.size()) == bytes;
}

bool secure_echo(const Endpoint& endpoint, std::string_view bytes) {
  TlsPeer peer(endpoint);
  if (!peer.handshake() || peer.ask(std::string(bytes)) != bytes) return false;
  peer.tls.notify();
  return peer.socket.send(peer.tls.take());
}

// One of each kind; how many were not served as they should have been.
int connect_all(const Server& server, const std::string& bytes) {
  int failures = 0;
  const auto expect = [&](bool as_it_should) { failures += as_it_should ? 0 : 1; };
  const auto to = [&](Port port) { return Client::to(server.endpoint(port)); };
  {
    Client fin = to(kEcho);
    expect(echo(fin, bytes));
  }
  {
    Client rst = to(kEcho);
    expect(echo(rst, bytes));
    rst.reset();
  }
  {
    Client half_closed = to(kEcho);
    expect(half_closed.send(bytes));
    half_closed.end_stream();
    expect(half_closed.receive(bytes.size() + 1) == bytes);
  }
  to(kEcho);
  expect(secure_echo(server.endpoint(kSecure), bytes));
  {
    Client not_tls = to(kSecure);
    not_tls.send("GET / HTTP/1.1\r\n\r\n");
    while (!not_tls.receive_some().empty()) {
    }
  }
  {
    Client relayed = to(kRelayed);
    expect(echo(relayed, bytes));
  }
  {
    Client proxied = to(kProxied);
    expect(proxied.send("PROXY TCP4 192.0.2.1 192.0.2.9 4711 443\r\n") && echo(proxied, bytes));
  }
  return failures;
}
constexpr std::size_t kKinds = 8;

}  // namespace

TEST_CASE("connections of every kind at once, audited to the last one, under reloads and scrapes") {
  const std::size_t descriptors = open_descriptors();
  {
    const Directory directory;
    const std::string path = directory.path("audit");
    const Identity identity = make_identity({});
    const TlsOptions tls{.certificate_file = directory.write("crt", identity.certificate),
                         .key_file = directory.write("key", identity.key)};
    auto audit = std::move(*AuditLog::open({.path = path}));
    auto backend = start({.listeners = {{.name = "backend"}}, .workers = 1});
    auto server =
        start({.listeners = {{.name = "echo"},
                             {.name = "secure", .tls = tls},
                             {.name = "relayed",
                              .handler = HandlerKind::kRelay,
                              .backend = backend->endpoint()},
                             {.name = "proxied", .proxy_from = {*parse_ip_prefix("127.0.0.0/8")}}},
               .workers = 2,
               .sweep_interval = 1ms,
               .audit = audit.get()});

    std::atomic<bool> done{false};
    std::atomic<int> failures{0};
    std::thread operator_of_it([&] {
      for (int turn = 0; !done; ++turn) {
        // The same, but a change all the same.
        if (turn % 100 == 0) directory.write("crt", identity.certificate);
        server->renew_tls();
        auto file = AuditFile::open(path);
        if (!server->snapshot(Clock::now() + 10s) || !file) ++failures;
        if (file) audit->go_on_in(std::move(*file));
        std::this_thread::sleep_for(1ms);
      }
    });
    std::vector<std::thread> clients;
    for (std::size_t i = 0; i < kThreads; ++i) {
      clients.emplace_back([&] {
        for (std::size_t n = 0; n < kRounds; ++n) {
          failures += connect_all(*server, pattern(1 + 100 * n));
        }
      });
    }
    for (std::thread& client : clients) client.join();
    done = true;
    operator_of_it.join();
    CHECK(failures == 0);
    CHECK(server->drain(Clock::now() + 10s));
    server->stop();

    constexpr std::uint64_t kConnections = kThreads * kRounds * kKinds;
    std::uint64_t accepted = 0;
    std::uint64_t live = 0;
    for (const auto& listener : snapshot(*server).listeners) {
      accepted += listener.statistics.accepted;
      live += listener.statistics.live();
    }
    CHECK(accepted == kConnections);
    CHECK(live == 0);

    CHECK(audit->flush(Clock::now() + 10s));
    CHECK(audit->statistics().lost == 0);
    std::set<std::uint64_t> opened;
    std::set<std::uint64_t> closed;
    std::ifstream file(path);
    for (std::string line; std::getline(file, line);) {
      const auto record = nlohmann::json::parse(line);
      const bool first = (record["event"] == "open" ? opened : closed)
                             .insert(record["id"].get<std::uint64_t>())
                             .second;
      CHECK(first);
    }
    CHECK(opened.size() == kConnections);
    CHECK((opened == closed));
  }
  CHECK(open_descriptors() == descriptors);
}
