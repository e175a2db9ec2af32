// tcp_states PORT: holds at least one socket in each TCP state until stdin closes, where PORT and
// the ports after it mean what Role says. The packets that must not arrive are for the caller to
// drop; then nothing moves except by retransmission timers that last longer than a test.
#include <fcntl.h>

#include "tests/e2e/sockets.h"

namespace tcpvitals::load {
namespace {

// For each port, what the caller must drop on its way in.
enum Role : std::uint16_t {
  kPlain = 0,        // nothing
  kNoSyn = 1,        // to the port: everything
  kNoAck = 2,        // to the port: segments without SYN
  kNoClientFin = 3,  // to the port: segments with FIN
  kNoServerFin = 4,  // from the port: segments with FIN
};

struct Pair {
  Fd client;
  Fd server;
};

class States {
 public:
  explicit States(std::uint16_t first_port) : first_port_(first_port) {}

  Address address(Role role) const {
    return address_of("127.0.0.1", static_cast<std::uint16_t>(first_port_ + role));
  }

  Pair pair(const Fd& listener, Role role) const {
    Pair p;
    p.client = connect_to(address(role));
    p.server = accept_from(listener);
    return p;
  }

  // SYN_SENT: the answer never comes, and we do not wait for it.
  Fd connecting(Role role) const {
    Fd fd = new_socket(address(role));
    must(::fcntl(fd.get(), F_SETFL, O_NONBLOCK), "fcntl");
    const Address to = address(role);
    if (::connect(fd.get(), to.get(), to.size) == 0 || errno != EINPROGRESS) die("connect");
    return fd;
  }

 private:
  std::uint16_t first_port_;
};

int hold_states(std::uint16_t first_port) {
  const States states(first_port);
  const Fd plain = listen_on(states.address(kPlain));
  const Fd no_ack = listen_on(states.address(kNoAck));
  const Fd no_client_fin = listen_on(states.address(kNoClientFin));
  const Fd no_server_fin = listen_on(states.address(kNoServerFin));
  std::vector<Fd> single;
  std::vector<Pair> pairs;

  for (int i = 0; i < 3; ++i) pairs.push_back(states.pair(plain, kPlain));  // ESTABLISHED
  for (int i = 0; i < 2; ++i) {  // FIN_WAIT2 and CLOSE_WAIT
    pairs.push_back(states.pair(plain, kPlain));
    shutdown_writing(pairs.back().client);
  }
  {  // FIN_WAIT2 again, as what the kernel keeps of a client that is gone
    Pair p = states.pair(plain, kPlain);
    single.push_back(std::move(p.server));
  }
  for (int i = 0; i < 2; ++i) {  // TIME_WAIT
    const Pair p = states.pair(plain, kPlain);
    shutdown_writing(p.client);
    expect_end(p.server);
  }
  single.push_back(states.connecting(kNoSyn));
  single.push_back(connect_to(states.address(kNoAck)));  // SYN_RECV behind an ESTABLISHED client

  pairs.push_back(states.pair(no_client_fin, kNoClientFin));  // FIN_WAIT1, the server ESTABLISHED
  shutdown_writing(pairs.back().client);
  pairs.push_back(states.pair(no_client_fin, kNoClientFin));  // CLOSING, the server FIN_WAIT2
  shutdown_writing(pairs.back().client);
  shutdown_writing(pairs.back().server);
  pairs.push_back(states.pair(no_server_fin, kNoServerFin));  // LAST_ACK, the client FIN_WAIT2
  shutdown_writing(pairs.back().client);
  expect_end(pairs.back().server);
  shutdown_writing(pairs.back().server);

  ready_until_stdin_closes(R"({"ready":true})");
  return 0;
}

}  // namespace
}  // namespace tcpvitals::load

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fputs("usage: tcp_states PORT\n", stderr);
    return 2;
  }
  ::alarm(120);
  return tcpvitals::load::hold_states(
      static_cast<std::uint16_t>(std::strtoul(argv[1], nullptr, 10)));
}
