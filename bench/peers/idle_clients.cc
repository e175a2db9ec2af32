// idle_clients PORT COUNT [tls]: connects as often and says nothing more; prints a line when all
// stand. Ends when stdin does. A process holds some 19,900 connections at most.
#include <openssl/ssl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string_view>
#include <utility>
#include <vector>

#include "bench/child.h"
#include "bench/echo_load.h"

int main(int argc, char** argv) {
  using namespace tcpvitals::bench;
  if (argc < 3) return 2;
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
  const auto port = static_cast<std::uint16_t>(std::atoi(argv[1]));
  const auto count = static_cast<std::size_t>(std::atoi(argv[2]));
  std::vector<tcpvitals::Fd> fds;
  if (argc > 3 && std::string_view(argv[3]) == "tls") {
    SSL_CTX* context = SSL_CTX_new(TLS_client_method());
    while (fds.size() < count) {
      fds.push_back(std::move(hold_idle(port, 1)[0]));
      SSL* session = SSL_new(context);
      SSL_set_fd(session, fds.back().get());
      if (SSL_connect(session) != 1) die("TLS handshake");
    }
  } else {
    fds = hold_idle(port, count);
  }
  std::puts("ready");
  std::fflush(stdout);
  char byte;
  while (::read(STDIN_FILENO, &byte, 1) > 0) {
  }
  std::_Exit(0);
}
