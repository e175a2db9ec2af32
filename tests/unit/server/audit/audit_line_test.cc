#include "server/audit/audit_line.h"

#include <doctest/doctest.h>

#include <array>
#include <cerrno>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

using namespace tcpvitals;
using namespace std::chrono_literals;

namespace {

using Json = nlohmann::ordered_json;

const WallTime kTime{1795424132s + 123456us};

template <typename Record>
std::string line_of(const Record& record, WallTime time = kTime) {
  std::array<char, kMaxAuditLine> out;
  return {out.data(), format_audit_line(record, time, out)};
}

Endpoint at(const char* text) { return *parse_endpoint(text); }

std::string listener_in(std::string_view listener) {
  AuditDeny deny{.listener = listener, .peer = at("192.0.2.1:1"), .why = "access"};
  return Json::parse(line_of(deny))["listener"];
}

}  // namespace

TEST_CASE("an audit line has its keys in a fixed order") {
  const AuditOpen open{.id = 7,
                       .listener = "echo",
                       .peer = at("198.51.100.7:40000"),
                       .local = at("[2001:db8::1]:443"),
                       .via = at("10.0.0.5:51000"),
                       .tls = true};
  CHECK(line_of(open) ==
        R"({"schema":1,"ts":"2026-11-23T08:55:32.123456Z","event":"open","id":7,"listener":"echo",)"
        R"("peer":"198.51.100.7:40000","local":"[2001:db8::1]:443","via":"10.0.0.5:51000",)"
        R"("tls":true,"probe":false})"
        "\n");
  const AuditClose close{.id = 7,
                         .listener = "echo",
                         .peer = at("198.51.100.7:40000"),
                         .probe = true,
                         .cause = "peer_rst",
                         .duration = 1042us,
                         .received_bytes = 64,
                         .sent_bytes = 65,
                         .data_segments_sent = 2,
                         .retransmitted_segments = 1,
                         .rtt_us = 80,
                         .min_rtt_us = 61,
                         .tls_version = "TLSv1.3",
                         .tls_cipher = "TLS_AES_256_GCM_SHA384",
                         .tls_subject = "CN=client",
                         .error = ECONNRESET};
  CHECK(line_of(close) ==
        R"({"schema":1,"ts":"2026-11-23T08:55:32.123456Z","event":"close","id":7,)"
        R"("listener":"echo","peer":"198.51.100.7:40000","probe":true,"cause":"peer_rst",)"
        R"("duration_us":1042,"received_bytes":64,"sent_bytes":65,"data_segments_sent":2,)"
        R"("retransmitted_segments":1,"rtt_us":80,"min_rtt_us":61,"tls_version":"TLSv1.3",)"
        R"("tls_cipher":"TLS_AES_256_GCM_SHA384","tls_subject":"CN=client","errno":"ECONNRESET"})"
        "\n");
  const AuditDeny deny{.listener = "echo",
                       .peer = at("198.51.100.7:40000"),
                       .via = at("10.0.0.5:51000"),
                       .why = "peer_rate"};
  CHECK(line_of(deny) ==
        R"({"schema":1,"ts":"2026-11-23T08:55:32.123456Z","event":"deny","listener":"echo",)"
        R"("peer":"198.51.100.7:40000","via":"10.0.0.5:51000","why":"peer_rate"})"
        "\n");
  CHECK(line_of(AuditGap{2, 3, 4}) ==
        R"({"schema":1,"ts":"2026-11-23T08:55:32.123456Z","event":"gap","lost":9,"opens":2,)"
        R"("closes":3,"denies":4})"
        "\n");
}

TEST_CASE("what an audit line does not know has no key") {
  const std::string line = line_of(AuditClose{.id = 1, .listener = "echo", .cause = "shutdown"});
  for (const char* key : {"received_bytes", "sent_bytes", "data_segments_sent", "rtt_us",
                          "retransmitted_segments", "tls_version", "tls_cipher", "errno"}) {
    CAPTURE(key);
    CHECK_FALSE(Json::parse(line).contains(key));
  }
  CHECK_FALSE(Json::parse(line_of(AuditOpen{})).contains("via"));
  CHECK(Json::parse(line_of(AuditClose{.rtt_us = 0}))["rtt_us"] == 0);
  CHECK(Json::parse(line_of(AuditClose{.error = 4095}))["errno"] == "unknown");
}

TEST_CASE("an audit line's time is UTC, to the microsecond") {
  struct Row {
    WallTime time;
    const char* text;
  };
  for (const Row& row : {Row{WallTime{}, "1970-01-01T00:00:00.000000Z"},
                         Row{WallTime{951782399s + 999999us}, "2000-02-28T23:59:59.999999Z"},
                         Row{WallTime{951782400s}, "2000-02-29T00:00:00.000000Z"},
                         Row{WallTime{4107542399s + 1us}, "2100-02-28T23:59:59.000001Z"},
                         Row{WallTime{4107542400s}, "2100-03-01T00:00:00.000000Z"}}) {
    CHECK(Json::parse(line_of(AuditGap{}, row.time))["ts"] == row.text);
  }
}

TEST_CASE("a text in an audit line comes back as it was, and one line stays one line") {
  for (const std::string& text : {std::string("plain"), std::string("\"quoted\" \\ back"),
                                  std::string("\0\x01\n\r\t\x1f\x7f", 7),
                                  std::string("Grüße, 日本語, 𝄞"), std::string("\u2028\u0085")}) {
    CHECK(listener_in(text) == text);
    const std::string line = line_of(AuditDeny{.listener = text});
    CHECK(line.find('\n') == line.size() - 1);
    CHECK(line.find('\x7f') == std::string::npos);
  }
  CHECK(listener_in("a\xff\xc0\xaf z\xed\xa0\x80") == "a\uFFFD\uFFFD\uFFFD z\uFFFD\uFFFD\uFFFD");
  CHECK(listener_in("\xe2\x82") == "\uFFFD\uFFFD");
}

TEST_CASE("a text too long for an audit line is cut after a whole character") {
  CHECK(listener_in(std::string(129, 'x')) == std::string(128, 'x'));
  CHECK(listener_in(std::string(127, 'x') + "é") == std::string(127, 'x'));
  CHECK(listener_in(std::string(127, 'x') + "\"") == std::string(127, 'x'));
  CHECK(listener_in(std::string(1000, '\n')) == std::string(128 / 6, '\n'));
}

TEST_CASE("the longest audit line fits") {
  const std::string text(1000, '\n');
  const Endpoint end{*parse_ip_address("fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"), 65535};
  constexpr std::uint64_t kMost = std::numeric_limits<std::uint64_t>::max();
  const std::string close =
      line_of(AuditClose{kMost, text, end, false, text, Clock::duration::max(), kMost, kMost, kMost,
                         kMost, kMost, kMost, text, text, text, EHWPOISON});
  CHECK(close.size() < kMaxAuditLine);
  CHECK(Json::parse(close)["tls_subject"] == std::string(512 / 6, '\n'));
  CHECK(line_of(AuditOpen{kMost, text, end, end, end, true, true}).size() < kMaxAuditLine);
  CHECK(line_of(AuditDeny{text, end, end, text}).size() < kMaxAuditLine);
  CHECK(line_of(AuditGap{kMost, kMost, kMost}).size() < kMaxAuditLine);
}
