#include "server/access.h"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <random>
#include <thread>
#include <vector>

using namespace tcpvitals;
using namespace std::chrono_literals;
using Verdict = PeerLimits::Verdict;
using Pace = AcceptRate::Verdict;

namespace {

IpAddress address(const char* text) { return *parse_ip_address(text); }

std::vector<IpPrefix> prefixes(std::initializer_list<const char*> texts) {
  std::vector<IpPrefix> list;
  for (const char* text : texts) list.push_back(*parse_ip_prefix(text));
  return list;
}

// 10.0.0.0 and up.
IpAddress numbered(std::uint32_t n) {
  const std::uint8_t bytes[] = {10, static_cast<std::uint8_t>(n >> 16),
                                static_cast<std::uint8_t>(n >> 8), static_cast<std::uint8_t>(n)};
  return IpAddress::v4(bytes);
}

TimePoint at(Clock::duration since) { return TimePoint(1'000'000s) + since; }

}  // namespace

TEST_CASE("denied wins over allowed; no allowed prefix is everyone") {
  const AccessList everyone({}, {});
  CHECK(everyone.allows(address("192.0.2.1")));
  CHECK(everyone.allows(address("2001:db8::1")));

  const AccessList list(prefixes({"10.0.0.0/8", "10.1.0.0/16", "2001:db8::/32", "192.0.2.7"}),
                        prefixes({"10.1.2.0/24", "2001:db8:bad::/48"}));
  const struct {
    const char* peer;
    bool allowed;
  } kTable[] = {{"10.0.0.1", true},      {"10.1.1.255", true},       {"10.1.2.0", false},
                {"10.1.2.255", false},   {"10.1.3.0", true},         {"10.255.255.255", true},
                {"11.0.0.0", false},     {"9.255.255.255", false},   {"192.0.2.7", true},
                {"192.0.2.8", false},    {"::ffff:10.0.0.1", true},  {"2001:db8::1", true},
                {"2001:db7::1", false},  {"2001:db8:bad::1", false}, {"::", false},
                {"2001:db8:bae::", true}};
  for (const auto& row : kTable) {
    CAPTURE(row.peer);
    CHECK(list.allows(address(row.peer)) == row.allowed);
  }
}

TEST_CASE("a prefix of one family says nothing of the other") {
  CHECK_FALSE(AccessList(prefixes({"::/0"}), {}).allows(address("192.0.2.1")));
  CHECK_FALSE(AccessList(prefixes({"0.0.0.0/0"}), {}).allows(address("2001:db8::1")));
  const AccessList no_ipv6({}, prefixes({"::/0"}));
  CHECK(no_ipv6.allows(address("192.0.2.1")));
  CHECK_FALSE(no_ipv6.allows(address("2001:db8::1")));
}

TEST_CASE("lists agree with asking each prefix, on random ones") {
  const auto seed = std::random_device{}();
  CAPTURE(seed);
  std::mt19937 random(seed);
  const auto random_address = [&] {
    std::array<std::uint8_t, 16> bytes{};  // few different ones, so that prefixes meet
    for (auto& byte : bytes) byte = static_cast<std::uint8_t>(random() % 3);
    return random() % 2 == 0 ? IpAddress::v4(bytes.data()) : IpAddress::v6(bytes.data());
  };
  for (int round = 0; round < 200; ++round) {
    std::vector<IpPrefix> allow;
    std::vector<IpPrefix> deny;
    for (int i = 0; i < 20; ++i) {
      const IpAddress base = random_address();
      const unsigned lowest = base.is_v4() ? 96 : 0;
      (i % 2 == 0 ? allow : deny)
          .push_back(
              prefix_of(base, static_cast<std::uint8_t>(lowest + random() % (129 - lowest))));
    }
    const AccessList list(allow, deny);
    for (int i = 0; i < 50; ++i) {
      const IpAddress peer = random_address();
      const auto in = [&](const IpPrefix& prefix) { return prefix.contains(peer); };
      const bool expected =
          std::any_of(allow.begin(), allow.end(), in) && std::none_of(deny.begin(), deny.end(), in);
      CAPTURE(to_string(peer));
      CHECK(list.allows(peer) == expected);
    }
  }
}

TEST_CASE("a peer has so many connections at once, and others have theirs") {
  PeerLimits limits({.max_connections = 2});
  const IpAddress a = address("192.0.2.1");
  CHECK(limits.admit(a, at(0s)) == Verdict::kAdmitted);
  CHECK(limits.admit(a, at(0s)) == Verdict::kAdmitted);
  CHECK(limits.admit(a, at(0s)) == Verdict::kTooMany);
  CHECK(limits.admit(address("192.0.2.2"), at(0s)) == Verdict::kAdmitted);
  CHECK(limits.entries() == 2);
  limits.leave(a);
  CHECK(limits.admit(a, at(0s)) == Verdict::kAdmitted);
  CHECK(limits.admit(a, at(1h)) == Verdict::kTooMany);
}

TEST_CASE("a bucket fills with time, up to its burst") {
  PeerLimits limits({.rate = 10, .burst = 3});
  const IpAddress a = address("192.0.2.1");
  for (int i = 0; i < 3; ++i) CHECK(limits.admit(a, at(0s)) == Verdict::kAdmitted);
  CHECK(limits.admit(a, at(0s)) == Verdict::kTooFast);
  CHECK(limits.admit(a, at(99ms)) == Verdict::kTooFast);
  CHECK(limits.admit(a, at(100ms)) == Verdict::kAdmitted);
  CHECK(limits.admit(a, at(100ms)) == Verdict::kTooFast);
  for (int i = 0; i < 3; ++i) CHECK(limits.admit(a, at(1h)) == Verdict::kAdmitted);
  CHECK(limits.admit(a, at(1h)) == Verdict::kTooFast);
  // Leaving gives no token back.
  limits.leave(a);
  CHECK(limits.admit(a, at(1h)) == Verdict::kTooFast);
}

TEST_CASE("without a burst a bucket holds a second's worth, at least one") {
  for (const auto& row : {std::pair(0.01, 1), {1.0, 1}, {20.0, 20}, {2.5, 3}}) {
    CAPTURE(row.first);
    PeerLimits limits({.rate = row.first});
    int admitted = 0;
    while (limits.admit(address("::1"), at(0s)) == Verdict::kAdmitted) ++admitted;
    CHECK(admitted == row.second);
  }
}

TEST_CASE("a peer is a prefix, of each family's length") {
  PeerLimits hosts({.max_connections = 1});
  CHECK(hosts.admit(address("192.0.2.1"), at(0s)) == Verdict::kAdmitted);
  CHECK(hosts.admit(address("192.0.2.2"), at(0s)) == Verdict::kAdmitted);
  CHECK(hosts.admit(address("2001:db8::1"), at(0s)) == Verdict::kAdmitted);
  CHECK(hosts.admit(address("2001:db8::ffff:1:2:3"), at(0s)) == Verdict::kTooMany);
  CHECK(hosts.admit(address("2001:db8:0:1::1"), at(0s)) == Verdict::kAdmitted);

  PeerLimits networks({.max_connections = 1, .ipv4_length = 20, .ipv6_length = 33});
  CHECK(networks.admit(address("192.0.2.1"), at(0s)) == Verdict::kAdmitted);
  CHECK(networks.admit(address("192.0.15.9"), at(0s)) == Verdict::kTooMany);
  CHECK(networks.admit(address("192.0.16.0"), at(0s)) == Verdict::kAdmitted);
  CHECK(networks.admit(address("2001:db8::1"), at(0s)) == Verdict::kAdmitted);
  CHECK(networks.admit(address("2001:db8:7fff::1"), at(0s)) == Verdict::kTooMany);
  CHECK(networks.admit(address("2001:db8:8000::"), at(0s)) == Verdict::kAdmitted);

  PeerLimits all({.max_connections = 1, .ipv4_length = 0, .ipv6_length = 0});
  CHECK(all.admit(address("192.0.2.1"), at(0s)) == Verdict::kAdmitted);
  CHECK(all.admit(address("10.0.0.1"), at(0s)) == Verdict::kTooMany);
  CHECK(all.admit(address("2001:db8::1"), at(0s)) == Verdict::kAdmitted);
  CHECK(all.admit(address("fe80::1"), at(0s)) == Verdict::kTooMany);
}

TEST_CASE("a bucket goes by the newest clock of all threads") {
  PeerLimits limits({.rate = 10, .burst = 2});
  const IpAddress a = address("192.0.2.1");
  CHECK(limits.admit(a, at(10s)) == Verdict::kAdmitted);
  CHECK(limits.admit(a, at(5s)) == Verdict::kAdmitted);  // the second token of 10 s
  CHECK(limits.admit(a, at(5s)) == Verdict::kTooFast);
  CHECK(limits.admit(a, at(10s + 100ms)) == Verdict::kAdmitted);
  CHECK(limits.admit(a, at(10s)) == Verdict::kTooFast);
}

TEST_CASE("a limit of connections alone has no rate, whatever the clocks") {
  PeerLimits limits({.max_connections = 4});
  const IpAddress a = address("192.0.2.1");
  for (const auto now : {10s, 5s, 0s, 20s}) CHECK(limits.admit(a, at(now)) == Verdict::kAdmitted);
  CHECK(limits.admit(a, at(0s)) == Verdict::kTooMany);
}

TEST_CASE("an admission that is withdrawn leaves the connection and its token") {
  PeerLimits limits({.max_connections = 1, .rate = 0.001, .burst = 1});
  const IpAddress a = address("192.0.2.1");
  for (int i = 0; i < 3; ++i) {
    CHECK(limits.admit(a, at(0s)) == Verdict::kAdmitted);
    limits.withdraw(a);
  }
  CHECK(limits.admit(a, at(0s)) == Verdict::kAdmitted);
  limits.leave(a);
  CHECK(limits.admit(a, at(0s)) == Verdict::kTooFast);
}

TEST_CASE("without limits nothing is kept") {
  PeerLimits limits({});
  CHECK(limits.admit(address("192.0.2.1"), at(0s)) == Verdict::kUncounted);
  limits.leave(address("192.0.2.1"));
  CHECK(limits.entries() == 0);
}

TEST_CASE("a flood of peers fills the table and no more; then new ones pass uncounted") {
  constexpr std::uint32_t kTable = 4096;
  PeerLimits limits({.max_connections = 1, .max_entries = kTable});
  std::vector<std::uint32_t> admitted;
  for (std::uint32_t i = 0; i < 4 * kTable; ++i) {
    const Verdict verdict = limits.admit(numbered(i), at(0s));
    if (verdict == Verdict::kAdmitted) admitted.push_back(i);
    if (verdict != Verdict::kAdmitted) CHECK(verdict == Verdict::kUncounted);
  }
  CHECK(limits.entries() == kTable);
  CHECK(admitted.size() == kTable);
  // Those in the table are held as before, and their places go to others when they leave.
  for (const std::uint32_t i : admitted)
    CHECK(limits.admit(numbered(i), at(0s)) == Verdict::kTooMany);
  for (const std::uint32_t i : admitted) limits.leave(numbered(i));
  for (std::uint32_t i = 0; i < kTable; ++i) {
    CHECK(limits.admit(numbered(1'000'000 + i / 2), at(0s)) !=
          (i % 2 == 0 ? Verdict::kTooMany : Verdict::kAdmitted));
  }
  CHECK(limits.entries() <= kTable);
}

TEST_CASE("peers that used up their buckets keep their places until those are full again") {
  PeerLimits limits({.rate = 1, .burst = 2, .max_entries = 16});
  std::uint32_t i = 0;
  for (int uncounted = 0; uncounted < 1000; ++i) {
    const Verdict verdict = limits.admit(numbered(i), at(0s));
    if (verdict == Verdict::kAdmitted) limits.leave(numbered(i));
    if (verdict == Verdict::kUncounted) ++uncounted;
  }
  CHECK(limits.entries() == 16);
  int admitted = 0;
  for (std::uint32_t k = 0; k < 1000; ++k) {
    if (limits.admit(numbered(i + k), at(2s)) == Verdict::kAdmitted) ++admitted;
  }
  CHECK(admitted == 16);
}

// The model has room for everyone and forgets nobody: what the table lets go of must not matter.
TEST_CASE("a million connections of random peers, against a naive model") {
  struct Naive {
    std::uint32_t live = 0;
    double tokens = 0;
    double since = 0;
  };
  constexpr double kRate = 4;
  constexpr double kBurst = 8;
  constexpr std::uint32_t kMost = 3;
  const auto seed = std::random_device{}();
  CAPTURE(seed);
  std::mt19937_64 random(seed);
  PeerLimits limits({.max_connections = kMost,
                     .rate = kRate,
                     .burst = static_cast<std::uint32_t>(kBurst),
                     .max_entries = 1024});
  std::map<std::uint32_t, Naive> model;
  std::vector<std::uint32_t> live;
  std::array<std::uint64_t, 4> verdicts{};
  std::uint64_t wrong = 0;
  std::size_t most_entries = 0;
  // Times of which the float of the model has every bit: the table rounds to nanoseconds.
  for (std::int64_t step = 0; step < 1'000'000; ++step) {
    const double now = static_cast<double>(step) / 8192;
    // Most come from few peers; a flood of others comes and goes.
    const bool flood = step / 50'000 % 2 == 1;
    const auto n =
        static_cast<std::uint32_t>(random() % (flood && random() % 4 == 0 ? 100'000 : 300));
    const TimePoint when = at(std::chrono::nanoseconds(step * 1'000'000'000 / 8192));
    const Verdict verdict = limits.admit(numbered(n), when);
    ++verdicts[static_cast<std::size_t>(verdict)];
    auto [entry, is_new] = model.try_emplace(n, Naive{0, kBurst, now});
    Naive& naive = entry->second;
    naive.tokens = std::min(kBurst, naive.tokens + (now - naive.since) * kRate);
    naive.since = now;
    Verdict expected = Verdict::kAdmitted;
    if (naive.tokens < 1) expected = Verdict::kTooFast;
    if (naive.live >= kMost) expected = Verdict::kTooMany;
    // Between the two roundings a token may be a nanosecond early.
    const bool undecided = std::abs(naive.tokens - 1) < 1e-6;
    if (verdict != Verdict::kUncounted && verdict != expected && !undecided) ++wrong;
    if (verdict == Verdict::kUncounted && (naive.live != 0 || naive.tokens < kBurst)) ++wrong;
    if (verdict == Verdict::kAdmitted) {
      ++naive.live;
      naive.tokens -= 1;
      live.push_back(n);
    }
    // In the flood they stay, so that the table fills; after it they go.
    const std::size_t keep = flood ? 2000 : 300;
    while (live.size() > keep) {
      const std::size_t i = random() % live.size();
      limits.leave(numbered(live[i]));
      --model[live[i]].live;
      live[i] = live.back();
      live.pop_back();
    }
    most_entries = std::max(most_entries, limits.entries());
  }
  CHECK(wrong == 0);
  CHECK(most_entries <= 1024);
  for (const std::uint64_t count : verdicts) CHECK(count > 1000);  // the test saw all of them
  for (const std::uint32_t n : live) limits.leave(numbered(n));
  for (std::uint32_t i = 0; i < 10'000; ++i) (void)limits.admit(numbered(1'000'000), at(1h));
  CHECK(limits.entries() < 1024);
}

TEST_CASE("threads never exceed a peer's limit together, and leave nothing behind") {
  constexpr std::uint32_t kMost = 5;
  PeerLimits limits({.max_connections = kMost, .max_entries = 64});
  std::array<std::atomic<std::uint32_t>, 8> live{};
  std::atomic<bool> exceeded = false;
  std::vector<std::thread> threads;
  for (std::uint32_t t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937 random(t);
      for (int i = 0; i < 20'000; ++i) {
        const std::uint32_t peer = random() % 8;
        if (limits.admit(numbered(peer), Clock::now()) != Verdict::kAdmitted) continue;
        if (++live[peer] > kMost) exceeded = true;
        --live[peer];
        limits.leave(numbered(peer));
        (void)limits.entries();
      }
    });
  }
  for (auto& thread : threads) thread.join();
  CHECK_FALSE(exceeded);
  for (std::uint32_t peer = 0; peer < 8; ++peer) {
    for (std::uint32_t i = 0; i < kMost; ++i) {
      CHECK(limits.admit(numbered(peer), Clock::now()) == Verdict::kAdmitted);
    }
    CHECK(limits.admit(numbered(peer), Clock::now()) == Verdict::kTooMany);
  }
}

TEST_CASE("the soft limit is told once a second, the hard one refuses") {
  AcceptRate rate({.soft = 3, .hard = 5});
  const auto pace = [&](Clock::duration when) { return rate.accept(at(when)); };
  for (int second = 0; second < 2; ++second) {
    const auto start = std::chrono::seconds(second);
    for (int i = 0; i < 3; ++i) CHECK(pace(start) == Pace::kAccepted);
    CHECK(pace(start + 500ms) == Pace::kSoftLimit);
    CHECK(pace(start + 600ms) == Pace::kAccepted);
    CHECK(pace(start + 700ms) == Pace::kRefused);
    CHECK(pace(start + 999ms) == Pace::kRefused);
  }
  CHECK(pace(2s) == Pace::kAccepted);
  CHECK(rate.soft_limit_seconds() == 2);
  CHECK(rate.refused() == 4);
  CHECK(rate.peak(at(2s)) == 7);
}

TEST_CASE("a connection counts in the second of the newest clock") {
  AcceptRate rate({.soft = 1, .hard = 2});
  for (int i = 0; i < 2; ++i) CHECK(rate.accept(at(0s)) != Pace::kRefused);
  CHECK(rate.accept(at(1s)) == Pace::kAccepted);
  CHECK(rate.accept(at(999ms)) == Pace::kSoftLimit);  // second 0 is full, second 1 is not
  CHECK(rate.accept(at(1s)) == Pace::kRefused);
  CHECK(rate.accept(at(0s)) == Pace::kRefused);
}

TEST_CASE("the peak is of one second of the last 60, refused ones included") {
  AcceptRate rate({.soft = 0, .hard = 2});
  CHECK(rate.peak(at(0s)) == 0);
  for (int i = 0; i < 9; ++i) (void)rate.accept(at(0s));
  for (int i = 0; i < 4; ++i) (void)rate.accept(at(30s));
  CHECK(rate.peak(at(59s + 999ms)) == 9);
  CHECK(rate.peak(at(60s)) == 4);
  CHECK(rate.peak(at(90s)) == 0);
  // A second that has the place of one a minute ago begins at nothing.
  (void)rate.accept(at(90s));
  CHECK(rate.peak(at(90s)) == 1);
  CHECK(rate.soft_limit_seconds() == 0);
}

TEST_CASE("threads count every connection, in its second or the next") {
  constexpr std::uint32_t kThreads = 4;
  constexpr std::uint32_t kInASecond = 4000;
  AcceptRate rate({.soft = 10, .hard = 0});
  std::vector<std::thread> threads;
  std::atomic<std::uint32_t> clock = 0;
  std::atomic<std::uint64_t> told = 0;
  for (std::uint32_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([&] {
      for (std::uint32_t now; (now = clock++) < 40 * kInASecond;) {
        const Pace pace = rate.accept(at(now * std::chrono::nanoseconds(1s) / kInASecond));
        if (pace == Pace::kSoftLimit) ++told;
      }
    });
  }
  for (auto& thread : threads) thread.join();
  CHECK(told == 40);
  CHECK(rate.soft_limit_seconds() == 40);
  // Of each thread but one a connection of the second before may be late.
  CHECK(rate.peak(at(40s)) >= kInASecond);
  CHECK(rate.peak(at(40s)) < kInASecond + kThreads);
}
