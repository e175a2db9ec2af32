#include "collectors/sock_diag/inet_diag.h"

#include <doctest/doctest.h>

#include "tests/support/diag_builder.h"

using namespace tcpvitals;
using namespace tcpvitals::testing;
using Next = InetDiagReader::Next;

TEST_CASE("a row says what the kernel said") {
  FakeSocket s{.cookie = 0x1122334455667788, .receive_queue = 5, .send_queue = 7};
  s.info.total_retrans = 9;
  const Bytes bytes = message(s);
  const SocketRow row = first_row(bytes);
  CHECK(row.cookie == 0x1122334455667788);
  CHECK(row.state == TcpState::kEstablished);
  CHECK(row.local_port == 443);
  CHECK(row.remote_port == 40000);
  CHECK(to_string(row.local_address()) == "192.0.2.1");
  CHECK(to_string(row.remote_address()) == "198.51.100.7");
  CHECK(row.receive_queue == 5);
  CHECK(row.send_queue == 7);
  CHECK(row.tcp_info().info.total_retrans == 9);
  CHECK_FALSE(row.time_wait);
  CHECK(row.message.size() == bytes.size() - sizeof(nlmsghdr));
}

TEST_CASE("a row has its cgroup's id where the kernel sends one") {
  const Bytes sent = message({.cgroup_id = 0x100000002});
  CHECK(first_row(sent).cgroup_id == 0x100000002);
  const Bytes not_sent = message({});
  CHECK(first_row(not_sent).cgroup_id == 0);
}

TEST_CASE("an IPv6 socket's v4-mapped peer is the IPv4 address") {
  const Bytes bytes =
      message({.local = "::ffff:192.0.2.1", .remote = "::ffff:10.0.0.1", .ipv6 = true});
  CHECK(first_row(bytes).family == AF_INET6);
  CHECK(first_row(bytes).remote_address() == *parse_ip_address("10.0.0.1"));
}

TEST_CASE("a dump ends with done, and an error is told by its text") {
  SocketRow row;
  // An error of 0 is an acknowledgement.
  const Bytes dump = join({message({}), kernel_error(0), message({.cookie = 2}), done()});
  InetDiagReader reader(dump);
  CHECK(reader.next(row) == Next::kRow);
  CHECK(reader.next(row) == Next::kRow);
  CHECK(row.cookie == 2);
  CHECK(reader.next(row) == Next::kDone);

  const Bytes refused = kernel_error(EPERM);
  InetDiagReader failing(refused);
  CHECK(failing.next(row) == Next::kError);
  CHECK(failing.error().message == "sock_diag: Operation not permitted");
  CHECK(failing.refusal() == EPERM);
  CHECK(reader.refusal() == 0);
}

TEST_CASE("a state that we do not know is skipped, and the next row is read") {
  for (const int state : {0, 12, 13, 255}) {
    CAPTURE(state);
    const Bytes both = join({message({.state = static_cast<TcpState>(state)}),
                             message({.cookie = 2, .state = TcpState::kClosing})});
    InetDiagReader reader(both);
    SocketRow row;
    REQUIRE(reader.next(row) == Next::kRow);
    CHECK(row.cookie == 2);
    CHECK(row.state == TcpState::kClosing);
    CHECK(reader.next(row) == Next::kEnd);
  }
}

TEST_CASE("what is left of a closed connection has the kernel's substate") {
  for (const TcpState state : {TcpState::kFinWait2, TcpState::kTimeWait}) {
    const Bytes bytes = message({.state = state, .has_info = false, .time_wait = true});
    const SocketRow row = first_row(bytes);
    CHECK(row.time_wait);
    CHECK(row.state == state);
    CHECK(row.tcp_info().length == 0);
  }
}

TEST_CASE("an attribute of another size than we know is absent") {
  const auto with = [](std::uint16_t type, std::size_t size) {
    Bytes body = message({.has_info = false});
    body.erase(body.begin(), body.begin() + sizeof(nlmsghdr));
    const Bytes value(size, std::byte{0xff});
    append_attribute(body, type, value.data(), value.size());
    const std::uint64_t more = ~0ULL;
    append_attribute(body, 999, &more, sizeof more);
    return wrap(SOCK_DIAG_BY_FAMILY, body);
  };
  for (const std::size_t size : {0U, 1U, 4U, 7U, 9U, 12U}) {
    CAPTURE(size);
    const Bytes bytes = with(INET_DIAG_CGROUP_ID, size);
    CHECK(first_row(bytes).cookie == 1);
    CHECK(first_row(bytes).cgroup_id == 0);
  }
  const Bytes cgroup = with(INET_DIAG_CGROUP_ID, 8);
  CHECK(first_row(cgroup).cgroup_id == ~0ULL);
  // The kernel may say in the type's highest bits what the value is made of.
  const Bytes flagged = with(INET_DIAG_CGROUP_ID | NLA_F_NET_BYTEORDER, 8);
  CHECK(first_row(flagged).cgroup_id == ~0ULL);
  const Bytes empty = with(INET_DIAG_SKV6ONLY, 0);
  CHECK_FALSE(first_row(empty).v6only);
  const Bytes only = with(INET_DIAG_SKV6ONLY, 1);
  CHECK(first_row(only).v6only);
}

TEST_CASE("tcp_info is as long as the kernel sent it; what it did not send is missing, not zero") {
  TcpInfo info{};
  std::memset(&info, 0x11, sizeof info);
  for (const std::size_t length : {0U, 8U, 104U, 144U, 192U, 280U}) {
    CAPTURE(length);
    const Bytes bytes = message({.info = info, .info_length = length});
    const SocketRow row = first_row(bytes);
    CHECK(row.info_length == length);
    const TcpInfoSample sample = row.tcp_info();
    CHECK(sample.length == length);
    CHECK(TCPVITALS_HAS(sample, total_retrans) == (length >= 104));
    CHECK(TCPVITALS_HAS(sample, segs_in) == (length >= 144));
    CHECK(TCPVITALS_HAS(sample, min_rtt_us) == (length >= 192));
    CHECK(TCPVITALS_HAS(sample, bytes_sent) == (length >= 280));
    CHECK(sample.info.min_rtt_us == (length >= 192 ? 0x11111111 : kNoRtt));
    CHECK(sample.info.accecn_options == (length >= 280 ? 0x11111111 : 0));
  }
}

TEST_CASE("message types, attributes and families of a newer kernel are skipped") {
  SocketRow row;
  Bytes body = message({});
  const Bytes unknown_type = wrap(99, {std::byte{1}, std::byte{2}});
  const Bytes mixed = join({unknown_type, message({.cookie = 7}), done()});
  InetDiagReader reader(mixed);
  CHECK(reader.next(row) == Next::kRow);
  CHECK(row.cookie == 7);
  CHECK(reader.next(row) == Next::kDone);
}

TEST_CASE("every prefix of a datagram is read without harm, and no cut row is taken for whole") {
  const Bytes whole = join(
      {message({.cookie = 1}), message({.cookie = 2, .local = "::1", .remote = "::1"}), done()});
  const std::size_t first_end = message({.cookie = 1}).size();
  for (std::size_t size = 0; size < whole.size(); ++size) {
    // On the heap and of exactly this size, so that a sanitizer sees the first byte too far.
    const Bytes prefix(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size));
    InetDiagReader reader(prefix);
    SocketRow row;
    std::size_t rows = 0;
    Next next;
    while ((next = reader.next(row)) == Next::kRow) {
      ++rows;
      CHECK(row.cookie == rows);
      CHECK(row.tcp_info().length == sizeof(TcpInfo));
    }
    CAPTURE(size);
    CHECK(rows == (size < first_end                      ? 0
                   : size < whole.size() - done().size() ? size / first_end
                                                         : 2));
    CHECK(next != Next::kDone);
  }
}

TEST_CASE("lengths that lie are errors, not reads past the end") {
  const Bytes good = message({});
  for (const std::uint16_t lie : std::initializer_list<std::uint16_t>{0, 1, 15, 60000}) {
    Bytes bad = good;
    std::memcpy(bad.data(), &lie, sizeof lie);  // nlmsg_len
    SocketRow row;
    CHECK(InetDiagReader(bad).next(row) == Next::kError);
  }
  for (const std::uint16_t lie : std::initializer_list<std::uint16_t>{0, 3, 285, 60000}) {
    Bytes bad = good;
    std::memcpy(bad.data() + sizeof(nlmsghdr) + sizeof(inet_diag_msg), &lie,
                sizeof lie);  // nla_len
    SocketRow row;
    CHECK(InetDiagReader(bad).next(row) == Next::kError);
  }
}

TEST_CASE("a socket without a cookie has no identity, so it is an error") {
  const Bytes bytes = message({.cookie = 0});
  SocketRow row;
  CHECK(InetDiagReader(bytes).next(row) == Next::kError);
}
