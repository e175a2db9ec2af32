#include <cstdio>

int main() {
  std::puts("tcpvitals");
  return 0;
}
