// SearchRequest: which connections one wants to see one by one, and FoundConnection: all that
// the kernel tells of one, the labels of its group with it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "collectors/sock_diag/inet_diag.h"
#include "collectors/sock_diag/socket_detail.h"

namespace tcpvitals {

struct SearchRequest {
  enum class Sort : std::uint8_t { kRetransmits, kRtt, kBytes, kSendQueue, kAge };
  static constexpr std::size_t kMaxTop = 1000;

  Sort sort = Sort::kRetransmits;  // the highest first
  std::size_t top = 20;            // at most kMaxTop

  // Of those that match all that is given; the texts are label values.
  std::optional<std::string> direction;
  std::optional<std::string> port;
  std::optional<std::string> peer;
  std::optional<TcpState> state;
};

struct FoundConnection {
  SocketDetail socket;
  std::string direction;
  std::string port;
  std::string peer;
  std::string cgroup;  // empty: not grouped by it; so is netns
  std::string netns;
  std::optional<double> age_seconds;  // since the tracker saw it first; absent: it was there before
};

struct SearchResult {
  std::vector<FoundConnection> connections;  // sorted, at most `top`
  std::size_t matched = 0;                   // of how many
};

}  // namespace tcpvitals
