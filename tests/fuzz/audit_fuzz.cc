// Any text, as every text of an audit line: one line that is JSON, and that gives the text back if
// it is UTF-8 and short enough.
#include <array>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <string>

#include "base/utf8.h"
#include "server/audit/audit_line.h"

using namespace tcpvitals;

namespace {

void require(bool holds) {
  if (!holds) std::abort();
}

// What is not UTF-8 comes back as U+FFFD, a byte each.
std::string expected(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const std::size_t length = utf8_length(text);
    out += length == 0 ? "\uFFFD" : text.substr(0, length);
    text.remove_prefix(length == 0 ? 1 : length);
  }
  return out;
}

template <typename Record>
nlohmann::json check(const Record& record) {
  std::array<char, kMaxAuditLine> out;
  const std::size_t size = format_audit_line(record, WallTime{}, out);
  const std::string_view line(out.data(), size);
  require(size < kMaxAuditLine && line.find('\n') == size - 1);
  require(line.find('\x7f') == std::string_view::npos);
  auto json = nlohmann::json::parse(line, nullptr, false);
  require(json.is_object());
  return json;
}

void check_text(const std::string& got, std::string_view text, std::size_t always_kept) {
  const std::string whole = expected(text);
  require(whole.starts_with(got));
  if (text.size() <= always_kept) require(got == whole);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  check(AuditOpen{.listener = text});
  check(AuditDeny{.listener = text, .why = text});
  const auto json = check(AuditClose{.listener = text,
                                     .cause = text,
                                     .tls_version = text,
                                     .tls_cipher = text,
                                     .tls_subject = text,
                                     .error = static_cast<int>(size)});
  check_text(json["listener"], text, 128 / 6);
  if (!text.empty()) check_text(json["tls_subject"], text, 512 / 6);
  return 0;
}
