// What this machine's kernel shows of MPTCP connections: their subflows, as TCP sockets.
#include <doctest/doctest.h>
#include <netinet/in.h>

#include <vector>

#include "collectors/sock_diag/netlink.h"
#include "collectors/sock_diag/socket_detail.h"
#include "tests/e2e/sockets.h"

using namespace tcpvitals;
using namespace tcpvitals::load;

namespace {

Fd mptcp_socket() {
  return Fd(must(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_MPTCP), "MPTCP socket"));
}

}  // namespace

TEST_CASE("an MPTCP connection is a TCP row at each end, and the row says that it is a subflow") {
  const Fd listener = mptcp_socket();
  Address at = address_of("127.0.0.1", 0);
  must(::bind(listener.get(), at.get(), at.size), "bind");
  must(::listen(listener.get(), 9), "listen");
  must(::getsockname(listener.get(), reinterpret_cast<sockaddr*>(&at.storage), &at.size),
       "getsockname");
  const std::uint16_t port = ntohs(reinterpret_cast<const sockaddr_in*>(&at.storage)->sin_port);
  std::vector<Fd> clients;
  for (int i = 0; i < 3; ++i) {
    clients.push_back(mptcp_socket());
    must(::connect(clients.back().get(), at.get(), at.size), "connect");
  }
  auto opened = open_diag_sockets(1 << 20);
  REQUIRE(opened.ok());
  REQUIRE(opened->dump->request_dump(0xfff, DumpDetail::kEverything).ok());
  int servers = 0;
  int outbound = 0;
  int waiting = -1;
  for (bool done = false; !done;) {
    const auto received = opened->dump->receive();
    REQUIRE(received.ok());
    REQUIRE_FALSE(received->datagrams.empty());
    for (const auto& datagram : received->datagrams) {
      InetDiagReader reader(datagram);
      SocketRow row;
      InetDiagReader::Next next;
      while ((next = reader.next(row)) == InetDiagReader::Next::kRow) {
        if (row.local_port != port && row.remote_port != port) continue;
        // What another test's server left on this port is in TIME_WAIT.
        if (row.state != TcpState::kListen && row.state != TcpState::kEstablished) continue;
        CHECK(read_detail(row).upper_protocol == "mptcp");
        if (row.state == TcpState::kListen) {
          waiting = static_cast<int>(row.receive_queue);
        } else {
          ++(row.local_port == port ? servers : outbound);
        }
      }
      done = next == InetDiagReader::Next::kDone;
    }
  }
  CHECK(servers == 3);
  CHECK(outbound == 3);
  CHECK(waiting == 3);
}
