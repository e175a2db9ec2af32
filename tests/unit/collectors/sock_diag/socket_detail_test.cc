#include "collectors/sock_diag/socket_detail.h"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <map>
#include <sstream>

#include "tests/fixtures/datagrams.h"
#include "tests/fixtures/directory.h"
#include "tests/support/diag_builder.h"

using namespace tcpvitals;
using namespace tcpvitals::testing;

namespace {

const std::string kFixture = fixture_path("6.18-detail/");

using Words = std::vector<std::string>;

// Words of ss that change while one looks, or are computed from others.
bool is_passing(const std::string& word) {
  constexpr const char* kNames[] = {
      "timer:", "lastsnd:", "lastrcv:", "lastack:", "busy:", "rwnd_limited:"};
  return std::any_of(std::begin(kNames), std::end(kNames),
                     [&](const char* name) { return word.rfind(name, 0) == 0; });
}

// The lines of ss by the socket's cookie, from the process column on.
std::map<std::string, Words> ss_lines() {
  std::map<std::string, Words> lines;
  std::ifstream file(kFixture + "ss.txt");
  std::string line;
  std::getline(file, line);
  while (std::getline(file, line)) {
    std::istringstream stream(line);
    const Words all{std::istream_iterator<std::string>(stream), {}};
    Words words;
    for (std::size_t i = 5; i < all.size(); ++i) {
      if (all[i] == "send") {
        ++i;  // and its value
      } else if (!is_passing(all[i])) {
        words.push_back(all[i]);
      }
    }
    for (const std::string& word : words) {
      if (word.rfind("sk:", 0) == 0) lines[word.substr(3)] = words;
    }
  }
  return lines;
}

// Collects `name:value` where ss would print it: when it is not zero.
struct Line {
  Words words{};

  void add(std::string word) { words.push_back(std::move(word)); }
  template <typename T>
  void some(const char* name, T value) {
    if (value != T{}) add(fmt::format("{}:{}", name, value));
  }
  // As ss prints a double, "%g".
  void milliseconds(const char* name, std::uint32_t us) {
    if (us != 0) add(fmt::format("{}:{:g}", name, us / 1000.0));
  }
};

void add_socket(Line& line, const SocketDetail& d) {
  line.some("uid", d.uid);
  line.add(fmt::format("ino:{}", d.inode));
  line.add(fmt::format("sk:{:x}", d.cookie));
  if (d.mark.value_or(0) != 0) line.add(fmt::format("fwmark:0x{:x}", *d.mark));
  if (d.cgroup_id) line.add(*d.cgroup_id == 1 ? "cgroup:/" : "cgroup:?");
  if (d.v6only) line.add(fmt::format("v6only:{}", *d.v6only ? 1 : 0));
  if (d.shutdown) {
    line.add(fmt::format("{}-{}", (*d.shutdown & 1) != 0 ? '-' : '<',
                         (*d.shutdown & 2) != 0 ? '-' : '>'));
  }
  const auto hexadecimal = [&](const char* name, auto value) {
    if (value)
      line.add(*value == 0 ? fmt::format("{}:0", name) : fmt::format("{}:{:#x}", name, *value));
  };
  hexadecimal("tos", d.tos);
  hexadecimal("tclass", d.traffic_class);
  hexadecimal("class_id", d.class_id);
  if (const auto& m = d.memory) {
    line.add(fmt::format("skmem:(r{},rb{},t{},tb{},f{},w{},o{},bl{},d{})", m->receive_allocated,
                         m->receive_buffer, m->send_allocated, m->send_buffer, m->forward_allocated,
                         m->send_queued, m->options, m->backlog, m->drops));
  }
}

void add_bbr(Line& line, const SocketDetail::Bbr& bbr) {
  std::string word =
      fmt::format("bbr:(bw:{}bps,mrtt:{:g}", bbr.bandwidth * 8, bbr.min_rtt_us / 1000.0);
  if (bbr.pacing_gain != 0) word += fmt::format(",pacing_gain:{:g}", bbr.pacing_gain);
  if (bbr.cwnd_gain != 0) word += fmt::format(",cwnd_gain:{:g}", bbr.cwnd_gain);
  line.add(word + ")");
}

void add_rate(Line& line, const char* name, std::uint64_t bytes) {
  if (bytes == 0) return;
  line.add(name);
  line.add(fmt::format("{}bps", bytes * 8));
}

void add_counters(Line& line, const SocketDetail& d, const TcpInfo& t) {
  line.some("bytes_sent", t.bytes_sent);
  line.some("bytes_retrans", t.bytes_retransmitted);
  line.some("bytes_acked", t.bytes_acked);
  line.some("bytes_received", t.bytes_received);
  line.some("segs_out", t.segs_out);
  line.some("segs_in", t.segs_in);
  line.some("data_segs_out", t.data_segs_out);
  line.some("data_segs_in", t.data_segs_in);
  if (d.bbr) add_bbr(line, *d.bbr);
  add_rate(line, "pacing_rate", t.pacing_rate);
  add_rate(line, "delivery_rate", t.delivery_rate);
  line.some("delivered", t.delivered);
  if ((t.delivery_rate_flags & 1) != 0) line.add("app_limited");
  line.some("unacked", d.state == TcpState::kListen ? 0 : t.unacked);
  if (t.retrans != 0 || t.total_retrans != 0) {
    line.add(fmt::format("retrans:{}/{}", t.retrans, t.total_retrans));
  }
  line.some("dsack_dups", t.dsack_dups);
}

// The line that ss would print.
Words words_of(const SocketDetail& d) {
  Line line;
  add_socket(line, d);
  if (!d.info) return line.words;
  const TcpInfo& t = d.info->info;
  if ((t.options & 1) != 0) line.add("ts");
  if ((t.options & 2) != 0) line.add("sack");
  if (d.congestion_control) line.add(*d.congestion_control);
  if ((t.options & 4) != 0) line.add(fmt::format("wscale:{},{}", t.wscale & 15, t.wscale >> 4));
  if (t.rto_us != 3'000'000) line.milliseconds("rto", t.rto_us);
  line.some("backoff", unsigned{t.backoff});
  if (t.rtt_us != 0)
    line.add(fmt::format("rtt:{:g}/{:g}", t.rtt_us / 1000.0, t.rttvar_us / 1000.0));
  line.milliseconds("ato", t.ato_us);
  const bool listens = d.state == TcpState::kListen;
  if (!listens) {
    line.some("mss", t.snd_mss);
    line.some("pmtu", t.pmtu);
    line.some("rcvmss", t.rcv_mss);
    line.some("advmss", t.advmss);
  }
  line.some("cwnd", t.snd_cwnd);
  if (listens) return line.words;
  add_counters(line, d, t);
  line.milliseconds("rcv_rtt", t.rcv_rtt_us);
  line.some("rcv_space", t.rcv_space);
  line.some("rcv_ssthresh", t.rcv_ssthresh);
  line.some("notsent", t.notsent_bytes);
  line.milliseconds("minrtt", t.min_rtt_us);
  line.some("snd_wnd", t.snd_wnd);
  return line.words;
}

// A message with one attribute more.
Bytes with_attribute(Bytes bytes, std::uint16_t type, const void* data, std::size_t size) {
  append_attribute(bytes, type, data, size);
  const auto length = static_cast<std::uint32_t>(bytes.size());
  std::memcpy(bytes.data(), &length, sizeof length);
  return bytes;
}

SocketDetail detail_with(std::uint16_t type, const void* data, std::size_t size) {
  const Bytes bytes = with_attribute(message({}), type, data, size);
  return read_detail(first_row(bytes));
}

}  // namespace

TEST_CASE("captured: every socket's detail is what ss showed, word for word") {
  const auto datagrams = read_datagrams(kFixture + "detail.bin");
  auto lines = ss_lines();
  REQUIRE(lines.size() == 16);
  std::size_t rows = 0;
  for (const auto& datagram : datagrams) {
    InetDiagReader reader(datagram);
    SocketRow row;
    while (reader.next(row) == InetDiagReader::Next::kRow) {
      const SocketDetail detail = read_detail(row);
      const std::string cookie = fmt::format("{:x}", detail.cookie);
      CAPTURE(cookie);
      CHECK(fmt::format("{}", fmt::join(words_of(detail), " ")) ==
            fmt::format("{}", fmt::join(lines[cookie], " ")));
      ++rows;
    }
  }
  CHECK(rows == lines.size());
}

TEST_CASE("captured: timers, interfaces and what a TIME_WAIT socket does not have") {
  std::map<std::uint16_t, SocketDetail> by_port;  // of the client's end
  const auto datagrams = read_datagrams(kFixture + "detail.bin");
  for (const auto& datagram : datagrams) {
    InetDiagReader reader(datagram);
    SocketRow row;
    while (reader.next(row) == InetDiagReader::Next::kRow) {
      if (row.local_port > 8000) by_port[row.local_port] = read_detail(row);
    }
  }
  using Timer = SocketDetail::Timer;
  CHECK(by_port.at(38760).timer == Timer::kKeepalive);
  CHECK(by_port.at(38760).timer_expires.count() / 60'000 == 119);
  CHECK(by_port.at(58660).timer == Timer::kZeroWindowProbe);
  CHECK(by_port.at(58660).timer_retransmits == 1);
  CHECK(by_port.at(38768).timer == Timer::kOff);
  CHECK(by_port.at(38764).interface == 1);
  CHECK(by_port.at(38768).interface == 0);
  CHECK(to_string(by_port.at(50412).remote) == "[::1]:7301");

  const SocketDetail& waiting = by_port.at(38780);
  CHECK(waiting.timer == Timer::kTimeWait);
  CHECK(waiting.timer_expires.count() / 1000 == 58);
  CHECK_FALSE(waiting.info.has_value());
  CHECK_FALSE(waiting.memory.has_value());
  CHECK_FALSE(waiting.cgroup_id.has_value());
  CHECK_FALSE(waiting.shutdown.has_value());
  CHECK_FALSE(waiting.congestion_control.has_value());
}

TEST_CASE("what was not asked for is absent") {
  const Bytes bytes = message({.has_info = false});
  const SocketDetail detail = read_detail(first_row(bytes));
  CHECK(to_string(detail.remote) == "198.51.100.7:40000");
  CHECK_FALSE(detail.info.has_value());
  CHECK_FALSE(detail.memory.has_value());
  CHECK_FALSE(detail.tos.has_value());
  CHECK_FALSE(detail.mark.has_value());
  CHECK_FALSE(detail.v6only.has_value());
  CHECK(read_detail(SocketRow{}).cookie == 0);
}

TEST_CASE("DCTCP and upper protocols are read") {
  const tcp_dctcp_info dctcp{1, 1, 512, 3000, 9000};
  const SocketDetail marked = detail_with(INET_DIAG_DCTCPINFO, &dctcp, sizeof dctcp);
  REQUIRE(marked.dctcp.has_value());
  CHECK(marked.dctcp->alpha == 0.5);
  CHECK(marked.dctcp->ecn_bytes == 3000);
  CHECK(marked.dctcp->total_bytes == 9000);
  // The same attribute of a connection on which DCTCP fell back to Reno.
  const tcp_dctcp_info off{};
  CHECK_FALSE(detail_with(INET_DIAG_DCTCPINFO, &off, sizeof off).dctcp.has_value());

  Bytes nested;
  append_attribute(nested, INET_ULP_INFO_NAME, "tls", 4);
  CHECK(detail_with(INET_DIAG_ULP_INFO, nested.data(), nested.size()).upper_protocol == "tls");
}

TEST_CASE("an attribute of another size than is known is absent") {
  const std::byte bytes[64]{};
  for (const std::uint16_t type :
       {INET_DIAG_TOS, INET_DIAG_TCLASS, INET_DIAG_SHUTDOWN, INET_DIAG_SKMEMINFO, INET_DIAG_MARK,
        INET_DIAG_CLASS_ID, INET_DIAG_CGROUP_ID, INET_DIAG_BBRINFO, INET_DIAG_DCTCPINFO,
        INET_DIAG_SKV6ONLY, INET_DIAG_ULP_INFO}) {
    for (const std::size_t size : {0U, 2U, 63U}) {
      CAPTURE(type);
      CAPTURE(size);
      const SocketDetail d = detail_with(type, bytes, size);
      CHECK_FALSE((d.tos || d.traffic_class || d.shutdown || d.memory || d.mark || d.class_id ||
                   d.cgroup_id || d.bbr || d.dctcp || d.v6only || d.upper_protocol));
    }
  }
}

TEST_CASE("captured: every prefix of every row in full is read without harm") {
  for (const auto& datagram : read_datagrams(kFixture + "detail.bin")) {
    for (std::size_t size = 0; size < datagram.size(); ++size) {
      const Bytes prefix(datagram.begin(), datagram.begin() + static_cast<std::ptrdiff_t>(size));
      InetDiagReader reader(prefix);
      SocketRow row;
      while (reader.next(row) == InetDiagReader::Next::kRow) {
        CHECK(read_detail(row).cookie == row.cookie);
      }
    }
  }
}
