#include "collectors/host/netstat.h"

#include <regex.h>

#include <algorithm>
#include <array>
#include <set>
#include <utility>

#include "collectors/host/proc_text.h"

namespace tcpvitals {
namespace {

constexpr std::array kTable = in_each_namespace(std::to_array<FieldMetric>({
    counter_row("tcp_host_listen_overflows_total", "/proc/net/netstat TcpExtListenOverflows",
                "Handshakes and connections dropped because the accept queue of a listener was "
                "full; compare with tcp_host_connections_opened_total."),
    counter_row("tcp_host_listen_drops_total", "/proc/net/netstat TcpExtListenDrops",
                "Handshakes and connections dropped by a listener for any reason, including a full "
                "accept queue; compare with tcp_host_connections_opened_total."),
    counter_row("tcp_host_syn_queue_drops_total", "/proc/net/netstat TcpExtTCPReqQFullDrop",
                "SYN segments dropped because the SYN queue of a listener was full and SYN cookies "
                "are off."),
    counter_row(
        "tcp_host_syn_queue_cookies_total", "/proc/net/netstat TcpExtTCPReqQFullDoCookies",
        "SYN segments answered with a SYN cookie because the SYN queue of a listener was full."),
    counter_row(
        "tcp_host_syncookies_sent_total", "/proc/net/netstat TcpExtSyncookiesSent",
        "SYN cookies sent; more than zero means that the SYN queue of a listener was full."),
    counter_row("tcp_host_syncookies_received_total", "/proc/net/netstat TcpExtSyncookiesRecv",
                "Handshakes that returned a valid SYN cookie; compare with "
                "tcp_host_syncookies_sent_total."),
    counter_row("tcp_host_syncookies_failed_total", "/proc/net/netstat TcpExtSyncookiesFailed",
                "Acknowledgements with an invalid SYN cookie; compare with "
                "tcp_host_syncookies_received_total."),
    counter_row("tcp_host_embryonic_resets_total", "/proc/net/netstat TcpExtEmbryonicRsts",
                "Half-open incoming connections that the peer reset."),
    counter_row(
        "tcp_host_syn_retransmits_total", "/proc/net/netstat TcpExtTCPSynRetrans",
        "SYN and SYN-ACK segments retransmitted; compare with tcp_host_connections_opened_total."),
    counter_row("tcp_host_timeouts_total", "/proc/net/netstat TcpExtTCPTimeouts",
                "Retransmission timers that expired, including those of SYN and SYN-ACK; compare "
                "with tcp_host_segments_retransmitted_total."),
    counter_row("tcp_host_spurious_timeouts_total", "/proc/net/netstat TcpExtTCPSpuriousRTOs",
                "Retransmission timeouts that turned out to be unnecessary; compare with "
                "tcp_host_timeouts_total."),
    counter_row("tcp_host_fast_retransmits_total", "/proc/net/netstat TcpExtTCPFastRetrans",
                "Segments retransmitted in fast recovery; compare with "
                "tcp_host_segments_retransmitted_total."),
    counter_row("tcp_host_slow_start_retransmits_total",
                "/proc/net/netstat TcpExtTCPSlowStartRetrans",
                "Segments retransmitted in slow start after a timeout; compare with "
                "tcp_host_segments_retransmitted_total."),
    counter_row("tcp_host_lost_retransmits_total", "/proc/net/netstat TcpExtTCPLostRetransmit",
                "Retransmitted segments that were lost again; compare with "
                "tcp_host_segments_retransmitted_total."),
    counter_row("tcp_host_retransmit_failures_total", "/proc/net/netstat TcpExtTCPRetransFail",
                "Retransmissions that this host could not send because a queue was full or memory "
                "was short."),
    counter_row("tcp_host_tail_loss_probes_total", "/proc/net/netstat TcpExtTCPLossProbes",
                "Tail loss probes sent because the last segments were not acknowledged in time."),
    counter_row("tcp_host_tail_loss_probe_recoveries_total",
                "/proc/net/netstat TcpExtTCPLossProbeRecovery",
                "Tail losses repaired by a probe; compare with tcp_host_tail_loss_probes_total."),
    counter_row("tcp_host_dsacks_received_total", "/proc/net/netstat TcpExtTCPDSACKRecv",
                "Acknowledgements received that reported a segment as received twice: an "
                "unnecessary retransmission, or a duplicate made by the network."),
    counter_row("tcp_host_dsack_segments_received_total",
                "/proc/net/netstat TcpExtTCPDSACKRecvSegs",
                "Segments that peers reported as received twice; compare with "
                "tcp_host_segments_retransmitted_total."),
    counter_row(
        "tcp_host_reordering_events_total",
        "/proc/net/netstat TcpExtTCPSACKReorder TcpExtTCPRenoReorder TcpExtTCPTSReorder",
        "Times that segments were found to be reordered by the network, by how it was detected.",
        {"by", {"sack", "reno", "timestamp"}}),
    counter_row("tcp_host_sack_renegings_total", "/proc/net/netstat TcpExtTCPSACKReneging",
                "Times that a peer discarded data it had already acknowledged selectively."),
    counter_row("tcp_host_data_segments_sent_total", "/proc/net/netstat TcpExtTCPOrigDataSent",
                "Data segments sent for the first time, without pure acknowledgements and "
                "retransmissions."),
    counter_row("tcp_host_data_segments_delivered_total", "/proc/net/netstat TcpExtTCPDelivered",
                "Data segments and SYN segments that peers acknowledged; compare with "
                "tcp_host_data_segments_sent_total."),
    counter_row("tcp_host_ce_marked_segments_total", "/proc/net/netstat TcpExtTCPDeliveredCE",
                "Delivered segments that the network marked with congestion experienced (CE); "
                "compare with tcp_host_data_segments_delivered_total."),
    counter_row("tcp_host_aborts_total",
                "/proc/net/netstat TcpExtTCPAbortOnData TcpExtTCPAbortOnClose "
                "TcpExtTCPAbortOnMemory TcpExtTCPAbortOnTimeout TcpExtTCPAbortOnLinger",
                "Connections aborted by this host, by reason: data (zero linger, or data arrived "
                "after close), unread (closed with unread data), memory (no memory, or too many "
                "orphans), timeout (no answer), linger (TCP_LINGER2 below zero).",
                {"reason", {"data", "unread", "memory", "timeout", "linger"}}),
    counter_row("tcp_host_abort_failures_total", "/proc/net/netstat TcpExtTCPAbortFailed",
                "Aborts whose RST could not be sent because memory was short; compare with "
                "tcp_host_aborts_total."),
    counter_row("tcp_host_time_wait_total", "/proc/net/netstat TcpExtTW",
                "Sockets that entered TIME_WAIT, or FIN_WAIT2 after their process closed them."),
    counter_row("tcp_host_time_wait_recycled_total", "/proc/net/netstat TcpExtTWRecycled",
                "TIME_WAIT sockets whose place a new outgoing connection took (tcp_tw_reuse)."),
    counter_row("tcp_host_time_wait_overflows_total", "/proc/net/netstat TcpExtTCPTimeWaitOverflow",
                "Connections closed without TIME_WAIT because tcp_max_tw_buckets was reached; "
                "compare with tcp_host_time_wait_limit."),
    counter_row("tcp_host_keepalive_probes_total", "/proc/net/netstat TcpExtTCPKeepAlive",
                "Keepalive probes sent."),
    counter_row("tcp_host_memory_pressures_total", "/proc/net/netstat TcpExtTCPMemoryPressures",
                "Times that TCP entered memory pressure; compare tcp_host_memory_bytes with "
                "tcp_host_memory_limit_bytes."),
    counter_row("tcp_host_memory_pressure_seconds_total",
                "/proc/net/netstat TcpExtTCPMemoryPressuresChrono",
                "Time that TCP spent under memory pressure, added when each period ends.", {},
                Unit::kMilliseconds),
    counter_row("tcp_host_receive_prunes_total", "/proc/net/netstat TcpExtPruneCalled",
                "Times that a receive queue was compacted because the receive buffer of its socket "
                "was full."),
    counter_row(
        "tcp_host_receive_pruned_total", "/proc/net/netstat TcpExtRcvPruned",
        "Segments dropped because the receive queue had no room even after it was compacted."),
    counter_row("tcp_host_out_of_order_pruned_total", "/proc/net/netstat TcpExtOfoPruned",
                "Times that out-of-order segments were discarded to free memory."),
    counter_row("tcp_host_out_of_order_queued_total", "/proc/net/netstat TcpExtTCPOFOQueue",
                "Segments that arrived out of order and were kept; compare with "
                "tcp_host_segments_received_total."),
    counter_row("tcp_host_out_of_order_drops_total", "/proc/net/netstat TcpExtTCPOFODrop",
                "Segments that arrived out of order and were dropped because memory was short."),
    counter_row(
        "tcp_host_receive_queue_drops_total", "/proc/net/netstat TcpExtTCPRcvQDrop",
        "Segments in order that were dropped because memory for the receive queue was short."),
    counter_row("tcp_host_backlog_drops_total", "/proc/net/netstat TcpExtTCPBacklogDrop",
                "Segments dropped because the backlog of a socket was full while its process was "
                "using the socket."),
    counter_row(
        "tcp_host_memory_reserve_drops_total", "/proc/net/netstat TcpExtPFMemallocDrop",
        "Packets dropped because they had been received into the emergency memory reserve."),
    counter_row("tcp_host_zero_windows_advertised_total",
                "/proc/net/netstat TcpExtTCPToZeroWindowAdv",
                "Times that this host advertised a receive window of zero because the application "
                "did not read fast enough."),
    counter_row("tcp_host_zero_window_drops_total", "/proc/net/netstat TcpExtTCPZeroWindowDrop",
                "Segments dropped because they arrived while the receive window was closed."),
    counter_row("tcp_host_window_probes_total", "/proc/net/netstat TcpExtTCPWinProbe",
                "Probes sent to peers whose receive window stayed zero."),
    counter_row("tcp_host_paws_rejects_total", "/proc/net/netstat TcpExtPAWSActive TcpExtPAWSEstab",
                "Segments rejected because of an old timestamp (PAWS), in the answer to a SYN "
                "(syn_sent) or on an established connection (established).",
                {"state", {"syn_sent", "established"}}),
    counter_row(
        "tcp_host_challenge_acks_total", "/proc/net/netstat TcpExtTCPChallengeACK",
        "Challenge acknowledgements sent in answer to a suspicious RST, SYN or acknowledgement."),
    counter_row("tcp_host_out_of_window_icmps_total", "/proc/net/netstat TcpExtOutOfWindowIcmps",
                "ICMP messages ignored because they quoted a segment outside the window."),
    counter_row("tcp_host_mtu_probe_failures_total", "/proc/net/netstat TcpExtTCPMTUPFail",
                "Path MTU probes that were lost; compare with tcp_host_mtu_probe_successes_total."),
    counter_row("tcp_host_mtu_probe_successes_total", "/proc/net/netstat TcpExtTCPMTUPSuccess",
                "Path MTU probes that arrived."),
    counter_row("tcp_host_path_rehashes_total",
                "/proc/net/netstat TcpExtTcpTimeoutRehash TcpExtTcpDuplicateDataRehash",
                "Times that a connection changed its flow hash to try another path, after a "
                "timeout or after receiving duplicate data.",
                {"reason", {"timeout", "duplicate_data"}}),
    counter_row("tcp_host_fastopen_connections_total",
                "/proc/net/netstat TcpExtTCPFastOpenActive TcpExtTCPFastOpenPassive",
                "Connections whose SYN carried data that was accepted, by the side of this host.",
                {"by", {"active", "passive"}}),
    counter_row("tcp_host_fastopen_failures_total",
                "/proc/net/netstat TcpExtTCPFastOpenActiveFail TcpExtTCPFastOpenPassiveFail",
                "Fast open attempts that failed, by the side of this host; compare with "
                "tcp_host_fastopen_connections_total.",
                {"by", {"active", "passive"}}),
    counter_row("tcp_host_fastopen_cookie_requests_total",
                "/proc/net/netstat TcpExtTCPFastOpenCookieReqd",
                "SYN segments received that asked for a fast open cookie."),
    counter_row("tcp_host_fastopen_listen_overflows_total",
                "/proc/net/netstat TcpExtTCPFastOpenListenOverflow",
                "Fast open attempts refused because too many were pending on the listener."),
    counter_row("tcp_host_fastopen_blackholes_total",
                "/proc/net/netstat TcpExtTCPFastOpenBlackhole",
                "Times that fast open was switched off for a while because a middlebox swallowed "
                "its segments."),
    counter_row("tcp_host_ipv4_ce_marked_packets_total", "/proc/net/netstat IpExtInCEPkts",
                "IPv4 packets of any protocol received with the congestion-experienced (CE) mark."),
}));

// Untyped: whether a field counts or measures, only the kernel's source says.
constexpr MetricDesc kOther{
    "tcp_host_netstat_value",
    MetricType::kUntyped,
    "A field of /proc/net/netstat chosen by --collector.netstat.fields, under its name in nstat.",
    {"field", kNetnsLabel},
    "/proc/net/netstat"};

constexpr auto kMetrics = [] {
  constexpr auto curated = descs_of(kTable);
  std::array<MetricDesc, curated.size() + 1> all;
  std::copy(curated.begin(), curated.end(), all.begin());
  all.back() = kOther;
  return all;
}();

// POSIX and not std::regex, which reports a bad expression by throwing.
class Regex {
 public:
  static Result<std::unique_ptr<Regex>> compile(const std::string& text) {
    auto regex = std::make_unique<Regex>();
    const int code = ::regcomp(&regex->compiled_, text.c_str(), REG_EXTENDED);
    if (code == 0) {
      regex->valid_ = true;
      return regex;
    }
    std::array<char, 128> reason{};
    ::regerror(code, &regex->compiled_, reason.data(), reason.size());
    return Error{"regular expression \"" + text + "\": " + reason.data()};
  }

  Regex() = default;
  Regex(const Regex&) = delete;
  Regex& operator=(const Regex&) = delete;
  ~Regex() {
    if (valid_) ::regfree(&compiled_);
  }

  // POSIX matches are the leftmost and then the longest, so one that covers the whole is always
  // found.
  bool matches_whole(const std::string& text) const {
    regmatch_t match{};
    return ::regexec(&compiled_, text.c_str(), 1, &match, 0) == 0 && match.rm_so == 0 &&
           static_cast<std::size_t>(match.rm_eo) == text.size();
  }

 private:
  regex_t compiled_{};
  bool valid_ = false;
};

std::set<std::string_view> fields_of_table() {
  std::set<std::string_view> fields;
  for (const FieldMetric& metric : kTable) {
    const auto words = split_words(metric.desc.source);
    fields.insert(words.begin() + 1, words.end());
  }
  return fields;
}

class NetstatCollector final : public Collector {
 public:
  NetstatCollector(const KernelSource& source, std::unique_ptr<Regex> others)
      : source_(source), others_(std::move(others)) {}

  std::string_view name() const override { return "netstat"; }
  std::span<const MetricDesc> metrics() const override { return kMetrics; }

  Result<void> collect(Sink& sink, TimePoint /*deadline*/) override {
    FileReader files(source_, sink);
    const auto namespaces = read_fields(files, "net/netstat", parse_netstat);
    emit_fields(files, namespaces, kTable, sink);
    for (const auto& [netns, fields] : namespaces) emit_others(fields, netns->label, sink);
    return files.outcome();
  }

 private:
  void emit_others(const Fields& fields, std::string_view netns, Sink& sink) const {
    if (others_ == nullptr) return;
    for (const auto& [field, value] : fields) {
      if (!curated_.contains(field) && others_->matches_whole(field)) {
        sink.add(kOther, {field, netns}, value);
      }
    }
  }

  const KernelSource& source_;
  const std::unique_ptr<Regex> others_;  // null: none wanted
  const std::set<std::string_view> curated_ = fields_of_table();
};

}  // namespace

Parsed<Fields> parse_netstat(std::string_view text) {
  constexpr std::string_view kSections[] = {"TcpExt", "IpExt"};
  return parse_sections(text, kSections);
}

Result<std::unique_ptr<Collector>> make_netstat_collector(const KernelSource& source,
                                                          const std::string& fields) {
  std::unique_ptr<Regex> others;
  if (!fields.empty()) {
    auto compiled = Regex::compile(fields);
    if (!compiled) return std::move(compiled.error());
    others = std::move(*compiled);
  }
  return std::unique_ptr<Collector>(std::make_unique<NetstatCollector>(source, std::move(others)));
}

}  // namespace tcpvitals
