#include "server/relay_table.h"

#include <doctest/doctest.h>

#include <thread>
#include <vector>

using namespace tcpvitals;

namespace {

Endpoint endpoint(const char* text) { return *parse_endpoint(text); }

}  // namespace

TEST_CASE("a relay's connection has its client from when it is added until it is removed") {
  RelayTable table;
  const Endpoint relay = endpoint("127.0.0.1:40000");
  const RelayTable::Client client{endpoint("[2001:db8::1]:5000"), "CN=scraper"};
  CHECK_FALSE(table.find(relay).has_value());
  table.add(relay, client);
  CHECK(table.find(relay) == client);
  CHECK(table.size() == 1);
  table.remove(relay);
  CHECK_FALSE(table.find(relay).has_value());
  CHECK(table.size() == 0);
}

TEST_CASE("the port of another address is another connection") {
  RelayTable table;
  table.add(endpoint("127.0.0.1:40000"), {endpoint("192.0.2.1:1"), ""});
  CHECK_FALSE(table.find(endpoint("127.0.0.2:40000")).has_value());
  CHECK_FALSE(table.find(endpoint("127.0.0.1:40001")).has_value());
}

TEST_CASE("workers fill the table while others ask it") {
  RelayTable table;
  std::vector<std::thread> threads;
  for (std::uint16_t t = 0; t < 4; ++t) {
    threads.emplace_back([&table, t] {
      Endpoint relay = endpoint("127.0.0.1:1");
      for (std::uint16_t i = 0; i < 5000; ++i) {
        relay.port = static_cast<std::uint16_t>(t * 10'000 + i % 100);
        const Endpoint client{relay.address, i};
        table.add(relay, {client, "CN=someone"});
        const auto found = table.find(relay);
        if (!found || found->endpoint != client) return;  // leaves its entry behind
        table.remove(relay);
      }
    });
  }
  for (auto& thread : threads) thread.join();
  CHECK(table.size() == 0);
}
