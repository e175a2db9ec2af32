#include "collectors/host/proc_tcp.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <charconv>
#include <cstring>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "collectors/host/proc_text.h"

namespace tcpvitals {
namespace {

using enum MetricType;

constexpr std::array kMetrics{
    MetricDesc{
        "tcp_host_connections",
        kGauge,
        "Sockets by state, as /proc/net/tcp and tcp6 list them where sock_diag is not there; "
        "excludes do not apply.",
        {"state", "netns"},
        "/proc/net/tcp /proc/net/tcp6 st"},
    MetricDesc{"tcp_listener_queue_length",
               kGauge,
               "Connections that are established and wait for accept, of the fullest socket of the "
               "address and port; its limit is not in /proc/net/tcp.",
               {"port", "address", "netns"},
               "/proc/net/tcp /proc/net/tcp6 rx_queue"},
    MetricDesc{"tcpvitals_sample_age_seconds",
               kGauge,
               "Time since /proc/net/tcp and tcp6 were last read: the age of every gauge that is "
               "taken from them.",
               {"netns"}},
    MetricDesc{
        "tcpvitals_feature_available",
        kGauge,
        "0: the kernel has no sock_diag for TCP, so only states and accept queues are known, "
        "from /proc/net/tcp and tcp6.",
        {"feature"}},
};
constexpr auto& kStates = kMetrics[0];
constexpr auto& kQueue = kMetrics[1];
constexpr auto& kAge = kMetrics[2];
constexpr auto& kFeature = kMetrics[3];

constexpr std::size_t kMaxLine = 512;  // the kernel's have 150
constexpr std::size_t kMaxEndpoints = 65'536;
constexpr std::size_t kMaxListeners = 256;  // shown; of the rest the fullest, as "other"

// The next word of `line`, which loses it; empty at the end.
std::string_view take_word(std::string_view& line) {
  line.remove_prefix(std::min(line.find_first_not_of(' '), line.size()));
  const std::string_view word = line.substr(0, line.find(' '));
  line.remove_prefix(word.size());
  return word;
}

template <typename T>
bool parse_hex(std::string_view text, T& value) {
  const char* const end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value, 16);
  return error == std::errc() && stop == end;
}

// "0100007F:2774", or four words and a port. Each word is a number of this machine's byte order.
std::optional<Endpoint> parse_hex_endpoint(std::string_view text) {
  constexpr std::size_t kDigits = 8;
  const std::size_t colon = text.find(':');
  if (colon != kDigits && colon != 4 * kDigits) return std::nullopt;
  std::array<std::uint32_t, 4> words{};
  for (std::size_t i = 0; i < colon / kDigits; ++i) {
    if (!parse_hex(text.substr(i * kDigits, kDigits), words.at(i))) return std::nullopt;
  }
  Endpoint endpoint;
  if (!parse_hex(text.substr(colon + 1), endpoint.port)) return std::nullopt;
  endpoint.address = colon == kDigits ? IpAddress::v4(words.data()) : IpAddress::v6(words.data());
  return endpoint;
}

class ProcTcpCollector final : public Collector {
 public:
  ProcTcpCollector(const KernelSource& source, StandInBudget budget)
      : source_(source), budget_(std::move(budget)) {}

  std::string_view name() const override { return "proc_tcp"; }
  std::span<const MetricDesc> metrics() const override { return kMetrics; }

  Result<void> collect(Sink& sink, TimePoint deadline) override {
    const auto budget = budget_();
    if (!budget) {
      last_.reset();
      return Error::absent("sock_diag is there, and tells more");
    }
    if (Clock::now() >= next_read_) {
      const double start = thread_cpu_seconds();
      auto now = read(deadline);
      const double cost = thread_cpu_seconds() - start;
      next_read_ = Clock::now() + std::chrono::duration_cast<Clock::duration>(
                                      std::chrono::duration<double>(cost / *budget));
      if (!now) {
        last_.reset();
        return std::move(now.error());
      }
      sink.parse_errors() = std::move(now->errors);
      last_ = std::move(now->record);
      read_at_ = Clock::now();
    }
    if (!last_) return Error{"not read again yet: the CPU budget is spent"};
    emit(*last_, sink);
    return {};
  }

 private:
  Result<Parsed<ProcTcp>> read(TimePoint deadline) const {
    Parsed<ProcTcp> all;
    bool in_time = true;
    for (const std::string_view path : {"net/tcp", "net/tcp6"}) {
      ProcTcpReader reader(all.record);
      const auto done = source_.read_pieces(path, [&](std::string_view piece) {
        reader.add(piece);
        return in_time = Clock::now() < deadline;
      });
      reader.end_file();
      const bool no_ipv6 = path == "net/tcp6" && !done && done.error().is_absent();
      if (!done && !no_ipv6) return done.error();
      if (!in_time) return Error{fmt::format("{}: not read before the deadline", path)};
      all.errors.add(reader.errors(), path);
    }
    return all;
  }

  void emit(const ProcTcp& all, Sink& sink) const {
    const std::string netns = source_.namespaces().front().label;
    for (std::size_t i = 1; i < kTcpStates; ++i) {
      const auto state = static_cast<TcpState>(i);
      if (state == TcpState::kClose) continue;  // such sockets are not in the files
      sink.add(kStates, {to_string(state), netns}, static_cast<double>(all.states.at(i)));
    }
    std::vector<std::pair<std::uint64_t, Endpoint>> fullest;
    for (const auto& [endpoint, waiting] : all.listeners) fullest.emplace_back(waiting, endpoint);
    std::sort(fullest.begin(), fullest.end(), std::greater());
    for (std::size_t i = 0; i < std::min(fullest.size(), kMaxListeners); ++i) {
      const auto& [waiting, endpoint] = fullest[i];
      sink.add(kQueue, {fmt::format("{}", endpoint.port), to_string(endpoint.address), netns},
               static_cast<double>(waiting));
    }
    if (fullest.size() > kMaxListeners) {
      sink.add(kQueue, {"other", "other", netns},
               static_cast<double>(fullest[kMaxListeners].first));
    }
    sink.add(kAge, {netns}, seconds_since(read_at_));
    sink.add(kFeature, {"sock_diag"}, 0);
  }

  const KernelSource& source_;
  const StandInBudget budget_;
  std::optional<ProcTcp> last_;
  TimePoint read_at_{};
  TimePoint next_read_{};
};

}  // namespace

void ProcTcpReader::add(std::string_view piece) {
  while (!piece.empty()) {
    const std::size_t end = piece.find('\n');
    const std::string_view part = piece.substr(0, end);
    if (end != std::string_view::npos && rest_.empty() && !too_long_) {
      add_line(part);
    } else {
      too_long_ = too_long_ || rest_.size() + part.size() > kMaxLine;
      if (!too_long_) rest_.append(part);
      if (end == std::string_view::npos) return;
      add_line(too_long_ ? std::string_view() : rest_);
      rest_.clear();
      too_long_ = false;
    }
    piece.remove_prefix(end + 1);
  }
}

void ProcTcpReader::end_file() {
  if (!rest_.empty() || too_long_) errors_.add(at_line(line_ + 1, "cut off"));
  rest_.clear();
  too_long_ = false;
}

void ProcTcpReader::add_line(std::string_view line) {
  if (++line_ > 1 && !add_socket(line)) errors_.add(at_line(line_, "no socket"));
}

bool ProcTcpReader::add_socket(std::string_view line) {
  take_word(line);  // the line's number
  const auto endpoint = parse_hex_endpoint(take_word(line));
  take_word(line);  // the remote address
  std::uint8_t state = 0;
  if (!parse_hex(take_word(line), state) || state == 0 || state >= kTcpStates) return false;
  const std::string_view queues = take_word(line);
  std::uint64_t waiting = 0;
  const std::size_t colon = queues.find(':');
  if (colon == std::string_view::npos || !parse_hex(queues.substr(colon + 1), waiting)) {
    return false;
  }
  if (!endpoint) return false;
  ++into_.states.at(state);
  if (state != static_cast<std::uint8_t>(TcpState::kListen)) return true;
  const auto known = into_.listeners.find(*endpoint);
  if (known != into_.listeners.end()) {
    known->second = std::max(known->second, waiting);
  } else if (into_.listeners.size() < kMaxEndpoints) {
    into_.listeners.emplace(*endpoint, waiting);
  }
  return true;
}

std::unique_ptr<Collector> make_proc_tcp_collector(const KernelSource& source,
                                                   StandInBudget budget) {
  return std::make_unique<ProcTcpCollector>(source, std::move(budget));
}

}  // namespace tcpvitals
