#include "server/audit/audit_line.h"

#include <arpa/inet.h>

#include <charconv>
#include <cstring>

#include "base/utf8.h"

namespace tcpvitals {
namespace {

constexpr std::size_t kMaxText = 128;
constexpr std::size_t kMaxSubject = 512;

bool is_plain(char c) { return c >= 0x20 && c < 0x7f && c != '"' && c != '\\'; }

// Appends members to one JSON object. The bounds of texts keep it within kMaxAuditLine: five of
// kMaxText and a subject beside all numbers at their longest are some 1,800 bytes.
class LineWriter {
 public:
  LineWriter(std::string_view event, WallTime time, AuditLine out)
      : begin_(out.data()), at_(out.data()) {
    put(R"({"schema":1,"ts":")");
    put_time(time);
    put(R"(","event":")");
    put(event);
    put("\"");
  }

  void number(std::string_view key, std::uint64_t value) {
    put_key(key);
    put_number(value);
  }
  void number(std::string_view key, std::optional<std::uint64_t> value) {
    if (value) number(key, *value);
  }

  void flag(std::string_view key, bool value) {
    put_key(key);
    put(value ? "true" : "false");
  }

  void text(std::string_view key, std::string_view value, std::size_t max = kMaxText) {
    put_key(key);
    put("\"");
    put_escaped(value, max);
    put("\"");
  }
  void known_text(std::string_view key, std::string_view value, std::size_t max = kMaxText) {
    if (!value.empty()) text(key, value, max);
  }

  void endpoint(std::string_view key, const Endpoint& value) {
    put_key(key);
    put("\"");
    put_address(value.address);
    put(":");
    put_number(value.port);
    put("\"");
  }

  std::size_t finish() {
    put("}\n");
    return static_cast<std::size_t>(at_ - begin_);
  }

 private:
  void put(std::string_view text) {
    std::memcpy(at_, text.data(), text.size());
    at_ += text.size();
  }

  void put_number(std::uint64_t value) { at_ = std::to_chars(at_, at_ + 20, value).ptr; }

  void put_digits(unsigned value, int digits) {
    for (int i = digits; i-- > 0; value /= 10) at_[i] = static_cast<char>('0' + value % 10);
    at_ += digits;
  }

  void put_key(std::string_view key) {
    put(",\"");
    put(key);
    put("\":");
  }

  void put_time(WallTime time) {
    using namespace std::chrono;
    const auto day = floor<days>(time);
    const year_month_day date(day);
    const hh_mm_ss clock(floor<microseconds>(time - day));
    put_digits(static_cast<unsigned>(int{date.year()}), 4);
    put("-");
    put_digits(unsigned{date.month()}, 2);
    put("-");
    put_digits(unsigned{date.day()}, 2);
    put("T");
    put_digits(static_cast<unsigned>(clock.hours().count()), 2);
    put(":");
    put_digits(static_cast<unsigned>(clock.minutes().count()), 2);
    put(":");
    put_digits(static_cast<unsigned>(clock.seconds().count()), 2);
    put(".");
    put_digits(static_cast<unsigned>(clock.subseconds().count()), 6);
    put("Z");
  }

  void put_address(const IpAddress& address) {
    if (address.is_v4()) {  // inet_ntop takes as long as the rest of the line
      for (std::size_t i = 12; i < 16; ++i) {
        if (i > 12) put(".");
        put_number(address.bytes[i]);
      }
      return;
    }
    put("[");
    inet_ntop(AF_INET6, address.bytes.data(), at_, INET6_ADDRSTRLEN);
    at_ += std::strlen(at_);
    put("]");
  }

  void put_escaped(std::string_view text, std::size_t max) {
    const char* const end = at_ + max;
    while (!text.empty()) {
      const char c = text.front();
      const std::size_t length = utf8_length(text);
      const bool as_it_is = length > 1 || is_plain(c);
      const bool short_escape = c == '"' || c == '\\';
      const std::size_t taken = length == 0 ? 1 : length;
      const std::size_t needed = as_it_is ? taken : short_escape ? 2 : 6;
      if (static_cast<std::size_t>(end - at_) < needed) return;
      if (as_it_is) {
        put(text.substr(0, taken));
      } else if (short_escape) {
        put("\\");
        put({&c, 1});
      } else if (length == 0) {
        put("\\ufffd");
      } else {
        constexpr char kHex[] = "0123456789abcdef";
        put("\\u00");
        put({&kHex[c >> 4], 1});
        put({&kHex[c & 0xf], 1});
      }
      text.remove_prefix(taken);
    }
  }

  char* const begin_;
  char* at_;
};

// ECONNRESET rather than its text: for programs, and the same in every language.
std::string_view errno_name(int error) {
  const char* const name = ::strerrorname_np(error);
  return name == nullptr ? "unknown" : name;
}

}  // namespace

std::size_t format_audit_line(const AuditOpen& open, WallTime time, AuditLine out) {
  LineWriter line("open", time, out);
  line.number("id", open.id);
  line.text("listener", open.listener);
  line.endpoint("peer", open.peer);
  line.endpoint("local", open.local);
  if (open.via) line.endpoint("via", *open.via);
  line.flag("tls", open.tls);
  line.flag("probe", open.probe);
  return line.finish();
}

std::size_t format_audit_line(const AuditClose& close, WallTime time, AuditLine out) {
  const auto duration = std::chrono::duration_cast<std::chrono::microseconds>(close.duration);
  LineWriter line("close", time, out);
  line.number("id", close.id);
  line.text("listener", close.listener);
  line.endpoint("peer", close.peer);
  line.flag("probe", close.probe);
  line.text("cause", close.cause);
  line.number("duration_us", static_cast<std::uint64_t>(duration.count()));
  line.number("received_bytes", close.received_bytes);
  line.number("sent_bytes", close.sent_bytes);
  line.number("data_segments_sent", close.data_segments_sent);
  line.number("retransmitted_segments", close.retransmitted_segments);
  line.number("rtt_us", close.rtt_us);
  line.number("min_rtt_us", close.min_rtt_us);
  line.known_text("tls_version", close.tls_version);
  line.known_text("tls_cipher", close.tls_cipher);
  line.known_text("tls_subject", close.tls_subject, kMaxSubject);
  if (close.error != 0) line.text("errno", errno_name(close.error));
  return line.finish();
}

std::size_t format_audit_line(const AuditDeny& deny, WallTime time, AuditLine out) {
  LineWriter line("deny", time, out);
  line.text("listener", deny.listener);
  line.endpoint("peer", deny.peer);
  if (deny.via) line.endpoint("via", *deny.via);
  line.text("why", deny.why);
  return line.finish();
}

std::size_t format_audit_line(const AuditGap& gap, WallTime time, AuditLine out) {
  LineWriter line("gap", time, out);
  line.number("lost", gap.lost());
  line.number("opens", gap.opens);
  line.number("closes", gap.closes);
  line.number("denies", gap.denies);
  return line.finish();
}

}  // namespace tcpvitals
