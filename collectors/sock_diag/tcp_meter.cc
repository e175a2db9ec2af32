#include "collectors/sock_diag/tcp_meter.h"

#include <algorithm>

namespace tcpvitals {
namespace {

constexpr std::uint32_t kNews = 2;  // bytes acknowledged: one may be a SYN or a FIN

TcpCounters payload_counters(const TcpInfo& info, std::uint64_t fin_bytes) {
  TcpCounters counters = read_counters(info);
  counters.received_bytes = info.bytes_received - std::min(fin_bytes, info.bytes_received);
  return counters;
}

// How many of the segments retransmitted between two looks had data, at most.
std::uint32_t data_repeats(const TcpCounters& before, const TcpCounters& now) {
  const std::uint64_t repeated_bytes = now.retransmitted_bytes - before.retransmitted_bytes;
  if (repeated_bytes == 0) return 0;
  const bool new_bytes = now.sent_bytes - before.sent_bytes > repeated_bytes;
  const std::uint32_t segments = now.data_segments_sent - before.data_segments_sent;
  const std::uint32_t repeats = now.retransmitted_segments - before.retransmitted_segments;
  return std::min(repeats, segments - (new_bytes && segments > 0 ? 1 : 0));
}

}  // namespace

FinAcknowledged fin_acknowledged(const TcpInfoSample& sample, bool outbound) {
  if (!TCPVITALS_HAS(sample, bytes_retransmitted)) return FinAcknowledged::kNotTold;
  const TcpInfo& info = sample.info;
  const std::uint64_t syn = outbound ? 1 : 0;
  const bool all = info.bytes_acked == info.bytes_sent - info.bytes_retransmitted + syn + 1;
  return all ? FinAcknowledged::kYes : FinAcknowledged::kNo;
}

void TcpMeter::start(const TcpInfo& info, TcpState now) {
  state = now;
  static_cast<TcpCounters&>(*this) = payload_counters(info, fin_received(now) ? 1 : 0);
  acked_bytes = static_cast<std::uint32_t>(info.bytes_acked);
}

void TcpMeter::count(const TcpInfo& info, std::uint64_t fin_bytes, TcpTotals& totals) {
  const TcpCounters now = payload_counters(info, fin_bytes);
  // Most connections have done nothing since the last dump.
  if (now == *this) return;
  const std::uint32_t repeats = now.retransmitted_segments - retransmitted_segments;
  if (repeats != 0) totals.retransmitted_syns += repeats - data_repeats(*this, now);
  advance(*this, now, totals);
}

void TcpMeter::look(const TcpInfoSample& sample, TcpState now, PathInterval interval,
                    TcpTotals& totals) {
  const TcpInfo& info = sample.info;
  state = now;
  const bool fin = peer_fin || fin_received(now);
  const bool came = info.bytes_received != received_bytes + (byte_held ? 1 : 0);
  // Of a socket that a reset closed since nothing tells whether the last byte was a FIN.
  byte_held = !fin && (came || (byte_held && now == TcpState::kClose));
  count(info, fin || byte_held ? 1 : 0, totals);
  const std::uint32_t acked = static_cast<std::uint32_t>(info.bytes_acked) - acked_bytes;
  if (acked < kNews || info.rtt_us == 0 || (rtt_observed && interval == observed_in)) return;
  observed_in = interval;
  const bool fin_sent = now != TcpState::kEstablished && now != TcpState::kCloseWait;
  const FinAcknowledged acknowledged = fin_acknowledged(sample, outbound);
  observe_path(info,
               acknowledged == FinAcknowledged::kNo ||
                   (acknowledged == FinAcknowledged::kNotTold && !fin_sent),
               totals);
}

// The FIN is a segment like any other: once it is acknowledged the delivery rate is its own, one
// segment in a round trip, and the flag is no longer that of the data.
void TcpMeter::observe_path(const TcpInfo& info, bool of_data, TcpTotals& totals) {
  totals.rtt.observe(info.rtt_us);
  rtt_observed = true;
  acked_bytes = static_cast<std::uint32_t>(info.bytes_acked);
  const bool limited_by_application = (info.delivery_rate_flags & 1) != 0;
  if (of_data && info.delivery_rate > 0 && !limited_by_application) {
    totals.delivery_rate.observe(info.delivery_rate);
  }
}

void TcpMeter::finish(const TcpInfoSample& sample, TcpTotals& totals) {
  const TcpInfo& info = sample.info;
  const FinAcknowledged acknowledged = fin_acknowledged(sample, outbound);
  // An event says no more of the state than that it is CLOSE.
  const auto last = static_cast<TcpState>(info.state);
  const bool open =
      last == TcpState::kEstablished || last == TcpState::kFinWait1 || last == TcpState::kFinWait2;
  const bool fin = peer_fin || fin_received(state) || fin_received(last) ||
                   (!open && acknowledged != FinAcknowledged::kNo);
  count(info, fin ? 1 : 0, totals);
  const std::uint32_t acked = static_cast<std::uint32_t>(info.bytes_acked) - acked_bytes;
  if (info.rtt_us != 0 && (acked >= kNews || !rtt_observed)) {
    observe_path(info, acknowledged == FinAcknowledged::kNo, totals);
  }
  if (info.min_rtt_us != kNoRtt) totals.min_rtt.observe(info.min_rtt_us);
}

}  // namespace tcpvitals
