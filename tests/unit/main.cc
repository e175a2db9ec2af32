#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include "tests/support/successor.h"

int main(int argc, char** argv) {
  if (const char* role = tcpvitals::testing::successor_role()) {
    return tcpvitals::testing::be_successor(role);
  }
  return doctest::Context(argc, argv).run();
}
