// What a listener's workers share: who is admitted, what a refusal costs, and options of sockets.
#include "server/listener.h"

#include <doctest/doctest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <memory>
#include <utility>
#include <vector>

#include "server/socket_address.h"

using namespace tcpvitals;
using namespace std::chrono_literals;

namespace {

const IpAddress kClient = *parse_ip_address("192.0.2.1");
const IpAddress kStranger = *parse_ip_address("198.51.100.9");
const IpAddress kProxy = *parse_ip_address("10.0.0.1");
const TimePoint kNow = TimePoint(1'000'000s);

std::vector<IpPrefix> only(const IpAddress& address) { return {prefix_of(address, 128)}; }

// With one worker, whose settings are the listener's.
struct Listener {
  explicit Listener(const ListenerOptions& options)
      : settings(options, 100, nullptr, std::make_shared<PeerLimits>(options.per_peer)),
        common(options.accept_rate) {}

  Admission admit_peer(const IpAddress& peer, TimePoint now) {
    return common.admit_peer(settings, peer, now);
  }
  Admission admit_client(const IpAddress& client, TimePoint now) {
    return common.admit_client(settings, client, now);
  }
  ListenerGauges gauges(TimePoint now) const { return common.gauges(settings, now); }

  const ListenerSettings settings;
  ServerListener common;
};

int option_of(const Fd& fd, int level, int option) {
  int value = -1;
  socklen_t length = sizeof value;
  ::getsockopt(fd.get(), level, option, &value, &length);
  return value;
}

}  // namespace

TEST_CASE("without limits every client is admitted, whatever the clocks of the workers") {
  Listener listener({});
  for (const auto now : {kNow, kNow - 10s, kNow + 10s, kNow - 1h}) {
    const Admission admission = listener.admit_peer(kClient, now);
    CHECK_FALSE(admission.refused);
    CHECK_FALSE(admission.counted);
  }
}

TEST_CASE("a worker with an older clock refuses no client of a listener without a rate") {
  ListenerOptions options;
  options.per_peer.max_connections = 50;
  Listener listener(options);
  for (int i = 0; i < 50; ++i) {
    const Admission admission = listener.admit_peer(kClient, kNow - std::chrono::milliseconds(i));
    CHECK_FALSE(admission.refused);
    CHECK(admission.counted);
  }
  CHECK(listener.admit_peer(kClient, kNow + 1s).refused == RejectReason::kPeerConnections);
}

TEST_CASE("clients that a list or their own limit refuses spend nothing of the accept rate") {
  ListenerOptions options;
  options.deny = only(kStranger);
  options.per_peer = {.rate = 0.001, .burst = 1};
  options.accept_rate = {.soft = 2, .hard = 2};
  Listener listener(options);
  for (int i = 0; i < 10; ++i) {
    CHECK(listener.admit_peer(kStranger, kNow).refused == RejectReason::kAccess);
  }
  CHECK_FALSE(listener.admit_peer(kClient, kNow).refused);
  for (int i = 0; i < 10; ++i) {
    CHECK(listener.admit_peer(kClient, kNow).refused == RejectReason::kPeerRate);
  }
  const ListenerGauges before = listener.gauges(kNow);
  CHECK(before.accept_peak == 1);
  CHECK(before.accept_soft_limit_seconds == 0);
  CHECK_FALSE(listener.admit_peer(kProxy, kNow).refused);
  CHECK(listener.admit_peer(*parse_ip_address("10.0.0.2"), kNow).refused ==
        RejectReason::kAcceptRate);
}

TEST_CASE("a client that the accept rate refuses keeps its own tokens and connections") {
  ListenerOptions options;
  options.per_peer = {.max_connections = 1, .rate = 0.001, .burst = 1};
  options.accept_rate = {.soft = 1, .hard = 1};
  Listener listener(options);
  CHECK_FALSE(listener.admit_peer(kProxy, kNow).refused);
  for (int i = 0; i < 3; ++i) {
    CHECK(listener.admit_peer(kClient, kNow).refused == RejectReason::kAcceptRate);
  }
  const Admission later = listener.admit_peer(kClient, kNow + 1s);
  CHECK_FALSE(later.refused);
  CHECK(later.counted);
}

TEST_CASE(
    "behind a proxy a client is judged by its own address, the proxy by the list of proxies") {
  ListenerOptions options;
  options.proxy_from = only(kProxy);
  options.deny = only(kStranger);
  options.accept_rate = {.soft = 1, .hard = 1};
  Listener listener(options);
  CHECK(listener.admit_peer(kClient, kNow).refused == RejectReason::kUntrustedProxy);
  for (int i = 0; i < 5; ++i) CHECK_FALSE(listener.admit_peer(kProxy, kNow).refused);
  CHECK(listener.admit_client(kStranger, kNow).refused == RejectReason::kAccess);
  CHECK_FALSE(listener.admit_client(kClient, kNow).refused);
  CHECK(listener.admit_client(kClient, kNow).refused == RejectReason::kAcceptRate);
}

TEST_CASE("a passed socket gets the listener's options, those that are off too") {
  ListenerOptions options;
  options.endpoint.port = 0;
  options.user_timeout = 30s;
  auto before = open_listener(options, 1);
  REQUIRE(before.ok());
  const int fd = before->sockets[0].get();
  CHECK(option_of(before->sockets[0], IPPROTO_TCP, TCP_NODELAY) == 1);
  CHECK(option_of(before->sockets[0], IPPROTO_TCP, TCP_USER_TIMEOUT) == 30'000);

  options.nodelay = false;
  options.keepalive.idle = 0s;
  options.user_timeout = 0s;
  const auto after = open_listener(options, 1, std::move(before->sockets));
  REQUIRE(after.ok());
  REQUIRE(after->sockets[0].get() == fd);
  CHECK(option_of(after->sockets[0], IPPROTO_TCP, TCP_NODELAY) == 0);
  CHECK(option_of(after->sockets[0], SOL_SOCKET, SO_KEEPALIVE) == 0);
  CHECK(option_of(after->sockets[0], IPPROTO_TCP, TCP_USER_TIMEOUT) == 0);
}

TEST_CASE("a server refuses relays that lead back to themselves") {
  ListenerOptions relay{.name = "relay", .handler = HandlerKind::kRelay};
  relay.endpoint = {*parse_ip_address("0.0.0.0"), 7};
  relay.backend = {*parse_ip_address("127.0.0.1"), 7};
  const auto refused = validate({.listeners = {relay}});
  REQUIRE_FALSE(refused.ok());
  CHECK(refused.error().message == "listener relay: its backend leads back to it");
  relay.backend.port = 8;
  CHECK(validate({.listeners = {relay}}).ok());
}
