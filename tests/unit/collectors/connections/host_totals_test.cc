#include "collectors/connections/host_totals.h"

#include "tests/support/testing.h"

using namespace tcpvitals;
using namespace tcpvitals::testing;

TEST_CASE("host totals are read whole, each from its own field") {
  const TextSource files{
      {"net/snmp",
       "Tcp: ActiveOpens PassiveOpens AttemptFails EstabResets RetransSegs\nTcp: 1 2 3 4 5\n"}};
  const auto totals = read_host_totals(files);
  REQUIRE(totals.has_value());
  CHECK(totals->active_opens == 1);
  CHECK(totals->passive_opens == 2);
  CHECK(totals->attempt_fails == 3);
  CHECK(totals->retransmitted_segments == 5);
}

TEST_CASE("host totals that lack a field are missing, not zero") {
  CHECK_FALSE(read_host_totals(TextSource{}).has_value());
  for (const char* text :
       {"", "Tcp: ActiveOpens PassiveOpens AttemptFails\nTcp: 1 2 3\n",
        "Tcp: ActiveOpens PassiveOpens AttemptFails RetransSegs\nTcp: 1 2 3 x\n",
        "Tcp: ActiveOpens PassiveOpens AttemptFails RetransSegs\nTcp: 1 2 3\n"}) {
    CAPTURE(text);
    const TextSource files{{"net/snmp", text}};
    CHECK_FALSE(read_host_totals(files).has_value());
  }
}
