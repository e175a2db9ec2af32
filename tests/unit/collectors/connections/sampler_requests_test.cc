#include "collectors/connections/sampler_requests.h"

#include <doctest/doctest.h>

using namespace tcpvitals;

TEST_CASE("a search whose client gave up is not left for the next dump") {
  SamplerRequests requests;
  const auto found = requests.search({}, Clock::now());
  CHECK(found.error().message == "the dump was not complete before the deadline");
  CHECK_FALSE(requests.wants_search());
}
