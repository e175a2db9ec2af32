// restart_test.cc starts this program anew, to be what a restarted agent would be.
#pragma once

#include <string_view>

namespace tcpvitals::testing {

const char* successor_role();  // null: this is the test itself
int be_successor(std::string_view role);

}  // namespace tcpvitals::testing
