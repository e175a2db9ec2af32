#include "collectors/connections/namespace_activity.h"

#include <charconv>
#include <numeric>
#include <string_view>

namespace tcpvitals {
namespace {

constexpr auto kOldest = std::chrono::minutes(5);

// The last line that begins so; empty: there is none.
std::string_view last_line(std::string_view text, std::string_view beginning) {
  std::string_view last;
  while (!text.empty()) {
    const auto end = text.find('\n');
    const std::string_view line = text.substr(0, end);
    if (line.starts_with(beginning)) last = line;
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
  }
  return last;
}

// "TCP: inuse 3 orphan 0 tw 1": the number after a name.
std::optional<std::uint64_t> number_after(std::string_view line, std::string_view name) {
  const auto at = line.find(std::string(" ").append(name).append(" "));
  if (at == std::string_view::npos) return std::nullopt;
  line.remove_prefix(at + name.size() + 2);
  std::uint64_t number = 0;
  const auto [end, code] = std::from_chars(line.data(), line.data() + line.size(), number);
  return code == std::errc() ? std::optional(number) : std::nullopt;
}

}  // namespace

std::optional<NamespaceActivity> read_activity(const KernelSource& files) {
  const auto snmp = files.read("net/snmp");
  const auto sockstat = files.read("net/sockstat");
  if (!snmp || !sockstat) return std::nullopt;
  const std::string_view counters = last_line(*snmp, "Tcp: ");
  const std::string_view sockets = last_line(*sockstat, "TCP: ");
  const auto in_use = number_after(sockets, "inuse");
  const auto time_wait = number_after(sockets, "tw");
  if (counters.empty() || !in_use || !time_wait) return std::nullopt;
  NamespaceActivity activity{std::string(counters), *in_use, *time_wait};
  const auto sockstat6 = files.read("net/sockstat6");
  if (!sockstat6) {
    if (!sockstat6.error().is_absent()) return std::nullopt;
    return activity;  // no IPv6
  }
  const auto in_use6 = number_after(last_line(*sockstat6, "TCP6: "), "inuse");
  if (!in_use6) return std::nullopt;
  activity.in_use += *in_use6;
  return activity;
}

bool is_settled(const std::array<std::uint32_t, kTcpStates>& states, std::uint64_t queued_bytes,
                std::size_t tracked) {
  const auto in = [&](TcpState state) { return states[static_cast<std::size_t>(state)]; };
  const auto all = std::accumulate(states.begin(), states.end(), std::size_t{0});
  return queued_bytes == 0 && in(TcpState::kCloseWait) == 0 && in(TcpState::kSynReceived) == 0 &&
         in(TcpState::kTimeWait) == 0 && all - in(TcpState::kListen) == tracked;
}

DumpNeed dump_need(const LastDump& last, const std::optional<NamespaceActivity>& activity,
                   TimePoint now, bool everything) {
  if (!activity) return DumpNeed::kFull;
  if (activity->in_use == 0 && activity->time_wait == 0) return DumpNeed::kEmpty;
  if (everything || !last.settled || activity != last.activity) return DumpNeed::kFull;
  return now - last.end > kOldest ? DumpNeed::kRenewal : DumpNeed::kNone;
}

}  // namespace tcpvitals
