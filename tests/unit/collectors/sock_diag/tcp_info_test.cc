#include "collectors/sock_diag/tcp_info.h"

#include <doctest/doctest.h>

#include <array>

using namespace tcpvitals;

TEST_CASE("a tcp_info field past the returned length is absent") {
  std::array<unsigned char, sizeof(TcpInfo)> bytes;
  bytes.fill(1);
  const TcpInfoSample old_kernel = read_tcp_info(bytes.data(), 104);
  CHECK(TCPVITALS_HAS(old_kernel, total_retrans));
  CHECK_FALSE(TCPVITALS_HAS(old_kernel, bytes_sent));
  CHECK(old_kernel.info.total_retrans == 0x01010101);
  CHECK(old_kernel.info.bytes_sent == 0);
  CHECK(old_kernel.info.min_rtt_us == kNoRtt);
  CHECK(TCPVITALS_HAS(read_tcp_info(bytes.data(), bytes.size()), bytes_sent));
  CHECK(read_tcp_info(nullptr, 0).length == 0);
}
