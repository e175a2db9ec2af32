// tcp_fates PORT COUNT STEP...: leads COUNT connections, side by side, through one kind of life. A
// step is a sentence, one argument, and is taken by all of them before the next begins:
//
//   server listens [ADDRESS [BACKLOG]]    client connects [ADDRESS]    server accepts
//   client starts [ADDRESS]     connects without waiting for it
//   client blocks [ADDRESS]     connects in a thread that waits for it
//   client fails ERROR...       waits until what was started, or stood, fails with one of them
//   WHO sends BYTES             WHO reads BYTES             WHO ends    reads the end of the stream
//   WHO says HEX                sends those very bytes
//   client floods               sends until nobody takes any more; `server drains` reads it
//   client pumps BYTES [MS]     the server reads along, a piece every MS milliseconds
//   WHO shuts                   sends a FIN
//   WHO closes                  WHO aborts    closes with a reset, by zero linger
//   WHO is-reset                reads a reset
//   client disconnects          by connect(AF_UNSPEC): the socket can connect again
//   WHO is-cut-off              its packets carry DSCP CS1 from now on, for the caller to drop
//   WHO is-back                 they no longer do
//   WHO keeps-alive [PROBES]    probes after 1 s without traffic, twice, and gives up after 3 s
//   WHO gives-up-after MS       TCP_USER_TIMEOUT
//   WHO has-buffers SEND RECEIVE    of sockets made from now on; 0 is the kernel's own choice
//   next-port                   listens and connects mean the next port from now on
//   sleep MS
//   look                        says what the kernel tells of both sides, and how many bytes its
//   tcp_info has, and waits for a line on stdin
//
// WHO is client or server. One line of JSON on stdout for each look, and one at the end. A step
// that does not go as it says ends the program with status 1. Ends by itself after a minute.
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/sockios.h>
#include <poll.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <sstream>
#include <thread>

#include "collectors/sock_diag/tcp_info.h"
#include "tests/e2e/sockets.h"

namespace tcpvitals::load {
namespace {

constexpr int kCutOff = 0x20;  // DSCP CS1

struct Side {
  std::vector<Fd> sockets;
  int tos = 0;
  int send_buffer = 0;
  int receive_buffer = 0;
  std::uint64_t sent = 0;
  std::uint64_t received = 0;
};

void set_option(const Fd& fd, int level, int name, int value) {
  must(::setsockopt(fd.get(), level, name, &value, sizeof value), "setsockopt");
}

TcpInfoSample info_of(const Fd& fd) {
  TcpInfo info{};
  socklen_t size = sizeof info;
  must(::getsockopt(fd.get(), IPPROTO_TCP, TCP_INFO, &info, &size), "TCP_INFO");
  return {info, size};
}

void sleep_ms(int ms) { std::this_thread::sleep_for(std::chrono::milliseconds(ms)); }

// What the kernel tells the sockets of one side, added up.
std::string sums(const Side& side) {
  std::map<std::string_view, std::uint64_t> sum;
  for (const Fd& fd : side.sockets) {
    if (!fd.valid()) continue;
    const TcpInfo info = info_of(fd).info;
    int send_queue = 0;
    int receive_queue = 0;
    must(::ioctl(fd.get(), SIOCOUTQ, &send_queue), "SIOCOUTQ");
    must(::ioctl(fd.get(), SIOCINQ, &receive_queue), "SIOCINQ");
    sum["send queue"] += static_cast<std::uint64_t>(send_queue);
    sum["receive queue"] += static_cast<std::uint64_t>(receive_queue);
    sum["segments"] += info.data_segs_out;
    sum["retransmitted"] += info.total_retrans;
    sum["sent"] += info.bytes_sent;
    sum["retransmitted bytes"] += info.bytes_retransmitted;
    sum["delivered"] += info.delivered;
    sum["spurious"] += info.dsack_dups;
    sum["RTOs"] += info.total_rto;
    sum["busy"] += info.busy_us;
    sum["limited receive_window"] += info.receive_window_limited_us;
    sum["limited send_buffer"] += info.send_buffer_limited_us;
  }
  std::string json;
  for (const auto& [name, value] : sum) {
    json += fmt::format("{}\"{}\":{}", json.empty() ? "" : ",", name, value);
  }
  return "{" + json + "}";
}

// What a verb works on.
struct Fate {
  std::uint16_t port;
  Fd listener;
  Side client;
  Side server;
  std::vector<std::thread> connecting;
  std::vector<int> outcomes;  // errno of each connect
};

using Arguments = std::vector<std::string>;

int number(const Arguments& arguments, std::size_t i, int otherwise = 0) {
  return i < arguments.size() ? std::atoi(arguments[i].c_str()) : otherwise;
}

std::uint64_t bytes(const Arguments& arguments) {
  return static_cast<std::uint64_t>(number(arguments, 0));
}

Address address(const Fate& fate, const Arguments& arguments) {
  return address_of(arguments.empty() ? "127.0.0.1" : arguments[0], fate.port);
}

void prepare(const Side& side, const Fd& fd) {
  if (side.tos != 0) set_option(fd, IPPROTO_IP, IP_TOS, side.tos);
  if (side.send_buffer != 0) set_option(fd, SOL_SOCKET, SO_SNDBUF, side.send_buffer);
  if (side.receive_buffer != 0) set_option(fd, SOL_SOCKET, SO_RCVBUF, side.receive_buffer);
}

void listens(Fate& fate, Side& side, const Arguments& arguments) {
  const Address at = address(fate, arguments);
  fate.listener = new_socket(at);
  prepare(side, fate.listener);
  set_option(fate.listener, SOL_SOCKET, SO_REUSEADDR, 1);
  must(::bind(fate.listener.get(), at.get(), at.size), "bind");
  must(::listen(fate.listener.get(), number(arguments, 1, 4096)), "listen");
}

void accepts(Fate& fate, Side& side, const Arguments& /*arguments*/) {
  for (Fd& fd : side.sockets) fd = accept_from(fate.listener);
}

void connects(Fate& fate, Side& side, const Arguments& arguments) {
  const Address to = address(fate, arguments);
  for (Fd& fd : side.sockets) {
    if (!fd.valid()) fd = new_socket(to);  // else it was disconnected
    prepare(side, fd);
    must(::connect(fd.get(), to.get(), to.size), "connect");
  }
}

void starts(Fate& fate, Side& side, const Arguments& arguments) {
  const Address to = address(fate, arguments);
  for (Fd& fd : side.sockets) {
    fd = new_socket(to);
    prepare(side, fd);
    must(::fcntl(fd.get(), F_SETFL, O_NONBLOCK), "fcntl");
    if (::connect(fd.get(), to.get(), to.size) == 0 || errno != EINPROGRESS) die("connect");
  }
}

void blocks(Fate& fate, Side& side, const Arguments& arguments) {
  const Address to = address(fate, arguments);
  for (std::size_t i = 0; i < side.sockets.size(); ++i) {
    side.sockets[i] = new_socket(to);
    prepare(side, side.sockets[i]);
    fate.connecting.emplace_back([to, fd = side.sockets[i].get(), &outcome = fate.outcomes[i]] {
      outcome = ::connect(fd, to.get(), to.size) == 0 ? 0 : errno;
    });
  }
}

void fails(Fate& fate, Side& side, const Arguments& arguments) {
  for (std::thread& thread : fate.connecting) thread.join();
  for (std::size_t i = 0; i < side.sockets.size(); ++i) {
    if (fate.connecting.empty()) {
      pollfd waiting{side.sockets[i].get(), POLLIN, 0};
      must(::poll(&waiting, 1, -1), "poll");
      socklen_t size = sizeof(int);
      must(::getsockopt(waiting.fd, SOL_SOCKET, SO_ERROR, &fate.outcomes[i], &size), "SO_ERROR");
    }
    errno = fate.outcomes[i];
    const char* name = ::strerrorname_np(errno);
    if (name == nullptr || std::count(arguments.begin(), arguments.end(), name) == 0) {
      die("failed in another way");
    }
  }
  fate.connecting.clear();
}

void sends(Fate& /*fate*/, Side& side, const Arguments& arguments) {
  for (const Fd& fd : side.sockets) {
    send_bytes(fd, bytes(arguments));
    side.sent += bytes(arguments);
  }
}

void says(Fate& /*fate*/, Side& side, const Arguments& arguments) {
  const std::string& hex = arguments.at(0);
  std::string text;
  for (std::size_t i = 0; i + 1 < hex.size(); i += 2) {
    text += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
  }
  for (const Fd& fd : side.sockets) {
    if (::send(fd.get(), text.data(), text.size(), MSG_NOSIGNAL) < 0) die("send");
    side.sent += text.size();
  }
}

void reads(Fate& /*fate*/, Side& side, const Arguments& arguments) {
  for (const Fd& fd : side.sockets) {
    if (receive_bytes(fd, bytes(arguments)) != bytes(arguments)) die("the stream ended early");
    side.received += bytes(arguments);
  }
}

void floods(Fate& /*fate*/, Side& side, const Arguments& /*arguments*/) {
  static const std::vector<char> zeros(64 * 1024);
  for (const Fd& fd : side.sockets) {
    for (;;) {
      pollfd waiting{fd.get(), POLLOUT, 0};
      if (must(::poll(&waiting, 1, 200), "poll") == 0) break;
      const ssize_t n = ::send(fd.get(), zeros.data(), zeros.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
      side.sent += static_cast<std::uint64_t>(must(n, "send"));
    }
  }
}

void drains(Fate& fate, Side& side, const Arguments& /*arguments*/) {
  while (side.received < fate.client.sent) {
    std::vector<pollfd> waiting;
    for (const Fd& fd : side.sockets) waiting.push_back({fd.get(), POLLIN, 0});
    must(::poll(waiting.data(), waiting.size(), -1), "poll");
    for (const pollfd& readable : waiting) {
      char buffer[8 * 1024];
      if (readable.revents == 0) continue;
      const ssize_t n = ::recv(readable.fd, buffer, sizeof buffer, 0);
      side.received += static_cast<std::uint64_t>(must(n, "recv"));
    }
  }
}

void read_slowly(const Fd& fd, std::uint64_t size, int pause_ms) {
  char buffer[1024];
  while (size > 0) {
    if (pause_ms > 0) sleep_ms(pause_ms);
    size -= static_cast<std::uint64_t>(must(::recv(fd.get(), buffer, sizeof buffer, 0), "recv"));
  }
}

void pumps(Fate& fate, Side& side, const Arguments& arguments) {
  const std::uint64_t size = bytes(arguments);
  const int pause_ms = number(arguments, 1);
  std::vector<std::jthread> threads;
  for (std::size_t i = 0; i < side.sockets.size(); ++i) {
    threads.emplace_back([&fd = side.sockets[i], size] { send_bytes(fd, size); });
    threads.emplace_back(
        [&fd = fate.server.sockets[i], size, pause_ms] { read_slowly(fd, size, pause_ms); });
  }
  side.sent += size * side.sockets.size();
  fate.server.received += size * side.sockets.size();
}

void disconnects(Fate& /*fate*/, Side& side, const Arguments& /*arguments*/) {
  const sockaddr nobody{AF_UNSPEC, {}};
  for (const Fd& fd : side.sockets) must(::connect(fd.get(), &nobody, sizeof nobody), "disconnect");
}

void mark(Side& side, int tos) {
  side.tos = tos;
  for (const Fd& fd : side.sockets) {
    if (fd.valid()) set_option(fd, IPPROTO_IP, IP_TOS, tos);
  }
}

void keeps_alive(Fate& /*fate*/, Side& side, const Arguments& arguments) {
  for (const Fd& fd : side.sockets) {
    set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, 1);
    set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, 1);
    set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, number(arguments, 0, 2));
  }
}

using Verb = void (*)(Fate&, Side&, const Arguments&);

const std::map<std::string_view, Verb>& verbs() {
  static const std::map<std::string_view, Verb> all{
      {"listens", listens},
      {"accepts", accepts},
      {"connects", connects},
      {"starts", starts},
      {"blocks", blocks},
      {"fails", fails},
      {"sends", sends},
      {"says", says},
      {"reads", reads},
      {"floods", floods},
      {"drains", drains},
      {"pumps", pumps},
      {"disconnects", disconnects},
      {"keeps-alive", keeps_alive},
      {"ends",
       [](Fate&, Side& side, const Arguments&) {
         for (const Fd& fd : side.sockets) expect_end(fd);
       }},
      {"shuts",
       [](Fate&, Side& side, const Arguments&) {
         for (const Fd& fd : side.sockets) shutdown_writing(fd);
       }},
      {"closes",
       [](Fate&, Side& side, const Arguments&) {
         for (Fd& fd : side.sockets) fd.reset();
       }},
      {"aborts",
       [](Fate&, Side& side, const Arguments&) {
         for (Fd& fd : side.sockets) abort_connection(std::move(fd));
       }},
      {"is-reset",
       [](Fate&, Side& side, const Arguments&) {
         for (const Fd& fd : side.sockets) wait_for_reset(fd);
       }},
      {"is-cut-off", [](Fate&, Side& side, const Arguments&) { mark(side, kCutOff); }},
      {"is-back", [](Fate&, Side& side, const Arguments&) { mark(side, 0); }},
      {"gives-up-after",
       [](Fate&, Side& side, const Arguments& arguments) {
         for (const Fd& fd : side.sockets) {
           set_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, number(arguments, 0));
         }
       }},
      {"has-buffers",
       [](Fate&, Side& side, const Arguments& arguments) {
         side.send_buffer = number(arguments, 0);
         side.receive_buffer = number(arguments, 1);
       }},
  };
  return all;
}

void look(const Fate& fate) {
  const auto length = info_of(new_socket(address_of("127.0.0.1", 0))).length;
  fmt::print("{{\"client\":{},\"server\":{},\"tcp_info\":{}}}\n", sums(fate.client),
             sums(fate.server), length);
  std::fflush(stdout);
  while (std::getchar() != '\n') {
    if (std::feof(stdin) != 0) die("nobody looked");
  }
}

void take(Fate& fate, const std::string& step) {
  std::istringstream words(step);
  std::string who;
  std::string what;
  words >> who >> what;
  if (who == "look") return look(fate);
  if (who == "sleep") return sleep_ms(std::atoi(what.c_str()));
  if (who == "next-port") {
    ++fate.port;
    return;
  }
  Arguments arguments;
  for (std::string word; words >> word;) arguments.push_back(word);
  errno = EINVAL;
  const auto verb = verbs().find(what);
  if (verb == verbs().end() || (who != "client" && who != "server")) die(step.c_str());
  verb->second(fate, who == "client" ? fate.client : fate.server, arguments);
}

}  // namespace
}  // namespace tcpvitals::load

int main(int argc, char** argv) {
  if (argc < 4) {
    std::fputs("usage: tcp_fates PORT COUNT STEP...\n", stderr);
    return 2;
  }
  ::alarm(60);
  const auto count = static_cast<std::size_t>(std::atoi(argv[2]));
  tcpvitals::load::Fate fate{.port = static_cast<std::uint16_t>(std::atoi(argv[1]))};
  fate.client.sockets.resize(count);
  fate.server.sockets.resize(count);
  fate.outcomes.resize(count);
  for (int i = 3; i < argc; ++i) take(fate, argv[i]);
  fmt::print("{{\"connections\":{},\"up\":{},\"down\":{}}}\n", count, fate.client.sent,
             fate.server.sent);
  return 0;
}
