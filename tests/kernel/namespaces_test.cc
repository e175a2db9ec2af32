// NamespaceWatcher against the kernel. Runs in a user, network and mount namespace of its own,
// where it may do all of this and nobody else sees it: see tests/CMakeLists.txt.
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <arpa/inet.h>
#include <doctest/doctest.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/capability.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "base/fd.h"
#include "collectors/connections/connections_collector.h"
#include "collectors/host/host_collectors.h"
#include "collectors/host/snmp.h"
#include "collectors/namespaces/namespace_watcher.h"
#include "collectors/namespaces/netns.h"
#include "collectors/sock_diag/inet_diag.h"
#include "server/socket_address.h"
#include "tests/fixtures/descriptors.h"

using namespace tcpvitals;
using tcpvitals::testing::open_descriptors;
using namespace std::chrono_literals;

namespace {

const std::string kNames = "/run/netns";
constexpr std::uint32_t kAllStates = 0xfff;

// Ours too: /run of our own, and loopback.
[[maybe_unused]] const bool kPrepared = [] {
  const bool done = ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
                    ::mount("none", "/run", "tmpfs", 0, nullptr) == 0 &&
                    ::mkdir(kNames.c_str(), 0755) == 0;
  if (!done) std::perror("these tests need a user, network and mount namespace of their own");
  if (!done) std::_Exit(1);
  return done;
}();

template <typename Condition>
bool eventually(Condition condition) {
  for (int i = 0; i < 500; ++i) {
    if (condition()) return true;
    std::this_thread::sleep_for(10ms);
  }
  return false;
}

void run(const std::string& command) {
  CAPTURE(command);
  REQUIRE(std::system(command.c_str()) == 0);
}

Fd new_namespace() {
  Fd fd;
  std::thread([&] {
    if (::unshare(CLONE_NEWNET) < 0) return;
    fd = Fd(::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
    const Fd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    ifreq loopback{};
    std::snprintf(loopback.ifr_name, sizeof loopback.ifr_name, "lo");
    loopback.ifr_flags = IFF_UP;
    ::ioctl(socket.get(), SIOCSIFFLAGS, &loopback);
  }).join();
  REQUIRE(fd.valid());
  return fd;
}

std::uint64_t inode(const Fd& fd) {
  struct stat status {};
  REQUIRE(::fstat(fd.get(), &status) == 0);
  return status.st_ino;
}

// A namespace under a name and without a process, as ip-netns(8) makes it.
class Named {
 public:
  explicit Named(std::string name) : path_(kNames + "/" + std::move(name)) {
    const Fd netns = new_namespace();
    id = inode(netns);
    const Fd file(::open(path_.c_str(), O_CREAT | O_RDONLY | O_CLOEXEC, 0444));
    const std::string source = "/proc/self/fd/" + std::to_string(netns.get());
    REQUIRE(::mount(source.c_str(), path_.c_str(), "none", MS_BIND, nullptr) == 0);
  }
  ~Named() { remove(); }
  Named(const Named&) = delete;
  Named& operator=(const Named&) = delete;

  const std::string& path() const { return path_; }
  void remove() {
    ::umount2(path_.c_str(), MNT_DETACH);
    ::unlink(path_.c_str());
  }
  void inside(const std::function<void()>& work) const {
    const Fd netns(::open(path_.c_str(), O_RDONLY | O_CLOEXEC));
    const auto done = in_namespace(netns.get(), [&]() -> Result<void> {
      work();
      return {};
    });
    REQUIRE(done.ok());
  }

  std::uint64_t id = 0;

 private:
  std::string path_;
};

sockaddr_in loopback_address(std::uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

struct Connection {
  Fd listener, client, server;
};

// In the namespace of the calling thread.
Connection connect_to_self(std::uint16_t port) {
  Connection c;
  const sockaddr_in address = loopback_address(port);
  const auto* name = reinterpret_cast<const sockaddr*>(&address);
  const int on = 1;
  c.listener = Fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  ::setsockopt(c.listener.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  CHECK(::bind(c.listener.get(), name, sizeof address) == 0);
  CHECK(::listen(c.listener.get(), 8) == 0);
  c.client = Fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  CHECK(::connect(c.client.get(), name, sizeof address) == 0);
  c.server = Fd(::accept4(c.listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  CHECK(c.server.valid());
  return c;
}

// The local ports of a whole dump.
std::multiset<std::uint16_t> dumped_ports(DiagSocket& socket, std::uint32_t states = kAllStates) {
  std::multiset<std::uint16_t> ports;
  REQUIRE(socket.request_dump(states, DumpDetail::kNone).ok());
  for (;;) {
    auto received = socket.receive();
    REQUIRE(received.ok());
    REQUIRE_FALSE(received->datagrams.empty());
    for (const auto& datagram : received->datagrams) {
      InetDiagReader reader(datagram);
      SocketRow row;
      for (;;) {
        const auto next = reader.next(row);
        REQUIRE(next != InetDiagReader::Next::kError);
        if (next == InetDiagReader::Next::kDone) return ports;
        if (next == InetDiagReader::Next::kEnd) break;
        ports.insert(row.local_port);
      }
    }
  }
}

double passive_opens(const KernelSource& source) {
  const auto fields = read_parsed(source, "net/snmp", parse_snmp);
  REQUIRE(fields.ok());
  return fields->at("TcpPassiveOpens");
}

struct Watch {
  explicit Watch(std::size_t limit = 64, const std::string& procfs = "/proc")
      : watcher(sources,
                {.limit = limit, .names_directory = kNames, .procfs = procfs, .interval = 20ms}) {
    watcher.wait_for_first_look();
  }

  // Takes changes, and plays the sampler with them.
  void take() {
    for (NamespaceChange& change : watcher.take_changes()) {
      if (change.came()) {
        const std::uint64_t id = change.id;
        CHECK(open.emplace(id, std::move(change)).second);
      } else {
        CHECK(open.erase(change.id) == 1);
      }
    }
  }
  bool has(std::uint64_t id) {
    take();
    return open.contains(id);
  }
  std::vector<std::string> labels() const {
    std::vector<std::string> labels;
    for (const auto& [label, source] : sources.namespaces()) labels.push_back(label);
    return labels;
  }
  std::shared_ptr<const KernelSource> files(const std::string& label) const {
    for (const auto& n : sources.namespaces()) {
      if (n.label == label) return n.source;
    }
    FAIL("no namespace " << label);
    return nullptr;
  }

  const ProcSource host{"/proc"};
  NamespaceSources sources{host};
  NamespaceWatcher watcher;
  std::map<std::uint64_t, NamespaceChange> open;
};

using Labels = std::vector<std::string>;

}  // namespace

TEST_CASE("a namespace that is there at the start is there in the first look, in its own name") {
  const Named blue("blue");
  Watch watch;
  REQUIRE(watch.has(blue.id));
  CHECK(watch.open.at(blue.id).label == "blue");
  CHECK(watch.labels() == Labels{"host", "blue"});
  const NamespaceStats stats = watch.watcher.stats();
  CHECK(stats.privileged);
  CHECK(stats.watched == 2);
  CHECK(stats.arrivals == 1);
  CHECK(stats.unopened == 0);
}

TEST_CASE("a dump of a namespace tells what is in it and nothing else, also when it is reopened") {
  const Named blue("blue");
  Watch watch;
  REQUIRE(watch.has(blue.id));
  DumpSockets& sockets = *watch.open.at(blue.id).sockets;
  CHECK(dumped_ports(*sockets.dump).empty());
  Connection inside;
  blue.inside([&] { inside = connect_to_self(5001); });
  constexpr std::uint32_t kListen = 1U << static_cast<unsigned>(TcpState::kListen);
  for (int i = 0; i < 2; ++i) {
    CHECK(dumped_ports(*sockets.dump).size() == 3);
    CHECK(dumped_ports(*sockets.dump).count(5001) == 2);
    CHECK(dumped_ports(*sockets.listeners, kListen) == std::multiset<std::uint16_t>{5001});
    REQUIRE(sockets.dump->reopen().ok());
    REQUIRE(sockets.listeners->reopen().ok());
  }
  auto ours = open_diag_sockets(1 << 16);
  REQUIRE(ours.ok());
  CHECK(dumped_ports(*ours->dump).empty());
}

TEST_CASE("files tell the counters of their namespace at the time they are read, process or not") {
  const Named blue("blue");
  Watch watch;
  const auto files = watch.files("blue");
  CHECK(passive_opens(*files) == 0);
  for (int opened = 1; opened <= 3; ++opened) {
    blue.inside([] { connect_to_self(5002); });
    CHECK(passive_opens(*files) == opened);
  }
  CHECK(passive_opens(*watch.files("host")) == 0);
  for (const char* path : {"net/snmp6", "net/netstat", "net/sockstat", "net/sockstat6"}) {
    CAPTURE(path);
    const auto text = files->read(path);
    REQUIRE(text.ok());
    CHECK(text->ends_with('\n'));
  }
  CHECK(files->read("net/tcp").error().is_absent());
}

TEST_CASE("settings of a namespace are read as they are in it") {
  const Named blue("blue");
  Watch watch;
  const auto files = watch.files("blue");
  const char* const kRange = "sys/net/ipv4/ip_local_port_range";
  const char* const kReserved = "sys/net/ipv4/ip_local_reserved_ports";
  const std::string ours = *watch.files("host")->read(kRange);
  blue.inside([] {
    std::ofstream("/proc/sys/net/ipv4/ip_local_port_range") << "10000 10009";
    std::ofstream("/proc/sys/net/ipv4/ip_local_reserved_ports") << "10003,10005-10006";
  });
  CHECK(*files->read(kRange) == "10000\t10009\n");
  CHECK(*files->read(kReserved) == "10003,10005-10006\n");
  CHECK(*watch.files("host")->read(kRange) == ours);
  for (const std::string& path : namespace_files()) {
    CAPTURE(path);
    // A kernel need not have IPv6 or connection tracking.
    CHECK((files->read(path).ok() || files->read(path).error().is_absent()));
  }
}

TEST_CASE("a file that comes with a module is there for namespaces that were there before") {
  const Named blue("blue");
  namespace fs = std::filesystem;
  const fs::path procfs = fs::temp_directory_path() / fmt::format("tcpvitals-{}", ::getpid());
  const fs::path directory = procfs / "thread-self" / "net" / "stat";
  fs::create_directories(directory);
  {
    Watch watch(64, procfs);
    REQUIRE(eventually([&] { return watch.has(blue.id); }));
    const auto read = [&] { return watch.files("blue")->read("net/stat/nf_conntrack"); };
    CHECK(read().error().is_absent());
    std::ofstream(directory / "nf_conntrack") << "entries\n00000007\n";
    CHECK(eventually([&] { return read().ok(); }));
  }
  fs::remove_all(procfs);
}

TEST_CASE("two readers of one file do not disturb each other") {
  const Named blue("blue");
  Watch watch;
  const auto files = watch.files("blue");
  const std::size_t size = files->read("net/netstat")->size();
  const auto read_often = [&] {
    for (int i = 0; i < 2000; ++i) {
      const auto text = files->read("net/netstat");
      if (!text.ok() || text->size() != size) return false;
    }
    return true;
  };
  bool fine = false;
  std::thread other([&] { fine = read_often(); });
  CHECK(read_often());
  other.join();
  CHECK(fine);
}

TEST_CASE("one socket receives the events of all namespaces, each with the number of its own") {
  const Named blue("blue");
  const Named green("green");
  Watch watch;
  REQUIRE(watch.has(blue.id));
  REQUIRE(watch.has(green.id));
  const int blue_id = watch.open.at(blue.id).nsid;
  const int green_id = watch.open.at(green.id).nsid;
  CHECK(blue_id >= 0);
  CHECK(green_id >= 0);
  CHECK(blue_id != green_id);

  auto ours = open_diag_sockets(1 << 20);
  REQUIRE(ours.ok());
  REQUIRE(ours->events->listen_all_namespaces(NamespaceIds::kNone).ok());
  blue.inside([] { connect_to_self(5003); });
  for (int i = 0; i < 2; ++i) green.inside([] { connect_to_self(5003); });
  run("ip link set lo up");
  connect_to_self(5004);

  std::map<int, std::multiset<std::uint16_t>> ports;  // of the servers' ends, by namespace
  std::size_t events = 0;
  // A listener and at least one end of each connection; of the other, TIME_WAIT, comes none more.
  CHECK(eventually([&] {
    auto received = ours->events->receive();
    REQUIRE(received.ok());
    REQUIRE(received->nsids.size() == received->datagrams.size());
    for (std::size_t i = 0; i < received->datagrams.size(); ++i) {
      InetDiagReader reader(received->datagrams[i]);
      SocketRow row;
      while (reader.next(row) == InetDiagReader::Next::kRow) {
        ++events;
        if (row.remote_port == 0) ports[received->nsids[i]].insert(row.local_port);
      }
    }
    return events == 4 * 3;
  }));
  CHECK(ports == std::map<int, std::multiset<std::uint16_t>>{
                     {kOwnNamespace, {5004}}, {blue_id, {5003}}, {green_id, {5003, 5003}}});
}

TEST_CASE("when only our namespace is listened to, the events of others stay away") {
  const Named blue("blue");
  Watch watch;
  REQUIRE(watch.has(blue.id));
  auto ours = open_diag_sockets(1 << 20);
  REQUIRE(ours.ok());
  REQUIRE(ours->events->listen_all_namespaces(NamespaceIds::kNone).ok());
  REQUIRE(ours->events->listen_own_namespace().ok());
  run("ip link set lo up");
  blue.inside([] { connect_to_self(5007); });
  connect_to_self(5008);
  std::multiset<std::uint16_t> ports;  // of the listeners, and of the ends that send an event
  CHECK(eventually([&] {
    auto received = ours->events->receive();
    REQUIRE(received.ok());
    for (const int nsid : received->nsids) CHECK(nsid == kOwnNamespace);
    for (const auto& datagram : received->datagrams) {
      InetDiagReader reader(datagram);
      SocketRow row;
      while (reader.next(row) == InetDiagReader::Next::kRow) ports.insert(row.local_port);
    }
    return ports.contains(5008);
  }));
  CHECK(ports.count(5007) == 0);
}

TEST_CASE("a namespace that somebody gave us as ours is told as ours") {
  auto ids = NamespaceIds::open();
  REQUIRE(ids.ok());
  const Fd self(::open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC));
  REQUIRE(*ids->find(self.get()) == NamespaceIds::kNone);
  REQUIRE(ids->assign(self.get()).ok());
  REQUIRE(*ids->find(self.get()) != NamespaceIds::kNone);
  auto ours = open_diag_sockets(1 << 20);
  REQUIRE(ours.ok());
  REQUIRE(ours->events->listen_all_namespaces(*ids->find(self.get())).ok());
  connect_to_self(5005);
  CHECK(eventually([&] {
    auto received = ours->events->receive();
    REQUIRE(received.ok());
    for (const int nsid : received->nsids) CHECK(nsid == kOwnNamespace);
    return !received->datagrams.empty();
  }));
}

TEST_CASE("a namespace that a process alone holds comes and goes with it") {
  Watch watch;
  std::FILE* holder = ::popen("exec unshare --net cat", "w");
  REQUIRE(holder != nullptr);
  REQUIRE(eventually([&] {
    watch.take();
    return watch.open.size() == 1;
  }));
  const NamespaceChange& change = watch.open.begin()->second;
  CHECK(change.label == std::to_string(change.id));
  CHECK(watch.labels() == Labels{"host", change.label});
  ::pclose(holder);
  CHECK(eventually([&] {
    watch.take();
    return watch.open.empty();
  }));
  CHECK(watch.labels() == Labels{"host"});
}

TEST_CASE("when its last name is gone we let a namespace go, and it ends: its cable is cut") {
  Watch watch;
  Named blue("blue");
  REQUIRE(eventually([&] { return watch.has(blue.id); }));
  run("ip link add cable0 type veth peer name cable0 netns blue");
  REQUIRE(::if_nametoindex("cable0") != 0);
  auto files = watch.files("blue");
  blue.remove();
  CHECK(eventually([&] { return !watch.has(blue.id); }));
  CHECK(watch.watcher.stats().departures == 1);
  // A scrape in its midst holds it back, and reads on.
  CHECK(::if_nametoindex("cable0") != 0);
  CHECK(passive_opens(*files) == 0);
  files.reset();
  CHECK(eventually([] { return ::if_nametoindex("cable0") == 0; }));
}

TEST_CASE("namespaces that come and go leave no descriptor behind, taken or not") {
  Watch watch;
  const std::size_t before = open_descriptors();
  for (int i = 0; i < 6; ++i) {
    Named one("one");
    Named two("two");
    REQUIRE(eventually([&] { return watch.watcher.stats().watched == 3; }));
    if (i % 2 == 0) watch.take();
    one.remove();
    two.remove();
    REQUIRE(eventually([&] { return watch.watcher.stats().watched == 1; }));
  }
  watch.take();
  CHECK(open_descriptors() == before);
  CHECK(watch.watcher.stats().arrivals == 12);
  CHECK(watch.watcher.stats().departures == 12);
}

TEST_CASE("a namespace that comes again under its old name takes up the series of the old") {
  const ProcSource proc("/proc");
  NamespaceSources sources(proc);
  ConnectionsOptions options{.namespaces = &sources};
  options.config.group_by.netns = true;
  options.config.cpu_budget = 1;
  ConnectionsCollector collector(sources, options);
  // Of its connections on that port, each sample under `direction netns`; nothing while it is away.
  const auto opened = [&] {
    Sink sink(10'000);
    REQUIRE(collector.collect(sink, Clock::now() + 10s).ok());
    std::map<std::string, double> values;
    for (const auto& family : sink.take()) {
      if (family.name != "tcp_connections_opened_total") continue;
      for (const auto& metric : family.metric) {
        std::map<std::string, std::string> labels;
        for (const auto& label : metric.label) labels[label.name] = label.value;
        if (labels["port"] != "5006") continue;
        CHECK(values.emplace(labels["direction"] + " " + labels["netns"], metric.counter.value)
                  .second);
      }
    }
    return values;
  };
  const auto is_watched = [&] { return sources.namespaces().size() == 2; };
  for (int round = 1; round <= 3; ++round) {
    Named blue("blue");
    REQUIRE(eventually(is_watched));
    opened();
    std::this_thread::sleep_for(200ms);  // its baseline is taken
    Connection inside;
    blue.inside([&] { inside = connect_to_self(5006); });
    CHECK(opened() ==
          std::map<std::string, double>{{"inbound blue", round}, {"outbound blue", round}});
    inside = {};
    blue.remove();
    REQUIRE(eventually([&] { return !is_watched(); }));
  }
}

TEST_CASE("over the limit a namespace is left out and counted, until there is room") {
  Named blue("blue");
  const Named green("green");
  Watch watch(2);
  REQUIRE(watch.has(blue.id));
  CHECK_FALSE(watch.has(green.id));
  std::this_thread::sleep_for(100ms);
  CHECK(watch.watcher.stats().watched == 2);
  CHECK(watch.watcher.stats().left_out == 1);
  CHECK(watch.watcher.stats().overflowed == 1);
  blue.remove();
  CHECK(eventually([&] { return watch.has(green.id) && !watch.has(blue.id); }));
  CHECK(watch.watcher.stats().left_out == 0);
  watch.watcher.set_limit(1);
  CHECK(eventually([&] { return !watch.has(green.id); }));
  CHECK(watch.watcher.stats().overflowed == 2);
}

TEST_CASE("a name is kept while it is watched; its second user goes by number") {
  Watch watch;
  Named blue("blue");
  REQUIRE(eventually([&] { return watch.has(blue.id); }));
  // The first lives on without its name: as long as a process is in it.
  std::FILE* holder = ::popen("exec nsenter --net=/run/netns/blue cat", "w");
  REQUIRE(holder != nullptr);
  std::this_thread::sleep_for(200ms);
  blue.remove();
  const Named second("blue");
  REQUIRE(eventually([&] { return watch.has(second.id); }));
  CHECK(watch.has(blue.id));
  CHECK(watch.labels() == Labels{"host", "blue", std::to_string(second.id)});
  ::pclose(holder);
}

TEST_CASE("an empty file where a name was is no namespace, and no error") {
  Named blue("blue");
  REQUIRE(::umount2(blue.path().c_str(), MNT_DETACH) == 0);
  Watch watch;
  CHECK(watch.labels() == Labels{"host"});
  CHECK(watch.watcher.stats().unopened == 0);
}

TEST_CASE("without one of the privileges only our own namespace is watched, still by its name") {
  const Named blue("blue");
  struct Privilege {
    int bit;
    const char* name;
  };
  for (const Privilege& lost : {Privilege{CAP_SYS_ADMIN, "CAP_SYS_ADMIN"},
                                Privilege{CAP_NET_BROADCAST, "CAP_NET_BROADCAST"},
                                Privilege{CAP_NET_ADMIN, "CAP_NET_ADMIN"}}) {
    CAPTURE(lost.name);
    __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
    std::array<__user_cap_data_struct, _LINUX_CAPABILITY_U32S_3> all{};
    REQUIRE(::syscall(SYS_capget, &header, all.data()) == 0);
    auto less = all;
    less[static_cast<std::size_t>(CAP_TO_INDEX(lost.bit))].effective &= ~CAP_TO_MASK(lost.bit);
    REQUIRE(::syscall(SYS_capset, &header, less.data()) == 0);
    CHECK(missing_namespace_privileges() == lost.name);
    {
      Watch watch;
      CHECK_FALSE(watch.watcher.stats().privileged);
      CHECK(watch.watcher.stats().watched == 1);
      CHECK(watch.labels() == Labels{"host"});
      CHECK(watch.watcher.take_changes().empty());
    }
    REQUIRE(::syscall(SYS_capset, &header, all.data()) == 0);
  }
  CHECK(missing_namespace_privileges().empty());
}

TEST_CASE("a namespace that cannot be entered is told, and costs no other") {
  const Named blue("blue");
  // Of a namespace that is not in our user namespace we may know, but not enter it. Without a
  // descriptor to spare it is the same.
  Watch watch(1);
  rlimit before{};
  REQUIRE(::getrlimit(RLIMIT_NOFILE, &before) == 0);
  rlimit tight = before;
  tight.rlim_cur = open_descriptors() + 3;
  REQUIRE(::setrlimit(RLIMIT_NOFILE, &tight) == 0);
  watch.watcher.set_limit(64);
  CHECK(eventually([&] { return watch.watcher.stats().unopened == 1; }));
  CHECK(watch.watcher.stats().watched == 1);
  REQUIRE(::setrlimit(RLIMIT_NOFILE, &before) == 0);
  CHECK(eventually([&] { return watch.has(blue.id); }));
  CHECK(watch.watcher.stats().unopened == 0);
}

TEST_CASE("our end of a connection to ourselves has a port where 127.0.0.1 has none left") {
  constexpr int kPorts = 4;
  int taken = 0;
  std::string error;
  Endpoint end;
  std::thread([&] {
    const Fd netns = new_namespace();
    if (::setns(netns.get(), CLONE_NEWNET) < 0) return;
    std::ofstream("/proc/sys/net/ipv4/ip_local_port_range") << "40000 40003";
    const auto on_loopback = [](std::uint16_t port) {
      Fd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
      SocketAddress address({*parse_ip_address("127.0.0.1"), port});
      if (::bind(fd.get(), address.get(), address.length) != 0) return Fd();
      return fd;
    };
    const Fd server = on_loopback(7000);
    if (::listen(server.get(), 8) != 0) return;
    std::vector<Fd> all;
    for (Fd fd = on_loopback(0); fd.valid(); fd = on_loopback(0)) all.push_back(std::move(fd));
    taken = static_cast<int>(all.size());
    const Endpoint to = local_endpoint(server);
    const Fd ours = open_socket(to);
    const auto sent = connect_socket(ours, to, [&](const Endpoint& e) { end = e; });
    if (!sent) error = sent.error().message;
  }).join();
  CHECK(taken == kPorts);
  CHECK(error == "");
  CHECK(to_string(end.address).starts_with("127."));
  CHECK(end.port != 0);
}
