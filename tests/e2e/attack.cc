// tcp_attack MODE --port PORT [--OPTION VALUE]...: peers that mean no good, and honest ones that
// should not notice. On loopback only.
//   honest    --count clients that each ask for 64 bytes back once in 100 ms; how long they wait
//   mixed     --count connections, one after the other by each of four threads: a round trip, and
//             then a FIN, a half-close, a reset, or a close with the answer unread
//   flood     connects and closes as fast as it goes
//   idle      connects and says nothing
//   greeting  sends the first bytes of a TLS handshake, and no more
//   drip      sends a PROXY header, a byte a second
//   request   sends the header of an HTTP request, likewise; without an end
//   unread    asks for much and reads nothing
//   random    sends 4 KiB of noise, and again
//   halfopen  vanishes: the kernel forgets the connection without a word to the peer
// Of an attack --count connections are open at once, from many addresses or --addresses; what the
// server closes is made anew after a second; at most 8,000 a second. Every mode ends after
// --seconds, and says on one line of JSON what happened.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/epoll.h>
#include <sys/resource.h>

#include <algorithm>
#include <array>
#include <map>
#include <random>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "tests/e2e/sockets.h"

namespace tcpvitals::load {
namespace {

using namespace std::chrono_literals;

constexpr std::uint64_t kConnectsPerTurn = 800;  // of a tenth of a second

struct Options {
  std::uint64_t port = 0;
  std::uint64_t count = 1;
  std::uint64_t seconds = 10;
  std::uint64_t addresses = 1 << 16;  // of an attack, at most
};

Address server(const Options& options) {
  return address_of("127.0.0.1", static_cast<std::uint16_t>(options.port));
}

// From 127.1.0.0 on, a few hundred connections an address.
Fd connect_without_waiting(const Options& options, std::uint64_t n) {
  const Address to = server(options);
  Fd fd = new_socket(to);
  const int on = 1;
  ::setsockopt(fd.get(), IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
  const std::uint64_t host = n / 256 % options.addresses;
  const Address from = address_of(fmt::format("127.1.{}.{}", host / 256 % 256, host % 256), 0);
  must(::bind(fd.get(), from.get(), from.size), "bind");
  must(::fcntl(fd.get(), F_SETFL, O_NONBLOCK), "fcntl");
  const int small = 4096;
  ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
  if (::connect(fd.get(), to.get(), to.size) < 0 && errno != EINPROGRESS) return Fd();
  return fd;
}

double percentile(std::vector<double>& values, double share) {
  if (values.empty()) return 0;
  const auto at =
      values.begin() + static_cast<std::ptrdiff_t>(share * static_cast<double>(values.size() - 1));
  std::nth_element(values.begin(), at, values.end());
  return *at;
}

std::string honest(const Options& options) {
  struct Client {
    Fd fd;
    TimePoint sent;
    bool waits = false;
  };
  std::vector<Client> clients(options.count);
  const Fd epoll(::epoll_create1(EPOLL_CLOEXEC));
  for (std::size_t i = 0; i < clients.size(); ++i) {
    clients[i].fd = connect_to(server(options));
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.u64 = i;
    must(::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, clients[i].fd.get(), &event), "epoll_ctl");
  }
  std::printf("{\"ready\":true}\n");
  std::fflush(stdout);
  std::array<char, 64> message{};
  std::vector<double> waits_ms;
  std::uint64_t lost = 0;
  std::size_t next = 0;
  const TimePoint begin = Clock::now();
  const TimePoint end = begin + std::chrono::seconds(options.seconds);
  const auto step = Clock::duration(100ms) / clients.size();
  std::array<epoll_event, 256> events;
  for (std::uint64_t asked = 0; Clock::now() < end;) {
    for (; Clock::now() >= begin + asked * step; ++asked, ++next) {
      Client& c = clients[next % clients.size()];
      if (!c.fd.valid() || c.waits) continue;  // one that waits asks later: its wait is counted
      c.sent = Clock::now();
      c.waits = ::send(c.fd.get(), message.data(), message.size(), MSG_NOSIGNAL) > 0;
    }
    const int n = ::epoll_wait(epoll.get(), events.data(), events.size(), 1);
    for (int i = 0; i < n; ++i) {
      Client& c = clients[events[static_cast<std::size_t>(i)].data.u64];
      if (::recv(c.fd.get(), message.data(), message.size(), MSG_WAITALL) ==
          static_cast<ssize_t>(message.size())) {
        waits_ms.push_back(seconds_since(c.sent) * 1e3);
        c.waits = false;
      } else {
        ++lost;
        c.fd.reset();
      }
    }
  }
  const std::size_t answers = waits_ms.size();
  const double p50 = percentile(waits_ms, 0.5);
  const double p99 = percentile(waits_ms, 0.99);
  const double worst = percentile(waits_ms, 1);
  return fmt::format(
      R"({{"answers":{},"lost":{},"p50_ms":{:.2f},"p99_ms":{:.2f},"worst_ms":{:.2f}}})", answers,
      lost, p50, p99, worst);
}

// What one connection of an attack does, ten times a second.
using Act = void (*)(Fd& fd, std::uint64_t turn);

void stay(Fd& /*fd*/, std::uint64_t /*turn*/) {}

void say(const Fd& fd, std::string_view bytes) {
  ::send(fd.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
}

void greet(Fd& fd, std::uint64_t turn) {
  if (turn == 0) say(fd, {"\x16\x03\x01\x02\x00\x01", 6});
}

void drip(Fd& fd, std::uint64_t turn) {
  constexpr std::string_view kHeader = "PROXY TCP4 198.51.100.1 198.51.100.2 40000 443";
  if (turn % 10 == 0) say(fd, kHeader.substr(turn / 10 % kHeader.size(), 1));
}

void request(Fd& fd, std::uint64_t turn) {
  if (turn == 0) say(fd, "GET /metrics HTTP/1.1\r\nX-Slow: ");
  if (turn % 10 == 9) say(fd, "x");
}

void ask_and_not_read(Fd& fd, std::uint64_t /*turn*/) {
  static const std::string much(256 << 10, 'x');
  while (::send(fd.get(), much.data(), much.size(), MSG_NOSIGNAL) > 0) {
  }
}

void rave(Fd& fd, std::uint64_t /*turn*/) {
  static std::mt19937 random(1);
  std::array<char, 4096> noise;
  for (char& byte : noise) byte = static_cast<char>(random());
  say(fd, {noise.data(), noise.size()});
}

// Closed under repair a socket is forgotten without a FIN or a reset.
void vanish(Fd& fd, std::uint64_t turn) {
  if (turn != 2) return;
  const int on = 1;
  must(::setsockopt(fd.get(), IPPROTO_TCP, TCP_REPAIR, &on, sizeof on), "TCP_REPAIR");
  fd.reset();
}

bool is_closed(const Fd& fd) {
  char byte;
  const ssize_t n = ::recv(fd.get(), &byte, 1, MSG_PEEK);
  return n == 0 || (n < 0 && errno != EAGAIN && errno != ENOTCONN);
}

std::string attack(const Options& options, Act act) {
  struct Attacker {
    Fd fd;
    std::uint64_t born = 0;  // turn
    std::uint64_t again = 0;
  };
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
  std::vector<Attacker> attackers(options.count);
  std::uint64_t made = 0;
  std::uint64_t closed = 0;
  const TimePoint begin = Clock::now();
  for (std::uint64_t turn = 0; turn < options.seconds * 10; ++turn) {
    std::uint64_t to_make = kConnectsPerTurn;
    for (Attacker& a : attackers) {
      if (!a.fd.valid()) {
        if (turn < a.again || to_make == 0) continue;
        --to_make;
        a.fd = connect_without_waiting(options, made);
        a.born = turn;
        a.again = turn + 10;
        made += a.fd.valid() ? 1 : 0;
        continue;
      }
      if (act != vanish && is_closed(a.fd)) {
        ++closed;
        a.again = turn + 10;
        a.fd.reset();
        continue;
      }
      act(a.fd, turn - a.born - 1);
    }
    std::this_thread::sleep_until(begin + (turn + 1) * 100ms);
  }
  return fmt::format(R"({{"made":{},"closed":{}}})", made, closed);
}

std::string flood(const Options& options) {
  std::uint64_t made = 0;
  const TimePoint begin = Clock::now();
  while (seconds_since(begin) < static_cast<double>(options.seconds)) {
    std::vector<Fd> burst;
    for (std::uint64_t i = 0; i < options.count; ++i) {
      burst.push_back(connect_without_waiting(options, made));
      made += burst.back().valid() ? 1 : 0;
    }
    std::this_thread::sleep_for(5ms);
  }
  return fmt::format(R"({{"made":{}}})", made);
}

std::string mixed(const Options& options) {
  constexpr std::uint64_t kThreads = 4;
  std::vector<std::jthread> threads;
  for (std::uint64_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (std::uint64_t n = t; n < options.count; n += kThreads) {
        const std::uint64_t host = n / kThreads / 5000;
        Fd fd = connect_from(address_of(fmt::format("127.2.{}.{}", t, host), 0), server(options));
        send_bytes(fd, 64);
        const std::uint64_t fate = n / kThreads % 4;
        if (fate != 3 && receive_bytes(fd, 64) != 64) die("no echo");
        if (fate == 1) {
          shutdown_writing(fd);
          expect_end(fd);
        }
        if (fate == 2) {
          abort_connection(std::move(fd));
        } else if (fate == 3) {
          char byte;
          ::recv(fd.get(), &byte, 1, MSG_PEEK);  // it is there, and is not read
        }
      }
    });
  }
  threads.clear();
  return fmt::format(R"({{"made":{}}})", options.count);
}

template <Act act>
std::string attack_by(const Options& options) {
  return attack(options, act);
}

}  // namespace
}  // namespace tcpvitals::load

int main(int argc, char** argv) {
  using namespace tcpvitals::load;
  const std::map<std::string_view, std::string (*)(const Options&)> modes{
      {"honest", honest},
      {"mixed", mixed},
      {"flood", flood},
      {"idle", attack_by<stay>},
      {"greeting", attack_by<greet>},
      {"drip", attack_by<drip>},
      {"request", attack_by<request>},
      {"unread", attack_by<ask_and_not_read>},
      {"random", attack_by<rave>},
      {"halfopen", attack_by<vanish>}};
  Options options;
  const std::map<std::string_view, std::uint64_t*> numbers{{"--port", &options.port},
                                                           {"--count", &options.count},
                                                           {"--seconds", &options.seconds},
                                                           {"--addresses", &options.addresses}};
  const auto mode = modes.find(argc > 1 ? argv[1] : "");
  errno = EINVAL;
  if (mode == modes.end()) die("tcp_attack: no such mode");
  for (int i = 2; i + 1 < argc; i += 2) {
    const auto number = numbers.find(argv[i]);
    if (number == numbers.end()) die(argv[i]);
    *number->second = std::strtoull(argv[i + 1], nullptr, 10);
  }
  ::alarm(static_cast<unsigned>(options.seconds + 30));
  std::puts(mode->second(options).c_str());
  return 0;
}
