// Excludes in this machine's kernel: what it leaves out of dumps and events is what excluded() says
// of an unfiltered dump and of all events. Needs no privilege, only loopback with IPv6.
#include <doctest/doctest.h>
#include <poll.h>

#include <algorithm>
#include <set>

#include "collectors/sock_diag/exclude.h"
#include "collectors/sock_diag/netlink.h"
#include "tests/e2e/sockets.h"
#include "tests/support/diag_builder.h"

using namespace tcpvitals;
using namespace tcpvitals::testing;
using namespace tcpvitals::load;

namespace {

std::uint16_t local_port(const Fd& fd) {
  Address address;
  address.size = sizeof address.storage;
  must(::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address.storage), &address.size),
       "getsockname");
  return ntohs(reinterpret_cast<const sockaddr_in*>(&address.storage)->sin_port);
}

std::uint64_t cookie(const Fd& fd) {
  std::uint64_t value = 0;
  socklen_t size = sizeof value;
  must(::getsockopt(fd.get(), SOL_SOCKET, SO_COOKIE, &value, &size), "SO_COOKIE");
  return value;
}

std::set<std::uint64_t> cookies(const std::vector<Fd>& fds) {
  std::set<std::uint64_t> all;
  for (const Fd& fd : fds) all.insert(cookie(fd));
  return all;
}

// Listeners and connections of every kind of address: IPv4, IPv6, and v4-mapped at one end or both.
struct Sockets {
  std::vector<Fd> listeners;
  std::vector<Fd> ends;

  Sockets() {
    const Fd& v4 = listen("127.0.0.1");
    connect(v4, "127.0.0.1", "127.0.0.1");
    connect(v4, "127.0.0.2", "127.0.0.1");
    connect(v4, "127.1.0.1", "127.0.0.1");
    connect(listen("::1"), "::1", "::1");
    const Fd& dual = listen("::");
    connect(dual, "127.0.0.3", "127.0.0.1");
    connect(dual, "::ffff:127.0.0.4", "::ffff:127.0.0.1");
    connect(dual, "::1", "::1");
  }

  // Every other one with a reset.
  void close_ends() {
    for (std::size_t i = 0; i < ends.size(); ++i) {
      if (i % 4 == 0) abort_connection(std::move(ends[i]));
    }
    ends.clear();
  }

 private:
  const Fd& listen(const char* address) {
    listeners.push_back(listen_on(address_of(address, 0)));
    return listeners.back();
  }
  void connect(const Fd& listener, const char* from, const char* to) {
    ends.push_back(connect_from(address_of(from, 0), address_of(to, local_port(listener))));
    ends.push_back(accept_from(listener));
  }
};

// Rows and the datagrams they point into.
struct Rows {
  std::vector<Bytes> datagrams;
  std::vector<SocketRow> rows;
  bool done = false;

  void read(std::span<const std::byte> datagram) {
    datagrams.emplace_back(datagram.begin(), datagram.end());
    InetDiagReader reader(datagrams.back());
    SocketRow row;
    InetDiagReader::Next next;
    while ((next = reader.next(row)) == InetDiagReader::Next::kRow) rows.push_back(row);
    CHECK(next != InetDiagReader::Next::kError);
    done = next == InetDiagReader::Next::kDone;
  }

  bool has(std::uint64_t wanted) const {
    return std::any_of(rows.begin(), rows.end(),
                       [&](const SocketRow& row) { return row.cookie == wanted; });
  }
};

Rows dump(DiagSocket& socket) {
  Rows rows;
  REQUIRE(socket.request_dump(0xfff, DumpDetail::kCounters).ok());
  while (!rows.done) {
    const auto received = socket.receive();
    REQUIRE(received.ok());
    REQUIRE_FALSE(received->datagrams.empty());
    for (const auto& datagram : received->datagrams) rows.read(datagram);
  }
  return rows;
}

// False if there was none for so long.
bool read_events(DiagSocket& socket, Rows& rows, int milliseconds = 1000) {
  pollfd wait{socket.fd(), POLLIN, 0};
  ::poll(&wait, 1, milliseconds);
  const auto received = socket.receive();
  REQUIRE(received.ok());
  for (const auto& datagram : received->datagrams) rows.read(datagram);
  return !received->datagrams.empty();
}

// Those of `cookies` that a row has which is not excluded.
std::set<std::uint64_t> found(const Rows& rows, const std::set<std::uint64_t>& cookies,
                              const Excludes& excludes = {}) {
  std::set<std::uint64_t> all;
  for (const SocketRow& row : rows.rows) {
    if (cookies.count(row.cookie) != 0 && !excluded(excludes, row)) all.insert(row.cookie);
  }
  return all;
}

Excludes peers(std::initializer_list<const char*> prefixes) {
  Excludes excludes;
  for (const char* text : prefixes) excludes.peers.push_back(*parse_ip_prefix(text));
  return excludes;
}

// With up to `most` prefixes.
std::vector<Excludes> cases(const Sockets& sockets, std::size_t most) {
  std::vector<Excludes> all{{},
                            {.loopback = true},
                            peers({"127.0.0.2"}),
                            peers({"127.0.0.0/14"}),
                            peers({"127.0.0.4", "::1"}),
                            peers({"0.0.0.0/0"}),
                            peers({"::/0"}),
                            peers({"::/0", "0.0.0.0/0"}),
                            {.ports = {{1, 65535}}}};
  for (const Fd& fd : sockets.listeners)
    all.push_back({.ports = {{local_port(fd), local_port(fd)}}});
  for (const std::size_t i : {0U, 6U, 10U}) {
    const std::uint16_t port = local_port(sockets.ends[i]);
    all.push_back({.ports = {{port, port}}, .peers = peers({"127.0.0.3"}).peers});
  }
  // Many that match nothing around one that does.
  for (const std::size_t n : {std::size_t{100}, most}) {
    Excludes many;
    for (std::size_t i = 0; i < n; ++i) {
      const std::string octets = std::to_string(i / 256) + "." + std::to_string(i % 256);
      many.peers.push_back(*parse_ip_prefix(i == n / 2 ? "127.0.0.3" : "10.1." + octets));
    }
    all.push_back(many);
  }
  return all;
}

DiagSockets open_sockets() {
  auto opened = open_diag_sockets(1 << 20);
  REQUIRE(opened.ok());
  return std::move(*opened);
}

}  // namespace

TEST_CASE("the kernel leaves out of a dump what is excluded, and nothing else") {
  Sockets sockets;
  auto ours = cookies(sockets.ends);  // a socket has none until it is asked: before the end
  ours.merge(cookies(sockets.listeners));
  shutdown_writing(sockets.ends[0]);
  shutdown_writing(sockets.ends[2]);
  expect_end(sockets.ends[3]);
  shutdown_writing(sockets.ends[3]);  // the one is TIME_WAIT now, the other no longer listed
  const DiagSockets diag = open_sockets();
  const std::size_t wanted = sockets.listeners.size() + sockets.ends.size() - 1;
  Rows all = dump(*diag.dump);
  for (int tries = 0; tries < 1000 && found(all, ours).size() != wanted; ++tries) {
    all = dump(*diag.dump);  // the last acknowledgement may be under way
  }
  REQUIRE(found(all, ours).size() == wanted);

  std::set<std::size_t> sizes;
  for (const Excludes& excludes : cases(sockets, 480)) {
    CAPTURE(excludes.peers.size());
    CAPTURE(excludes.ports.size());
    REQUIRE(diag.dump->exclude(excludes).ok());
    const auto left = found(dump(*diag.dump), ours);
    CHECK(left == found(all, ours, excludes));
    for (const Fd& listener : sockets.listeners) CHECK(left.count(cookie(listener)) == 1);
    sizes.insert(left.size());
  }
  CHECK(sizes.size() > 5);
}

TEST_CASE("excludes outlive a dump that broke off, and one that fails changes nothing") {
  const Sockets sockets;
  auto ours = cookies(sockets.ends);
  ours.merge(cookies(sockets.listeners));
  const DiagSockets diag = open_sockets();
  const auto all = found(dump(*diag.dump), ours);
  REQUIRE(diag.dump->exclude({.loopback = true}).ok());
  CHECK(found(dump(*diag.dump), ours).size() == sockets.listeners.size());
  REQUIRE(diag.dump->request_dump(0xfff, DumpDetail::kCounters).ok());
  REQUIRE(diag.dump->reopen().ok());
  CHECK(found(dump(*diag.dump), ours).size() == sockets.listeners.size());

  Excludes too_many;
  too_many.ports.assign(5000, {80, 80});
  CHECK_FALSE(diag.dump->exclude(too_many).ok());
  CHECK_FALSE(diag.events->exclude(too_many).ok());
  CHECK(found(dump(*diag.dump), ours).size() == sockets.listeners.size());

  REQUIRE(diag.dump->exclude({}).ok());
  CHECK(found(dump(*diag.dump), ours) == all);
}

TEST_CASE("the kernel sends no event of what is excluded, and every other one") {
  const DiagSockets reference = open_sockets();
  const DiagSockets diag = open_sockets();
  // Where net.core.optmem_max is 20 KiB, as it long was, no more than these fit.
  constexpr std::size_t kMost = 150;
  const std::size_t number_of_cases = cases(Sockets(), kMost).size();
  std::set<std::size_t> sizes;
  for (std::size_t i = 0; i < number_of_cases; ++i) {
    Sockets sockets;
    const Excludes excludes = cases(sockets, kMost)[i];
    CAPTURE(i);
    REQUIRE(diag.events->exclude(excludes).ok());
    const auto ends = cookies(sockets.ends);
    sockets.close_ends();
    Rows every;
    const auto complete = [&] {
      return std::all_of(ends.begin(), ends.end(), [&](auto c) { return every.has(c); });
    };
    for (int tries = 0; tries < 1000 && !complete(); ++tries) read_events(*reference.events, every);
    REQUIRE(complete());

    // Never excluded, and the last: when its event is there, all others wait in their shards.
    const std::uint64_t last = cookie(sockets.listeners[0]);
    sockets.listeners.clear();
    Rows left;
    for (int tries = 0; tries < 1000 && !left.has(last); ++tries) read_events(*diag.events, left);
    REQUIRE(left.has(last));
    while (read_events(*diag.events, left, 0)) {
    }
    std::size_t received = 0;
    for (const SocketRow& row : every.rows) {
      if (ends.count(row.cookie) == 0) continue;
      CAPTURE(to_string(Endpoint{row.local_address(), row.local_port}));
      CAPTURE(to_string(Endpoint{row.remote_address(), row.remote_port}));
      CHECK(left.has(row.cookie) == !excluded(excludes, row));
      received += left.has(row.cookie) ? 1 : 0;
    }
    sizes.insert(received);
  }
  CHECK(sizes.size() > 5);
}
