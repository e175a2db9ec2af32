// The lines of the audit log: one JSON object each, its keys always in the same order.
//
//   {"schema":1,"ts":"2026-11-23T08:55:32.123456Z","event":"open","id":7,"listener":"echo",
//    "peer":"198.51.100.7:40000","local":"192.0.2.1:443","via":"10.0.0.5:51000","tls":true,"probe":false}
//   {"schema":1,"ts":"…","event":"close","id":7,"listener":"echo","peer":"…","probe":false,
//    "cause":"peer_fin","duration_us":1042,"received_bytes":64,"sent_bytes":64,
//    "data_segments_sent":1,"retransmitted_segments":0,"rtt_us":80,"min_rtt_us":61,
//    "tls_version":"TLSv1.3","tls_cipher":"…","tls_subject":"…","errno":"ECONNRESET"}
//   {"schema":1,"ts":"…","event":"deny","listener":"echo","peer":"…","via":"…","why":"access"}
//   {"schema":1,"ts":"…","event":"gap","lost":5,"opens":2,"closes":3,"denies":0}
//
// Here on several lines, there on one. What is not known has no key; other than that, keys are only
// ever added, and `schema` counts up if that should change. Lines are ASCII where the text in them
// is. Pure; any thread; no allocation.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "base/clock.h"
#include "base/ip.h"

namespace tcpvitals {

struct AuditOpen {
  std::uint64_t id = 0;  // of the connection, see Stream::id(): its close has the same
  std::string_view listener;
  Endpoint peer;                // the client
  Endpoint local;               // what it connected to
  std::optional<Endpoint> via;  // the trusted proxy that said so
  bool tls = false;
  bool probe = false;  // a health check
};

struct AuditClose {
  std::uint64_t id = 0;
  std::string_view listener;
  Endpoint peer;
  bool probe = false;
  std::string_view cause;
  Clock::duration duration{};
  std::optional<std::uint64_t> received_bytes;
  std::optional<std::uint64_t> sent_bytes;
  std::optional<std::uint64_t> data_segments_sent;      // retransmissions included
  std::optional<std::uint64_t> retransmitted_segments;  // over the whole connection
  std::optional<std::uint64_t> rtt_us;
  std::optional<std::uint64_t> min_rtt_us;
  std::string_view tls_version;  // empty: not TLS, as the next two
  std::string_view tls_cipher;
  std::string_view tls_subject;  // of the client's certificate
  int error = 0;                 // errno; 0: none
};

// A connection that was turned away.
struct AuditDeny {
  std::string_view listener;
  Endpoint peer;
  std::optional<Endpoint> via;
  std::string_view why;
};

// Where lines are missing, and how many of each kind.
struct AuditGap {
  std::uint64_t opens = 0;
  std::uint64_t closes = 0;
  std::uint64_t denies = 0;

  std::uint64_t lost() const { return opens + closes + denies; }
};

inline constexpr std::size_t kMaxAuditLine = 2048;

using WallTime = std::chrono::system_clock::time_point;
using AuditLine = std::span<char, kMaxAuditLine>;

// Writes the line with its newline; its size. Control characters, quotes and backslashes are
// escaped; bytes that are not UTF-8 become U+FFFD. A text that takes over 128 bytes so (the
// subject: 512) is cut after a whole character.
std::size_t format_audit_line(const AuditOpen& open, WallTime time, AuditLine out);
std::size_t format_audit_line(const AuditClose& close, WallTime time, AuditLine out);
std::size_t format_audit_line(const AuditDeny& deny, WallTime time, AuditLine out);
std::size_t format_audit_line(const AuditGap& gap, WallTime time, AuditLine out);

}  // namespace tcpvitals
