#include "collectors/attribution/netns_names.h"

#include <doctest/doctest.h>

using namespace tcpvitals;

TEST_CASE("a namespace's number is its label's, and is used again when nobody has it") {
  NetnsNames names;
  CHECK(names.name(0).empty());
  CHECK(names.name(kNetnsOther) == "other");
  CHECK(names.name(kNetnsHost) == "host");

  const NetnsId blue = names.id_of("blue");
  const NetnsId green = names.id_of("green");
  CHECK(blue > kNetnsHost);
  CHECK(blue != green);
  CHECK(names.name(green) == "green");
  CHECK(names.id_of("blue") == blue);

  names.retain([&](NetnsId id) { return id == green; });
  CHECK(names.name(green) == "green");
  CHECK(names.name(kNetnsHost) == "host");
  CHECK(names.name(kNetnsOther) == "other");
  CHECK(names.id_of("red") == blue);
  CHECK(names.name(blue) == "red");
  CHECK(names.id_of("blue") != green);
}

TEST_CASE("a namespace called as ours or as the rest is another one all the same") {
  NetnsNames names;
  CHECK(names.id_of("host") > kNetnsHost);
  CHECK(names.id_of("other") > kNetnsHost);
}
