// The embedded server beside what it is held against: a poll() server, a bare epoll loop, libevent,
// haproxy and nginx.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <optional>
#include <thread>

#include "base/clock.h"
#include "bench/benches.h"
#include "bench/child.h"
#include "bench/echo_load.h"
#include "bench/net.h"
#include "bench/table.h"

namespace tcpvitals::bench {
namespace {

constexpr std::size_t kActive = 100;
constexpr std::size_t kRounds = 7;
constexpr double kSeconds = 1;                    // of one measurement
constexpr std::size_t kMostConnections = 19'900;  // of one process, with 20,000 descriptors
constexpr std::size_t kBulkConnections = 4;
constexpr std::size_t kTlsConnections = 3'000;

std::vector<std::string> peer(const std::string& program, std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), program_directory() + "/" + program);
  return arguments;
}

Child start_echo(const std::string& kind, std::uint16_t port, std::vector<std::string> flags = {}) {
  flags.insert(flags.begin(), {kind, std::to_string(port)});
  Child server(peer("bench_echo_server", flags), Child::Output::kDiscard);
  wait_for_listener(port);
  return server;
}

Child hold(std::uint16_t port, std::size_t count, const std::string& flag = "") {
  std::vector<std::string> arguments{std::to_string(port), std::to_string(count)};
  if (!flag.empty()) arguments.push_back(flag);
  Child clients(peer("bench_idle_clients", arguments), Child::Output::kRead);
  clients.read_line();
  return clients;
}

// A server, and what was measured of it, round by round.
struct Measured {
  std::string name;
  std::uint16_t port;
  std::vector<RoundTrips> rounds{};
};

std::vector<double> values_of(const Measured& m, double RoundTrips::*what) {
  std::vector<double> values;
  for (const RoundTrips& round : m.rounds) values.push_back(round.*what);
  return values;
}

double median_of(const Measured& m, double RoundTrips::*what) { return median(values_of(m, what)); }

// The median over the rounds of what it was to what the baseline was in the same round.
double ratio_of(std::vector<double> values, const std::vector<double>& baseline) {
  for (std::size_t i = 0; i < values.size(); ++i) values[i] /= baseline[i];
  return median(std::move(values));
}

double ratio_of(const Measured& m, const Measured& baseline, double RoundTrips::*what) {
  return ratio_of(values_of(m, what), values_of(baseline, what));
}

// Calls measure_one(i) for each of `count` once a round, another one first in every round.
template <typename MeasureOne>
void in_turns(std::size_t count, MeasureOne measure_one) {
  for (std::size_t round = 0; round < kRounds; ++round) {
    for (std::size_t i = 0; i < count; ++i) measure_one((round + i) % count);
  }
}

void measure(std::vector<Measured>& servers) {
  in_turns(servers.size(), [&](std::size_t i) {
    servers[i].rounds.push_back(ping_pong(servers[i].port, kActive, kSeconds));
  });
}

void print(const std::vector<Measured>& servers) {
  fmt::print("{:<50}{:>14}{:>10}{:>10}\n", "", "round trips/s", "p50 us", "p99 us");
  for (const Measured& m : servers) {
    fmt::print("{:<50}{:>14.0f}{:>10.0f}{:>10.0f}\n", m.name, median_of(m, &RoundTrips::per_second),
               median_of(m, &RoundTrips::p50_us), median_of(m, &RoundTrips::p99_us));
  }
}

// The guide's headline: from poll and 5,000 connections to epoll and 30,000.
void bench_headline() {
  enter_new_network();
  const Child poll = start_echo("poll", 21001);
  const Child first = start_echo("own", 21002);
  const Child second = start_echo("own", 21002);
  const Child idle_poll = hold(21001, 5'000);
  const Child idle_first = hold(21002, 15'000);
  const Child idle_second = hold(21002, 15'000);
  std::vector<Measured> servers{{"poll(), 5,000 idle", 21001},
                                {"embedded server, 2 processes, 30,000 idle", 21002}};
  measure(servers);
  fmt::print("\n{} connections that talk among idle ones, 64 bytes a message, {} rounds\n", kActive,
             kRounds);
  print(servers);
  print_target("p50, 30,000 idle / poll() with 5,000",
               ratio_of(servers[1], servers[0], &RoundTrips::p50_us), Wish::kAtMost, 0.4);
}

double bytes_per_connection(const Child& server, std::uint16_t port, std::size_t connections,
                            const std::string& flag = "") {
  const std::size_t first = 100;  // what comes once, comes with these
  const Child first_clients = hold(port, first, flag);
  const std::size_t before = server.memory("VmRSS");
  const Child clients = hold(port, connections - first, flag);
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  if (server.descriptors() < connections) die("not all connections were accepted");
  return static_cast<double>(server.memory("VmRSS") - before) /
         static_cast<double>(connections - first);
}

std::string make_certificate(const std::filesystem::path& directory) {
  const std::string certificate = directory / "certificate.pem";
  const std::string key = directory / "key.pem";
  Child openssl({"openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
                 "-nodes", "-days", "2", "-subj", "/CN=bench", "-keyout", key, "-out", certificate},
                Child::Output::kDiscard);
  openssl.wait();
  return certificate + "," + key;
}

void bench_memory(const std::filesystem::path& directory) {
  enter_new_network();
  const Child plain = start_echo("own", 21003, {"limits"});
  const Child tls = start_echo("own", 21004, {"tls=" + make_certificate(directory)});
  print_target(
      fmt::format("bytes of memory per idle connection, {} in one process", kMostConnections),
      bytes_per_connection(plain, 21003, kMostConnections), Wish::kAtMost, 256);
  print_target(fmt::format("KB of memory per idle TLS connection, {}", kTlsConnections),
               bytes_per_connection(tls, 21004, kTlsConnections, "tls") / 1e3, Wish::kAtMost, 14.5);
}

void bench_round_trips(const std::filesystem::path& directory) {
  enter_new_network();
  const std::string audit = "audit=" + (directory / "audit.jsonl").string();
  const Child bare = start_echo("bare", 21010);
  const Child own = start_echo("own", 21011, {"limits", audit});
  const Child unswept = start_echo("own", 21014, {"limits", audit});
  const Child swept = start_echo("own", 21012, {"limits", audit, "sweep"});
  std::optional<Child> libevent;
  std::vector<Measured> servers{{"bare epoll loop, one thread each", 21010},
                                {"embedded server, limits, deadlines, audit", 21011},
                                {"the same, 5,000 idle", 21014},
                                {"the same, 5,000 idle, TCP_INFO of each once a second", 21012}};
  if (std::filesystem::exists(program_directory() + "/bench_echo_libevent")) {
    libevent.emplace(peer("bench_echo_libevent", {"21013"}), Child::Output::kDiscard);
    wait_for_listener(21013);
    servers.push_back({"libevent bufferevents", 21013});
  }
  const Child idle_unswept = hold(21014, 5'000);
  const Child idle_swept = hold(21012, 5'000);
  measure(servers);
  fmt::print("\n{} connections, 64 bytes a message, {} rounds\n", kActive, kRounds);
  print(servers);
  const auto rate = &RoundTrips::per_second;
  print_target("round trips/s, embedded / bare loop", ratio_of(servers[1], servers[0], rate),
               Wish::kAtLeast, 0.95);
  if (libevent) {
    print_target("round trips/s, embedded / libevent", ratio_of(servers[1], servers[4], rate),
                 Wish::kAtLeast, 1.3);
  }
  print_target("p99, TCP_INFO sweeps on / off",
               ratio_of(servers[3], servers[2], &RoundTrips::p99_us), Wish::kAtMost, 1.1);

  std::vector<std::vector<double>> churn(2);
  in_turns(churn.size(), [&](std::size_t i) {
    churn[i].push_back(churn_round_trips(servers[i].port, kSeconds));
  });
  fmt::print("     {:.0f} connections/s, each with a round trip and two lines of audit\n",
             median(churn[1]));
  print_target("accept, round trip, close: embedded / bare loop", ratio_of(churn[1], churn[0]),
               Wish::kAtLeast, 0.9);
}

// What the relays stand in front of, and their ports.
constexpr std::uint16_t kEcho = 21020;
constexpr std::uint16_t kSink = 21030;
struct Proxy {
  std::string name;
  std::uint16_t echo_port;
  std::uint16_t sink_port;
  std::string configuration{};
  std::vector<std::string> command{};
};

std::string tool(const std::string& path) {
  return std::filesystem::path(program_directory()) / "../tools" / path;
}

Proxy haproxy(const std::filesystem::path& directory) {
  Proxy proxy{"haproxy, mode tcp", 21022, 21032};
  proxy.configuration =
      "global\n nbthread 1\n maxconn 1000\ndefaults\n mode tcp\n timeout connect 5s\n"
      " timeout client 60s\n timeout server 60s\n";
  for (const auto& [port, backend] :
       {std::pair{proxy.echo_port, kEcho}, {proxy.sink_port, kSink}}) {
    proxy.configuration +=
        fmt::format("listen to_{1}\n bind 127.0.0.1:{0}\n server s 127.0.0.1:{1}\n", port, backend);
  }
  proxy.command = {tool("haproxy/usr/sbin/haproxy"), "-db", "-f", directory / "haproxy.cfg"};
  return proxy;
}

Proxy nginx(const std::filesystem::path& directory) {
  Proxy proxy{"nginx, stream", 21023, 21033};
  proxy.configuration = fmt::format(
      "load_module {};\ndaemon off;\nmaster_process off;\npid {}/nginx.pid;\n"
      "error_log {}/nginx.log;\nevents {{ worker_connections 1000; }}\nstream {{\n",
      tool("libnginx-mod-stream/usr/lib/nginx/modules/ngx_stream_module.so"), directory.string(),
      directory.string());
  for (const auto& [port, backend] :
       {std::pair{proxy.echo_port, kEcho}, {proxy.sink_port, kSink}}) {
    proxy.configuration +=
        fmt::format(" server {{ listen 127.0.0.1:{}; proxy_pass 127.0.0.1:{}; }}\n", port, backend);
  }
  proxy.configuration += "}\n";
  proxy.command = {tool("nginx/usr/sbin/nginx"), "-p", directory, "-c", directory / "nginx.conf"};
  return proxy;
}

void bench_relay(const std::filesystem::path& directory) {
  enter_new_network();
  std::vector<Child> children;
  children.push_back(start_echo("bare", kEcho));
  children.push_back(start_echo("own", kSink, {"discard"}));
  std::vector<Proxy> proxies{{"embedded server, relay", 21021, 21031}};
  children.push_back(start_echo("own", 21021, {fmt::format("relay={}", kEcho)}));
  children.push_back(start_echo("own", 21031, {fmt::format("relay={}", kSink)}));
  for (Proxy& proxy : std::array{haproxy(directory), nginx(directory)}) {
    if (!std::filesystem::exists(proxy.command[0])) continue;
    std::ofstream(proxy.command.back()) << proxy.configuration;
    children.emplace_back(proxy.command, Child::Output::kDiscard);
    wait_for_listener(proxy.sink_port);
    proxies.push_back(std::move(proxy));
  }

  std::vector<Measured> servers;
  for (const Proxy& proxy : proxies) servers.push_back({proxy.name, proxy.echo_port});
  measure(servers);
  fmt::print("\n{} connections through one thread to a bare loop\n", kActive);
  print(servers);
  std::vector<std::vector<double>> bulk(proxies.size());
  in_turns(proxies.size(), [&](std::size_t i) {
    bulk[i].push_back(send_in_bulk(proxies[i].sink_port, kBulkConnections, kSeconds));
  });
  fmt::print("\n{} connections that send all they can through one thread{:>10}\n", kBulkConnections,
             "GB/s");
  for (std::size_t i = 0; i < proxies.size(); ++i) {
    fmt::print("{:<50}{:>14.2f}\n", proxies[i].name, median(bulk[i]) / 1e9);
  }
  for (std::size_t i = 1; i < proxies.size(); ++i) {
    print_target("round trips/s, relay / " + proxies[i].name,
                 ratio_of(servers[0], servers[i], &RoundTrips::per_second), Wish::kAtLeast, 1.2);
  }
}

}  // namespace

void bench_server() {
  const auto directory = std::filesystem::temp_directory_path() /
                         fmt::format("tcpvitals-bench-{}", static_cast<int>(::getpid()));
  std::filesystem::create_directory(directory);
  bench_headline();
  bench_memory(directory);
  bench_round_trips(directory);
  bench_relay(directory);
  std::filesystem::remove_all(directory);
}

}  // namespace tcpvitals::bench
