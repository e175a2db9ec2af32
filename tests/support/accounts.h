// The parts of the sampler without its thread: a host account with namespaces of the test's making,
// the reader of its events and the rounds of its dumps.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "collectors/connections/dump_round.h"
#include "collectors/connections/event_reader.h"
#include "collectors/connections/host_account.h"
#include "collectors/connections/snapshot_builder.h"
#include "tests/support/fake_diag.h"
#include "tests/support/testing.h"

namespace tcpvitals::testing {

inline ConnectionsConfig by_netns() {
  ConnectionsConfig config;
  config.group_by.netns = true;
  return config;
}

inline std::shared_ptr<TextSource> text_files(
    std::initializer_list<std::pair<const std::string, std::string>> files) {
  return std::make_shared<TextSource>(files);
}

// Of a network namespace that gives its ports as kernels do unless they are told otherwise.
inline std::shared_ptr<TextSource> default_ports() {
  return text_files({{"sys/net/ipv4/ip_local_port_range", "32768\t60999\n"}});
}

// Another network namespace: its sockets, and the files in which it tells of them.
struct FakeNamespace {
  explicit FakeNamespace(std::vector<FakeSocket> sockets) { set(std::move(sockets)); }

  // The files agree with the sockets; `segments` moves the counters.
  void set(std::vector<FakeSocket> sockets, int segments = 0) {
    std::size_t time_wait = 0;
    for (const FakeSocket& s : sockets) time_wait += s.time_wait ? 1 : 0;
    tell(sockets.size() - time_wait, time_wait, segments);
    kernel.set(std::move(sockets));
  }
  void tell(std::size_t in_use, std::size_t time_wait, int segments) const {
    files->set("net/snmp", "Tcp: ActiveOpens InSegs\nTcp: 1 " + std::to_string(segments) + "\n");
    files->set("net/sockstat", "sockets: used 9\nTCP: inuse " + std::to_string(in_use) +
                                   " orphan 0 tw " + std::to_string(time_wait) +
                                   " alloc 99 mem 1\n");
    files->set("net/sockstat6", "TCP6: inuse 0\n");
  }

  FakeKernel kernel;
  std::shared_ptr<TextSource> files = default_ports();
};

struct Accounts {
  explicit Accounts(ConnectionsConfig config = by_netns(),
                    std::shared_ptr<const KernelSource> files = default_ports())
      : host(fake_dump_sockets(kernel), std::move(files), std::move(config)) {}

  void add(FakeNamespace& other, std::uint64_t inode, const std::string& label) {
    host.add({.id = inode,
              .label = label,
              .nsid = static_cast<int>(inode),
              .sockets = fake_dump_sockets(other.kernel),
              .files = other.files});
  }
  void dump(DumpRound::Options options = {}) {
    round.begin(std::move(options));
    while (round.running()) round.read();
  }
  Snapshot snapshot() const {
    Snapshot s;
    describe(events, 0, s);
    describe(host, s);
    return s;
  }
  const GroupStats* group(std::string_view netns, std::string_view direction,
                          std::string_view port) {
    shown = snapshot();
    for (const Snapshot::Group& g : shown.groups) {
      if (g.labels.netns == netns && g.labels.direction == direction && g.labels.port == port) {
        return &g.stats;
      }
    }
    return nullptr;
  }

  FakeKernel kernel;
  HostAccount host;
  EventReader events{std::make_unique<FakeDiagSocket>(kernel, FakeDiagSocket::Role::kEvents), host};
  std::vector<std::string> failures;  // of namespaces that are not ours
  Clock::duration later{};            // for rounds of dumps it is so much later than it is
  DumpRound round{host,
                  [this](const NamespaceAccount& account, const Error& error) {
                    failures.push_back(account.identity().label + ": " + error.message);
                  },
                  [this] { return Clock::now() + later; }};
  Snapshot shown;
};

}  // namespace tcpvitals::testing
