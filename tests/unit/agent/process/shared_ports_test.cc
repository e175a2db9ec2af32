#include "agent/process/shared_ports.h"

#include <doctest/doctest.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "server/socket_address.h"
#include "tests/support/serving.h"

using namespace tcpvitals;
using namespace tcpvitals::testing;

namespace {

// Whether a socket at `ours` shares connections with one at `other`.
bool shares(const char* ours, const char* other) {
  return !shared_endpoints({{1, *parse_endpoint(ours)}}, {{2, *parse_endpoint(other)}}).empty();
}

}  // namespace

TEST_CASE("a socket takes connections of ours at the same address, and at a part of ours") {
  CHECK(shares("127.0.0.1:80", "127.0.0.1:80"));
  CHECK(shares("[0.0.0.0]:80", "127.0.0.1:80"));
  CHECK(shares("[::]:80", "127.0.0.1:80"));
  CHECK(shares("[::]:80", "[::1]:80"));
  CHECK_FALSE(shares("127.0.0.1:80", "127.0.0.1:81"));
  CHECK_FALSE(shares("127.0.0.1:80", "[0.0.0.0]:80"));  // ours is the more exact
  CHECK_FALSE(shares("[0.0.0.0]:80", "[::1]:80"));
}

TEST_CASE("our own sockets are no strangers; each endpoint is told once") {
  const Endpoint at = *parse_endpoint("127.0.0.1:80");
  CHECK(shared_endpoints({{1, at}, {2, at}}, {{1, at}, {2, at}}).empty());
  CHECK(shared_endpoints({{1, at}, {2, at}}, {{3, at}, {4, at}}).size() == 1);
}

TEST_CASE(
    "a process of this user joins the port of several workers, and is found; of one it cannot") {
  for (const unsigned workers : {1U, 2U}) {
    CAPTURE(workers);
    const auto server = start({.workers = workers});
    const auto before = find_shared_endpoints(server->listening_sockets());
    REQUIRE_MESSAGE(before.ok(), before.error().message);
    CHECK(before->empty());
    const Fd stranger(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    REQUIRE(set_option(stranger, SOL_SOCKET, SO_REUSEPORT, 1));
    SocketAddress address(server->endpoint());
    const bool joined = ::bind(stranger.get(), address.get(), address.length) == 0;
    CHECK(joined == (workers > 1));
    if (!joined) continue;
    REQUIRE(::listen(stranger.get(), 1) == 0);
    const auto after = find_shared_endpoints(server->listening_sockets());
    REQUIRE(after.ok());
    CHECK(*after == std::vector<Endpoint>{server->endpoint()});
  }
}
