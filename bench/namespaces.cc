#include <fcntl.h>
#include <fmt/format.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "bench/agent.h"
#include "bench/bare_dump.h"
#include "bench/benches.h"
#include "bench/net.h"
#include "collectors/namespaces/netns.h"

namespace tcpvitals::bench {
namespace {

constexpr std::size_t kConnections = 45'000;  // in ours, two sockets each
constexpr int kNamespaces = 64;
constexpr int kBusy = 4;  // of them; in the others nothing moves
constexpr int kRounds = 11;

// Named namespaces that no one else on the host sees.
void hide_named_namespaces() {
  if (::unshare(CLONE_NEWNS) < 0 || ::mount("", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) < 0) {
    die("the bench of namespaces needs root");
  }
  ::mkdir("/run/netns", 0755);
  if (::mount("bench", "/run/netns", "tmpfs", 0, nullptr) < 0) die("mount /run/netns");
}

void ip(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), "ip");
  Child(arguments, Child::Output::kDiscard).wait();
}

// A server there, and clients that call it ten times a second.
void keep_busy(const std::string& name, std::vector<Child>& children) {
  const auto load = [&](std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(),
                     {"ip", "netns", "exec", name, program_directory() + "/tcp_load"});
    children.emplace_back(arguments, Child::Output::kRead);
    children.back().read_line();  // ready
  };
  load({"serve", "--port", "9000", "--reply", "echo", "--seconds", "280"});
  load({"calls", "--port", "9000", "--up", "64", "--connections", "4", "--rate", "10", "--seconds",
        "280"});
}

// Dumps that namespace from wherever we are.
std::unique_ptr<BareDump> bare_dump_of(const std::string& name) {
  const std::string path = "/run/netns/" + name;
  const Fd netns(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  std::unique_ptr<BareDump> dump;
  const auto done = in_namespace(netns.get(), [&]() -> Result<void> {
    dump = std::make_unique<BareDump>();
    return {};
  });
  if (!done) die(path + ": " + done.error().message);
  return dump;
}

std::string configuration() {
  std::string path = "/tmp/tcpvitals-bench-XXXXXX";
  const Fd file(::mkstemp(path.data()));
  if (!file.valid()) die("make " + path);
  std::ofstream(path) << "connections: {group_by: [netns]}\n";
  return path;
}

}  // namespace

void bench_namespaces() {
  enter_new_network();
  hide_named_namespaces();
  const HeldConnections held(kConnections);
  std::vector<Child> busy;
  std::vector<std::unique_ptr<BareDump>> bare_dumps;  // of those where something moves
  for (int i = 0; i < kNamespaces; ++i) {
    const std::string name = fmt::format("bench-{}", i);
    ip({"netns", "add", name});
    ip({"-n", name, "link", "set", "lo", "up"});
    if (i >= kBusy) continue;
    keep_busy(name, busy);
    bare_dumps.push_back(bare_dump_of(name));
  }
  const std::string config = configuration();
  Agent alone;
  Agent all({"--connections.max-namespaces=100", "--config.file=" + config});
  ::unlink(config.c_str());
  std::string page;
  std::vector<Contender> contenders{
      {"/metrics, our namespace alone", [&] { return alone.scrape().cost; }},
      {fmt::format("bare dumps of {} others", kBusy),
       [&] {
         return timed([&] {
           for (const auto& dump : bare_dumps) dump->one_walk();
         });
       }},
      {fmt::format("/metrics, {} more, {} of them idle", kNamespaces, kNamespaces - kBusy), [&] {
         Scraped scraped = all.scrape();
         page = std::move(scraped.body);
         return scraped.cost;
       }}};
  run_rounds(contenders, kRounds);
  fmt::print("\n{} sockets in ours, {} namespaces besides, {} rounds\n", 2 * kConnections,
             kNamespaces, kRounds);
  print_table(contenders);
  const auto ratio_to_floor = [&](double Cost::*cost) {
    const auto of = [&](const Contender& contender) {
      return ratio(contender, contenders[0], cost);
    };
    return of(contenders[2]) / (1 + of(contenders[1]));
  };
  // The kernel walks the whole table for each dump: of what moved, nobody tells with less.
  print_target("all / ours alone and bare dumps of what moved, wall", ratio_to_floor(&Cost::wall),
               Wish::kAtMost, 1.15);
  print_target("all / ours alone and bare dumps of what moved, CPU", ratio_to_floor(&Cost::cpu),
               Wish::kAtMost, 1.15);
  print_target("namespaces that the agent watches", value_of(page, "tcpvitals_namespaces"),
               Wish::kAtLeast, kNamespaces + 1);
}

}  // namespace tcpvitals::bench
