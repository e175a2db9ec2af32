// Names of peers and of ports.
#include <doctest/doctest.h>

#include <random>

#include "collectors/attribution/peer_groups.h"
#include "collectors/attribution/port_names.h"

using namespace tcpvitals;

namespace {

NamedPrefix peer(const char* name, const char* prefix) { return {name, *parse_ip_prefix(prefix)}; }

std::string_view group_of(const PeerGroups& peers, const char* address) {
  return peers.name(peers.find(*parse_ip_address(address)));
}

}  // namespace

TEST_CASE("peers fall into the built-in groups by longest prefix") {
  const PeerGroups peers;
  struct Row {
    const char* address;
    const char* group;
  };
  for (const Row& row :
       {Row{"127.1.2.3", "loopback"}, Row{"::1", "loopback"}, Row{"169.254.1.1", "link_local"},
        Row{"fe80::1", "link_local"}, Row{"10.1.1.1", "private"}, Row{"172.20.0.1", "private"},
        Row{"192.168.3.4", "private"}, Row{"100.64.0.1", "private"}, Row{"fd00::1", "private"},
        Row{"8.8.8.8", "public"}, Row{"172.32.0.1", "public"}, Row{"2001:db8::1", "public"},
        Row{"::ffff:10.0.0.1", "private"}}) {
    CAPTURE(row.address);
    CHECK(peers.name(peers.find(*parse_ip_address(row.address))) == row.group);
  }
}

TEST_CASE("a configured peer stands beside the built-in ones, and the longest prefix wins") {
  const std::vector<NamedPrefix> named{
      peer("office", "10.20.0.0/16"),   peer("db", "10.20.30.0/24"),
      peer("db", "2001:db8:1::/48"),    peer("vip", "10.20.30.7"),
      peer("private", "198.18.0.0/15"), peer("anyone6", "::/0"),
      peer("lan", "192.168.0.0/16"),
  };
  const PeerGroups peers(named);
  CHECK(peers.size() == 4 + 5);
  struct Row {
    const char* address;
    const char* group;
  };
  for (const Row& row : std::vector<Row>{{"10.19.255.255", "private"},
                                         {"10.20.0.0", "office"},
                                         {"10.20.29.255", "office"},
                                         {"10.20.30.6", "db"},
                                         {"10.20.30.7", "vip"},
                                         {"10.20.30.8", "db"},
                                         {"10.20.31.0", "office"},
                                         {"10.21.0.0", "private"},
                                         {"::ffff:10.20.30.7", "vip"},
                                         {"2001:db8:1::7", "db"},
                                         {"2001:db8:2::", "anyone6"},
                                         {"8.8.8.8", "public"},
                                         {"198.19.1.1", "private"},
                                         {"192.168.1.1", "lan"},
                                         {"192.169.0.0", "public"},
                                         {"::1", "loopback"},
                                         {"::", "anyone6"},
                                         {"255.255.255.255", "public"},
                                         {"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "anyone6"}}) {
    CAPTURE(row.address);
    CHECK(group_of(peers, row.address) == row.group);
  }
}

TEST_CASE("of two equal prefixes the later counts; a name is found by its text") {
  const std::vector<NamedPrefix> named{peer("a", "203.0.113.0/24"), peer("b", "203.0.113.0/24")};
  const PeerGroups peers(named);
  CHECK(group_of(peers, "203.0.113.1") == "b");
  REQUIRE(peers.id_of("b"));
  CHECK(peers.name(*peers.id_of("b")) == "b");
  CHECK(peers.id_of("a"));
  CHECK_FALSE(peers.id_of("c"));
}

TEST_CASE("peers are found as by trying every prefix, with 10,000 of them") {
  const auto seed = std::random_device{}();
  CAPTURE(seed);
  std::mt19937_64 random(seed);
  std::vector<NamedPrefix> named;
  const auto address = [&] {
    // Few distinct bytes, so that prefixes nest.
    IpAddress a;
    for (auto& byte : a.bytes) byte = random() % 4 == 0 ? 255 : 0;
    if (random() % 2 == 0) a = IpAddress::v4(a.bytes.data());
    a.bytes[15] = static_cast<std::uint8_t>(random());
    return a;
  };
  while (named.size() < 10'000) {
    const IpAddress a = address();
    const auto length = a.is_v4() ? 96 + random() % 33 : random() % 129;
    named.push_back({"group" + std::to_string(random() % 200),
                     prefix_of(a, static_cast<std::uint8_t>(length))});
  }
  std::vector<NamedPrefix> all{peer("loopback", "127.0.0.0/8"),
                               peer("loopback", "::1"),
                               peer("link_local", "169.254.0.0/16"),
                               peer("link_local", "fe80::/10"),
                               peer("private", "10.0.0.0/8"),
                               peer("private", "172.16.0.0/12"),
                               peer("private", "192.168.0.0/16"),
                               peer("private", "100.64.0.0/10"),
                               peer("private", "fc00::/7"),
                               peer("public", "0.0.0.0/0"),
                               peer("public", "::/0")};
  all.insert(all.end(), named.begin(), named.end());
  const PeerGroups peers(named);
  for (int i = 0; i < 2000; ++i) {
    const IpAddress a = address();
    const NamedPrefix* longest = nullptr;
    for (const NamedPrefix& row : all) {
      const bool as_long = longest == nullptr || row.prefix.length >= longest->prefix.length;
      if (as_long && row.prefix.contains(a)) longest = &row;
    }
    CAPTURE(to_string(a));
    CHECK(peers.name(peers.find(a)) == longest->name);
  }
}

TEST_CASE("the narrowest range names a port, of equally narrow ones the first") {
  const std::vector<NamedPorts> named{
      {"web", {80, 80}},       {"web", {443, 443}},     {"apps", {8000, 8999}},
      {"admin", {8080, 8089}}, {"debug", {8085, 8085}}, {"late", {8090, 8099}},
      {"later", {8095, 8104}}, {"top", {65535, 65535}}, {"everything", {1, 65535}}};
  const PortNames names(named);
  CHECK(names.size() == 8);
  struct Row {
    std::uint16_t port;
    const char* name;
  };
  for (const Row& row : std::vector<Row>{{80, "web"},
                                         {443, "web"},
                                         {81, "everything"},
                                         {8000, "apps"},
                                         {8080, "admin"},
                                         {8085, "debug"},
                                         {8086, "admin"},
                                         {8094, "late"},
                                         {8095, "late"},
                                         {8099, "late"},
                                         {8100, "later"},
                                         {8104, "later"},
                                         {8105, "apps"},
                                         {9000, "everything"},
                                         {65535, "top"}}) {
    CAPTURE(row.port);
    REQUIRE(names.find(row.port));
    CHECK(names.name(*names.find(row.port)) == row.name);
  }
  CHECK_FALSE(names.find(0));
  CHECK(names.id_of("web") == names.find(80));
  CHECK_FALSE(names.id_of("nobody"));
  CHECK_FALSE(PortNames().find(80));
}
