#include "collectors/sock_diag/socket_detail.h"

#include <linux/inet_diag.h>
#include <linux/netlink.h>

#include <cstring>

namespace tcpvitals {
namespace {

using Bytes = std::span<const std::byte>;

constexpr double kGainUnit = 256;    // of BBR
constexpr double kAlphaUnit = 1024;  // of DCTCP

// Calls use(type, value) for each attribute, until one that does not add up.
template <typename Use>
void for_each_attribute(Bytes attributes, Use use) {
  while (attributes.size() >= sizeof(nlattr)) {
    nlattr header;
    std::memcpy(&header, attributes.data(), sizeof header);
    if (header.nla_len < sizeof header || header.nla_len > attributes.size()) return;
    use(header.nla_type & NLA_TYPE_MASK,
        attributes.subspan(sizeof header, header.nla_len - sizeof header));
    attributes =
        attributes.subspan(std::min<std::size_t>(NLA_ALIGN(header.nla_len), attributes.size()));
  }
}

template <typename T>
std::optional<T> exactly(Bytes value) {
  if (value.size() != sizeof(T)) return std::nullopt;
  T read;
  std::memcpy(&read, value.data(), sizeof read);
  return read;
}

// The kernel's strings end with a zero, or with the attribute.
std::string text(Bytes value) {
  const auto* chars = reinterpret_cast<const char*>(value.data());
  return {chars, ::strnlen(chars, value.size())};
}

SocketDetail::Timer timer_of(std::uint8_t kernel) {
  using Timer = SocketDetail::Timer;
  switch (kernel) {
    case 1:
      return Timer::kRetransmit;
    case 2:
      return Timer::kKeepalive;
    case 3:
      return Timer::kTimeWait;
    case 4:
      return Timer::kZeroWindowProbe;
    default:
      return Timer::kOff;
  }
}

// Kernels before 4.10 leave the last number out; then the whole is absent.
static_assert(sizeof(SocketDetail::Memory) == 9 * sizeof(std::uint32_t));

std::optional<SocketDetail::Bbr> bbr_of(Bytes value) {
  const auto bbr = exactly<tcp_bbr_info>(value);
  if (!bbr) return std::nullopt;
  return SocketDetail::Bbr{
      .bandwidth = std::uint64_t{bbr->bbr_bw_hi} << 32 | bbr->bbr_bw_lo,
      .min_rtt_us = bbr->bbr_min_rtt,
      .pacing_gain = bbr->bbr_pacing_gain / kGainUnit,
      .cwnd_gain = bbr->bbr_cwnd_gain / kGainUnit,
  };
}

std::optional<SocketDetail::Dctcp> dctcp_of(Bytes value) {
  const auto dctcp = exactly<tcp_dctcp_info>(value);
  if (!dctcp || dctcp->dctcp_enabled == 0) return std::nullopt;
  return SocketDetail::Dctcp{.ce_state = dctcp->dctcp_ce_state,
                             .alpha = dctcp->dctcp_alpha / kAlphaUnit,
                             .ecn_bytes = dctcp->dctcp_ab_ecn,
                             .total_bytes = dctcp->dctcp_ab_tot};
}

std::optional<std::string> upper_protocol_of(Bytes value) {
  std::optional<std::string> name;
  for_each_attribute(value, [&](unsigned type, Bytes inner) {
    if (type == INET_ULP_INFO_NAME) name = text(inner);
  });
  return name;
}

void read_attribute(unsigned type, Bytes value, SocketDetail& detail) {
  switch (type) {
    case INET_DIAG_INFO:
      detail.info = read_tcp_info(value.data(), value.size());
      break;
    case INET_DIAG_CONG:
      detail.congestion_control = text(value);
      break;
    case INET_DIAG_BBRINFO:
      detail.bbr = bbr_of(value);
      break;
    case INET_DIAG_DCTCPINFO:
      detail.dctcp = dctcp_of(value);
      break;
    case INET_DIAG_TOS:
      detail.tos = exactly<std::uint8_t>(value);
      break;
    case INET_DIAG_TCLASS:
      detail.traffic_class = exactly<std::uint8_t>(value);
      break;
    case INET_DIAG_SKMEMINFO:
      detail.memory = exactly<SocketDetail::Memory>(value);
      break;
    case INET_DIAG_SHUTDOWN:
      detail.shutdown = exactly<std::uint8_t>(value);
      break;
    case INET_DIAG_SKV6ONLY:
      if (const auto only = exactly<std::uint8_t>(value)) detail.v6only = *only != 0;
      break;
    case INET_DIAG_MARK:
      detail.mark = exactly<std::uint32_t>(value);
      break;
    case INET_DIAG_CLASS_ID:
      detail.class_id = exactly<std::uint32_t>(value);
      break;
    case INET_DIAG_CGROUP_ID:
      detail.cgroup_id = exactly<std::uint64_t>(value);
      break;
    case INET_DIAG_ULP_INFO:
      detail.upper_protocol = upper_protocol_of(value);
      break;
    default:
      break;
  }
}

}  // namespace

SocketDetail read_detail(const SocketRow& row) {
  SocketDetail detail;
  inet_diag_msg message{};
  if (row.message.size() < sizeof message) return detail;
  std::memcpy(&message, row.message.data(), sizeof message);
  detail.cookie = row.cookie;
  detail.state = row.state;
  detail.local = {row.local_address(), row.local_port};
  detail.remote = {row.remote_address(), row.remote_port};
  detail.receive_queue_bytes = row.receive_queue;
  detail.send_queue_bytes = row.send_queue;
  detail.uid = message.idiag_uid;
  detail.inode = message.idiag_inode;
  detail.timer = timer_of(message.idiag_timer);
  detail.timer_expires = std::chrono::milliseconds(message.idiag_expires);
  detail.timer_retransmits = message.idiag_retrans;
  detail.interface = message.id.idiag_if;
  for_each_attribute(row.message.subspan(sizeof message),
                     [&](unsigned type, Bytes value) { read_attribute(type, value, detail); });
  return detail;
}

}  // namespace tcpvitals
