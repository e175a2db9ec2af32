// tcp_load MODE [--OPTION VALUE]...: a TCP load whose every connection and byte is known.
//
//   churn     short connections to a listener of its own, on loopback, as fast as they go
//   flood     connections that live a moment, each from an address of its own, to many ports
//   hold      connections to a listener of its own, kept until stdin closes; the n-th carries n
//             times --up bytes first
//   serve     accepts until stdin closes; swallows what it receives, or echoes it
//   send      sends bytes to a `serve` over parallel connections
//   pingpong  small round trips with an echo server over parallel connections
//   talk      long connections to an echo server, a round trip on each of them in turn, --rate
//   times
//             a second, until stdin closes; counts those that ended before that, by what became of
//             them
//   calls     short connections to an echo server, one round trip each, until stdin closes; counts
//             those that did not get their answer, by what became of them
//
// Every mode ends by itself after --seconds at the latest. One line of JSON on stdout says what was
// done; hold, serve, talk and calls print one more when they stand ready.
#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <functional>
#include <map>
#include <string_view>
#include <thread>

#include "base/clock.h"
#include "tests/e2e/sockets.h"

namespace tcpvitals::load {
namespace {

struct Options {
  std::string address = "127.0.0.1";
  std::string close =
      "client";  // client, server, both: who sends the first FIN; abort: client resets
  std::string reply = "none";  // serve: none or echo
  std::uint64_t port = 0;
  std::uint64_t ports = 1;  // flood: this many, from `port` on
  std::uint64_t count = 1;  // churn: connections; pingpong: round trips of each connection
  std::uint64_t connections = 1;
  std::uint64_t sources = 1;  // churn, calls: client addresses, 127.0.0.1 and following
  std::uint64_t up = 0;       // bytes from client to server: of a connection, of a round trip
  std::uint64_t down = 0;
  // send: bytes a second of each connection; calls: calls a second of each thread; 0 is as fast as
  // it goes
  std::uint64_t rate = 0;
  std::uint64_t seconds = 120;
};

Options parse_options(int argc, char** argv) {
  Options options;
  const std::map<std::string_view, std::string*> texts{
      {"--address", &options.address}, {"--close", &options.close}, {"--reply", &options.reply}};
  const std::map<std::string_view, std::uint64_t*> numbers{{"--port", &options.port},
                                                           {"--ports", &options.ports},
                                                           {"--count", &options.count},
                                                           {"--sources", &options.sources},
                                                           {"--connections", &options.connections},
                                                           {"--up", &options.up},
                                                           {"--down", &options.down},
                                                           {"--rate", &options.rate},
                                                           {"--seconds", &options.seconds}};
  errno = EINVAL;
  for (int i = 2; i < argc; i += 2) {
    if (i + 1 == argc) die(argv[i]);
    if (const auto text = texts.find(argv[i]); text != texts.end()) {
      *text->second = argv[i + 1];
    } else if (const auto number = numbers.find(argv[i]); number != numbers.end()) {
      *number->second = std::strtoull(argv[i + 1], nullptr, 10);
    } else {
      die(argv[i]);
    }
  }
  return options;
}

Address target(const Options& options) {
  return address_of(options.address, static_cast<std::uint16_t>(options.port));
}

void in_parallel(std::uint64_t count, const std::function<void()>& work) {
  std::vector<std::jthread> threads;
  for (std::uint64_t i = 0; i < count; ++i) threads.emplace_back(work);
}

// What both ends of churn share. Tickets make the total exact whatever the threads' pace.
struct Churn {
  const Options& options;
  Fd listener;
  std::vector<Address> sources;
  std::atomic<std::uint64_t> to_open;
  std::atomic<std::uint64_t> to_accept;
  std::atomic<std::uint64_t> up{0};    // bytes the server received
  std::atomic<std::uint64_t> down{0};  // bytes the client received
};

bool take_ticket(std::atomic<std::uint64_t>& left) {
  std::uint64_t n = left.load();
  while (n > 0 && !left.compare_exchange_weak(n, n - 1)) {
  }
  return n > 0;
}

// One end of a connection after its last byte. Who sends the first FIN waits for the other's before
// it closes: orderly for both, and no byte is left to chance.
void end_orderly(const Fd& fd, bool first) {
  if (first) shutdown_writing(fd);
  expect_end(fd);
}

void churn_server(Churn& churn) {
  const Options& options = churn.options;
  while (take_ticket(churn.to_accept)) {
    const Fd fd = accept_from(churn.listener);
    churn.up += receive_bytes(fd, options.up);
    send_bytes(fd, options.down);
    if (options.close == "abort") {
      wait_for_reset(fd);
    } else {
      end_orderly(fd, options.close == "server" || options.close == "both");
    }
  }
}

void churn_client(Churn& churn) {
  const Options& options = churn.options;
  const Address address = target(options);
  for (std::size_t i = 0; take_ticket(churn.to_open); ++i) {
    Fd fd = churn.sources.empty() ? connect_to(address)
                                  : connect_from(churn.sources[i % churn.sources.size()], address);
    send_bytes(fd, options.up);
    churn.down += receive_bytes(fd, options.down);
    if (options.close == "abort") {
      abort_connection(std::move(fd));
    } else if (options.close != "hangup") {
      end_orderly(fd, options.close == "client" || options.close == "both");
    }
  }
}

std::string churn(const Options& options) {
  Churn churn{options, listen_on(target(options)), {}, {options.count}, {options.count}};
  for (std::uint64_t i = 1; options.sources > 1 && i <= options.sources; ++i) {
    churn.sources.push_back(address_of(fmt::format("127.0.0.{}", i), 0));
  }
  const TimePoint start = Clock::now();
  {
    const std::jthread servers(
        [&] { in_parallel(options.connections, [&] { churn_server(churn); }); });
    in_parallel(options.connections, [&] { churn_client(churn); });
  }
  return fmt::format(R"({{"connections":{},"up":{},"down":{},"seconds":{:.3f}}})", options.count,
                     churn.up.load(), churn.down.load(), seconds_since(start));
}

// The nth address of 127.16.0.0/12 and what follows.
std::string flood_source(std::uint64_t n) {
  return fmt::format("127.{}.{}.{}", 16 + (n >> 16), n >> 8 & 0xff, n & 0xff);
}

// Each connection is made, accepted and reset by one thread: none is left over when it ends.
std::string flood(const Options& options) {
  std::vector<Fd> listeners;
  for (std::uint64_t i = 0; i < options.ports; ++i) {
    listeners.push_back(
        listen_on(address_of(options.address, static_cast<std::uint16_t>(options.port + i))));
  }
  std::atomic<std::uint64_t> next_thread{0};
  const TimePoint start = Clock::now();
  in_parallel(options.connections, [&] {
    // With a divisor of --ports of them each thread has its own, and accepts what it made.
    for (std::uint64_t n = next_thread++; n < options.count; n += options.connections) {
      const std::uint64_t port = n % options.ports;
      const Address target =
          address_of(options.address, static_cast<std::uint16_t>(options.port + port));
      Fd client = connect_from(address_of(flood_source(n), 0), target);
      const Fd server = accept_from(listeners[port]);
      abort_connection(std::move(client));
    }
  });
  return fmt::format(R"({{"connections":{},"ports":{},"seconds":{:.3f}}})", options.count,
                     options.ports, seconds_since(start));
}

std::string hold(const Options& options) {
  const Fd listener = listen_on(target(options));
  std::vector<Fd> held;
  constexpr std::uint64_t kPiece = 32 * 1024;  // what any buffer holds: one thread is both ends
  for (std::uint64_t i = 0; i < options.connections; ++i) {
    const Fd& client = held.emplace_back(connect_to(target(options)));
    Fd server = accept_from(listener);
    for (std::uint64_t left = (i + 1) * options.up; left > 0;) {
      const std::uint64_t piece = std::min(kPiece, left);
      send_bytes(client, piece);
      left -= receive_bytes(server, piece);
    }
    held.push_back(std::move(server));
  }
  ready_until_stdin_closes(fmt::format(R"({{"ready":true,"sockets":{}}})", held.size()));
  return fmt::format(R"({{"sockets":{}}})", held.size());
}

std::string serve(const Options& options) {
  const Fd listener = listen_on(target(options));
  std::atomic<std::uint64_t> connections{0};
  std::atomic<std::uint64_t> received{0};
  const auto answer = [&](Fd fd) {
    char buffer[16 * 1024];
    ssize_t n;
    while ((n = ::recv(fd.get(), buffer, sizeof buffer, 0)) > 0) {
      received += static_cast<std::uint64_t>(n);
      if (options.reply == "echo")
        ::send(fd.get(), buffer, static_cast<std::size_t>(n), MSG_NOSIGNAL);
    }
  };
  const auto accept_all = [&] {
    for (;;) {
      const int fd = ::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC);
      if (fd < 0 && errno == ECONNABORTED) continue;
      if (fd < 0) return;  // the listener was shut down
      ++connections;
      std::thread(answer, Fd(fd)).detach();
    }
  };
  {
    const std::jthread acceptor(accept_all);
    ready_until_stdin_closes(R"({"ready":true})");
    ::shutdown(listener.get(), SHUT_RDWR);
  }
  return fmt::format(R"({{"connections":{},"received":{}}})", connections.load(), received.load());
}

std::string send(const Options& options) {
  constexpr std::uint64_t kPiece = 128 * 1024;
  std::atomic<std::uint64_t> sent{0};
  const TimePoint start = Clock::now();
  in_parallel(options.connections, [&] {
    const Fd fd = connect_to(target(options));
    for (std::uint64_t done = 0; done < options.up; done += kPiece) {
      const std::uint64_t piece = std::min(kPiece, options.up - done);
      send_bytes(fd, piece);
      sent += piece;
      if (options.rate > 0) {
        std::this_thread::sleep_until(start +
                                      std::chrono::microseconds(done * 1'000'000 / options.rate));
      }
    }
    shutdown_writing(fd);
    expect_end(fd);
  });
  return fmt::format(R"({{"connections":{},"sent":{},"seconds":{:.3f}}})", options.connections,
                     sent.load(), seconds_since(start));
}

std::string pingpong(const Options& options) {
  std::atomic<std::uint64_t> round_trips{0};
  const TimePoint start = Clock::now();
  in_parallel(options.connections, [&] {
    const Fd fd = connect_to(target(options));
    for (std::uint64_t i = 0; i < options.count; ++i) {
      send_bytes(fd, options.up);
      errno = EPROTO;
      if (receive_bytes(fd, options.up) != options.up) die("the echo ended early");
      ++round_trips;
    }
  });
  return fmt::format(R"({{"connections":{},"round_trips":{},"seconds":{:.3f}}})",
                     options.connections, round_trips.load(), seconds_since(start));
}

struct Calls {
  std::atomic<std::uint64_t> answered{0};
  std::atomic<std::uint64_t> refused{0};
  std::atomic<std::uint64_t> reset{0};
  std::atomic<std::uint64_t> cut{0};  // ended in order, but before the answer was whole
  std::atomic<std::uint64_t> other{0};

  std::atomic<std::uint64_t>& fate(int error) {
    return error == ECONNREFUSED ? refused : error == ECONNRESET || error == EPIPE ? reset : other;
  }
};

// What becomes of one round trip with a server that may go away at any moment.
std::atomic<std::uint64_t>& round_trip(Calls& calls, const Fd& fd, std::string& bytes) {
  const ssize_t sent = ::send(fd.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
  if (sent < 0) return calls.fate(errno);
  for (std::size_t got = 0; got < bytes.size();) {
    const ssize_t n = ::recv(fd.get(), bytes.data(), bytes.size() - got, 0);
    if (n < 0) return calls.fate(errno);
    if (n == 0) return calls.cut;
    got += static_cast<std::size_t>(n);
  }
  return calls.answered;
}

// The same on a connection of its own.
std::atomic<std::uint64_t>& call(Calls& calls, const Address& source, const Address& address,
                                 std::string& bytes) {
  const Fd fd = new_socket(address);
  must(::bind(fd.get(), source.get(), source.size), "bind");
  if (::connect(fd.get(), address.get(), address.size) != 0) return calls.fate(errno);
  return round_trip(calls, fd, bytes);
}

std::string fates(const Calls& calls) {
  return fmt::format(R"({{"answered":{},"refused":{},"reset":{},"cut":{},"other":{}}})",
                     calls.answered.load(), calls.refused.load(), calls.reset.load(),
                     calls.cut.load(), calls.other.load());
}

std::string talk(const Options& options) {
  Calls calls;
  std::atomic<bool> stopping = false;
  std::vector<Fd> connections;
  for (std::uint64_t i = 0; i < options.connections; ++i) {
    connections.push_back(connect_to(target(options)));
  }
  const auto pause =
      std::chrono::microseconds(1'000'000 / std::max<std::uint64_t>(1, options.rate));
  {
    const std::jthread talker([&] {
      std::string bytes(options.up, 'x');
      while (!stopping) {
        const TimePoint next = Clock::now() + pause;
        std::erase_if(connections, [&](const Fd& fd) {
          auto& fate = round_trip(calls, fd, bytes);
          ++fate;
          return &fate != &calls.answered;
        });
        std::this_thread::sleep_until(next);
      }
    });
    ready_until_stdin_closes(R"({"ready":true})");
    stopping = true;
  }
  return fates(calls);
}

std::string calls(const Options& options) {
  Calls calls;
  std::atomic<bool> stopping = false;
  std::atomic<std::uint64_t> next_source{0};
  const Address address = target(options);
  const auto pause = std::chrono::microseconds(options.rate == 0 ? 0 : 1'000'000 / options.rate);
  {
    const std::jthread callers([&] {
      in_parallel(options.connections, [&] {
        std::string bytes(options.up, 'x');
        while (!stopping) {
          const std::uint64_t source = next_source++ % options.sources;
          ++call(calls, address_of(fmt::format("127.0.0.{}", 1 + source), 0), address, bytes);
          std::this_thread::sleep_for(pause);
        }
      });
    });
    ready_until_stdin_closes(R"({"ready":true})");
    stopping = true;
  }
  return fates(calls);
}

}  // namespace
}  // namespace tcpvitals::load

int main(int argc, char** argv) {
  using namespace tcpvitals::load;
  const std::map<std::string_view, std::string (*)(const Options&)> modes{
      {"churn", churn}, {"flood", flood},       {"hold", hold},   {"serve", serve},
      {"send", send},   {"pingpong", pingpong}, {"calls", calls}, {"talk", talk}};
  const auto mode = modes.find(argc > 1 ? argv[1] : "");
  if (mode == modes.end()) {
    std::fputs(
        "usage: tcp_load churn|flood|hold|serve|send|pingpong|talk|calls [--OPTION VALUE]...\n",
        stderr);
    return 2;
  }
  const Options options = parse_options(argc, argv);
  ::alarm(static_cast<unsigned>(options.seconds));
  std::puts(mode->second(options).c_str());
  std::fflush(stdout);
  ::_exit(0);  // serve may still have a reader or two
}
