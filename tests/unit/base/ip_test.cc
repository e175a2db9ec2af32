#include "base/ip.h"

#include <doctest/doctest.h>

using namespace tcpvitals;

TEST_CASE("an IPv4 address and its v4-mapped spelling are the same value") {
  CHECK(*parse_ip_address("192.0.2.1") == *parse_ip_address("::ffff:192.0.2.1"));
  CHECK(to_string(*parse_ip_address("::ffff:192.0.2.1")) == "192.0.2.1");
  CHECK(to_string(*parse_ip_address("2001:db8:0::1")) == "2001:db8::1");
  CHECK_FALSE(parse_ip_address("192.0.2").ok());
  CHECK_FALSE(parse_ip_address(std::string_view("192.0.2.1\0", 10)).ok());
  CHECK(parse_ip_address("0.0.0.0")->is_any());
  CHECK(parse_ip_address("::")->is_any());
  CHECK_FALSE(parse_ip_address("::1")->is_any());
}

TEST_CASE("a prefix contains its addresses and no others") {
  struct Row {
    const char* prefix;
    const char* address;
    bool inside;
  };
  for (const Row& row :
       {Row{"10.0.0.0/8", "10.255.0.1", true}, Row{"10.0.0.0/8", "11.0.0.1", false},
        Row{"172.16.0.0/12", "172.31.255.255", true}, Row{"172.16.0.0/12", "172.32.0.0", false},
        Row{"fc00::/7", "fdff::1", true}, Row{"fc00::/7", "fe00::1", false},
        Row{"0.0.0.0/0", "8.8.8.8", true}, Row{"0.0.0.0/0", "2001:db8::1", false},
        Row{"::/0", "8.8.8.8", false}, Row{"::/0", "2001:db8::1", true},
        Row{"192.0.2.7", "192.0.2.7", true}, Row{"192.0.2.7/24", "192.0.2.9", true}}) {
    CAPTURE(row.prefix);
    CAPTURE(row.address);
    CHECK(parse_ip_prefix(row.prefix)->contains(*parse_ip_address(row.address)) == row.inside);
  }
  CHECK_FALSE(parse_ip_prefix("10.0.0.0/33").ok());
  CHECK_FALSE(parse_ip_prefix("10.0.0.0/").ok());
  CHECK_FALSE(parse_ip_prefix("ten/8").ok());
}

TEST_CASE("a prefix is written as it is read") {
  for (const std::string text :
       {"10.0.0.0/8", "0.0.0.0/0", "192.0.2.1/32", "::/0", "fc00::/7", "2001:db8::1/128"}) {
    CHECK(to_string(*parse_ip_prefix(text)) == text);
  }
  CHECK(to_string(*parse_ip_prefix("192.0.2.1")) == "192.0.2.1/32");
}

TEST_CASE("an endpoint reads every spelling that the flags and the Helm chart use") {
  CHECK(to_string(*parse_endpoint("127.0.0.1:10077")) == "127.0.0.1:10077");
  CHECK(to_string(*parse_endpoint("[0.0.0.0]:9100")) == "0.0.0.0:9100");
  CHECK(to_string(*parse_endpoint("[::1]:10077")) == "[::1]:10077");
  CHECK(to_string(*parse_endpoint(":10077")) == "[::]:10077");
  for (const char* bad :
       {"127.0.0.1", "::1:10077", "127.0.0.1:65536", "127.0.0.1:", "host:1", ""}) {
    CAPTURE(bad);
    CHECK_FALSE(parse_endpoint(bad).ok());
  }
}
