#include "collectors/sock_diag/tcp_counters.h"

#include <concepts>

namespace tcpvitals {
namespace {

void advance_one(PackedU64& before, const PackedU64& now, std::uint64_t& total) {
  if (now <= before) return;
  total += now - before;
  before = now;
}

// The unsigned difference is right across a wrap, whatever the width.
template <std::unsigned_integral T>
void advance_one(T& before, T now, std::uint64_t& total) {
  total += static_cast<T>(now - before);
  before = now;
}

}  // namespace

TcpTotals& TcpTotals::operator+=(const TcpTotals& other) {
#define X(member, kernel, total, ...) total += other.total;
  TCPVITALS_TCP_COUNTERS(X, )
#undef X
  retransmitted_syns += other.retransmitted_syns;
  rtt += other.rtt;
  min_rtt += other.min_rtt;
  delivery_rate += other.delivery_rate;
  return *this;
}

void advance(TcpCounters& before, const TcpCounters& now, TcpTotals& totals) {
#define X(member, kernel, total, ...) advance_one(before.total, now.total, totals.total);
  TCPVITALS_TCP_COUNTERS(X, )
#undef X
}

}  // namespace tcpvitals
