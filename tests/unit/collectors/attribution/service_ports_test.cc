#include "collectors/attribution/service_ports.h"

#include <doctest/doctest.h>

#include <random>
#include <set>

using namespace tcpvitals;

namespace {

using Sign = ServicePorts::Sign;

// How many times `sign` must come until the port is named.
int needed(ServicePorts& ports, std::uint16_t port, Sign sign) {
  for (int i = 1; i < 10'000; ++i) {
    if (ports.add(port, sign)) return i;
  }
  return 0;
}

void take_places(ServicePorts& ports, std::size_t n) {
  while (ports.size() < n) ports.name(static_cast<std::uint16_t>(30'000 + ports.size()));
}

}  // namespace

TEST_CASE("a port is named by a listener, two connections or sixteen failures") {
  ServicePorts ports;
  CHECK(needed(ports, 1, Sign::kListener) == 1);
  CHECK(needed(ports, 2, Sign::kConnection) == 2);
  CHECK(needed(ports, 3, Sign::kFailure) == 16);
  CHECK(ports.size() == 3);
  CHECK(ports.contains(2));
  CHECK_FALSE(ports.contains(4));
  CHECK_FALSE(ports.add(2, Sign::kConnection));  // it is already
}

TEST_CASE("the more places are taken, the more connections a port needs") {
  ServicePorts ports;
  ports.set_limit(100);
  take_places(ports, 24);
  CHECK(needed(ports, 1, Sign::kConnection) == 2);
  CHECK(needed(ports, 2, Sign::kConnection) == 8);
  take_places(ports, 50);
  CHECK(needed(ports, 3, Sign::kConnection) == 32);
  take_places(ports, 75);
  CHECK(needed(ports, 4, Sign::kConnection) == 128);
  take_places(ports, 100);
  CHECK(needed(ports, 5, Sign::kConnection) == 0);
  CHECK(ports.size() == 100);
}

TEST_CASE("a listener's port is named early while the first quarter of the places lasts") {
  ServicePorts ports;
  ports.set_limit(8);
  ports.name_early(1);
  ports.name_early(2);
  ports.name_early(3);
  CHECK(ports.contains(2));
  CHECK_FALSE(ports.contains(3));
}

TEST_CASE("a scan of 60,000 ports names none, and a service beside it is named all the same") {
  ServicePorts ports;
  for (std::uint32_t port = 1024; port < 61'024; ++port) {
    CHECK_FALSE(ports.add(static_cast<std::uint16_t>(port), Sign::kConnection));
  }
  CHECK(ports.size() == 0);
  for (std::uint32_t i = 0; i < 1000; ++i) {
    ports.add(static_cast<std::uint16_t>(1024 + i), Sign::kConnection);
    if (i % 100 == 0) ports.add(61'500, Sign::kConnection);
  }
  CHECK(ports.contains(61'500));
  CHECK(ports.size() == 1);
}

TEST_CASE("a client of thousands of peers takes three quarters of the places at most") {
  const auto seed = std::random_device{}();
  CAPTURE(seed);
  std::mt19937 random(seed);
  ServicePorts ports;
  ports.set_limit(100);
  for (int i = 0; i < 200'000; ++i) {
    ports.add(static_cast<std::uint16_t>(32'768 + random() % 28'000), Sign::kConnection);
  }
  CHECK(ports.size() < 75);
  CHECK(needed(ports, 443, Sign::kConnection) <= 128);
}

TEST_CASE("a named port stays while it is shown or used, and an hour longer") {
  ServicePorts ports;
  TimePoint now = Clock::now();
  const std::set<std::uint16_t> shown{1};
  const auto look = [&](std::chrono::minutes later) {
    now += later;
    ports.retain(now, [&](std::uint16_t port) { return shown.count(port) > 0; });
  };
  ports.name(1);
  ports.name(2);
  ports.name(3);
  look(std::chrono::minutes(0));
  look(std::chrono::minutes(60));
  CHECK(ports.size() == 3);
  ports.add(2, Sign::kFailure);
  look(std::chrono::minutes(1));
  CHECK(ports.contains(1));
  CHECK(ports.contains(2));
  CHECK_FALSE(ports.contains(3));
  look(std::chrono::minutes(61));
  CHECK(ports.contains(1));
  CHECK(ports.size() == 1);
}
