#include "server/relay_table.h"

#include <doctest/doctest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "server/socket_address.h"
#include "server/source_guard.h"

using namespace tcpvitals;
using namespace std::chrono_literals;

namespace {

Endpoint endpoint(const char* text) { return *parse_endpoint(text); }

struct Listener {
  Listener() {
    SocketAddress any(Endpoint{*parse_ip_address("127.0.0.1"), 0});
    REQUIRE(::bind(fd.get(), any.get(), any.length) == 0);
    REQUIRE(::listen(fd.get(), 2000) == 0);
    endpoint = local_endpoint(fd);
  }

  Fd fd{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  Endpoint endpoint;
};

// A connection from a port of `address` that is known before it begins.
class Connecting {
 public:
  explicit Connecting(const char* address) {
    SocketAddress any(Endpoint{*parse_ip_address(address), 0});
    REQUIRE(::bind(fd_.get(), any.get(), any.length) == 0);
    endpoint = local_endpoint(fd_);
  }

  void set_option(int name, const void* value, socklen_t size) {
    REQUIRE(::setsockopt(fd_.get(), IPPROTO_IP, name, value, size) == 0);
  }
  void connect(const Endpoint& to) {
    SocketAddress address(to);
    CHECK((::connect(fd_.get(), address.get(), address.length) == 0 || errno == EINPROGRESS));
  }
  bool connects_within(std::chrono::milliseconds wait) {
    pollfd poll{fd_.get(), POLLOUT, 0};
    return ::poll(&poll, 1, static_cast<int>(wait.count())) == 1 && take_error(fd_) == 0;
  }
  // Whether the first connection that `listener` accepts has these bytes, which this sends.
  bool delivers(const std::string& bytes, const Listener& listener) {
    const Fd accepted(::accept4(listener.fd.get(), nullptr, nullptr, SOCK_CLOEXEC));
    std::string received(bytes.size(), '\0');
    return ::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL) > 0 &&
           ::recv(accepted.get(), received.data(), received.size(), MSG_WAITALL) > 0 &&
           received == bytes;
  }

  Endpoint endpoint;

 private:
  Fd fd_{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
};

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

TEST_CASE("a guarded socket takes the connections of relays in the table, and nobody's else") {
  Listener listener;
  RelayTable table;
  REQUIRE(table.guard(listener.fd.get()).ok());
  Connecting stranger("127.0.0.1");
  stranger.connect(listener.endpoint);
  Connecting neighbour("127.9.9.9");
  Connecting relay("127.9.9.9");
  table.add(relay.endpoint, {endpoint("192.0.2.1:1"), ""});
  neighbour.connect(listener.endpoint);
  relay.connect(listener.endpoint);
  CHECK(relay.connects_within(10s));
  CHECK_FALSE(stranger.connects_within(0s));
  CHECK_FALSE(neighbour.connects_within(0s));

  table.remove(relay.endpoint);
  Connecting late("127.9.9.9");
  late.connect(listener.endpoint);
  CHECK(relay.delivers("what it sends still arrives", listener));
  CHECK_FALSE(late.connects_within(0s));

  table.unguard();
  Connecting anyone("127.0.0.1");
  anyone.connect(listener.endpoint);
  CHECK(anyone.connects_within(10s));
}

TEST_CASE("a guard has room for many sources, on several addresses") {
  Listener listener;
  std::vector<std::unique_ptr<Connecting>> known;
  std::vector<Endpoint> sources;
  for (const char* address : {"127.9.9.1", "127.9.9.2"}) {
    for (int i = 0; i < 230; ++i) {
      known.push_back(std::make_unique<Connecting>(address));
      sources.push_back(known.back()->endpoint);
    }
  }
  std::sort(sources.begin(), sources.end());
  const auto guard = SourceGuard::open(listener.fd.get());
  REQUIRE(guard.ok());
  REQUIRE(guard->admit(sources).ok());
  Connecting stranger("127.9.9.1");
  stranger.connect(listener.endpoint);
  for (const auto& one : known) one->connect(listener.endpoint);
  for (const auto& one : known) CHECK(one->connects_within(10s));
  CHECK_FALSE(stranger.connects_within(0s));
  const std::vector<Endpoint> too_many(5000, endpoint("127.9.9.1:1"));
  CHECK_FALSE(guard->admit(too_many).ok());
}

TEST_CASE("options that look like a port deceive no guard, and the highest TTL does not help") {
  Listener listener;
  const auto guard = SourceGuard::open(listener.fd.get());
  REQUIRE(guard.ok());
  const std::vector<Endpoint> sources{endpoint("127.9.9.9:257")};
  REQUIRE(guard->admit(sources).ok());
  Connecting disguised("127.9.9.9");
  const char no_operations[] = {1, 1, 1, 1};  // 257 where the port would be
  disguised.set_option(IP_OPTIONS, no_operations, sizeof no_operations);
  const int highest = 255;
  disguised.set_option(IP_TTL, &highest, sizeof highest);
  disguised.connect(listener.endpoint);
  pollfd came{listener.fd.get(), POLLIN, 0};
  CHECK(::poll(&came, 1, 0) == 0);
}

TEST_CASE("a table that guards what is no socket says so") {
  RelayTable table;
  CHECK(table.guard(-1).ok() == false);
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
