// The collector `proc_tcp`: socket states and accept queues from /proc/net/tcp and tcp6, for a host
// whose kernel has no sock_diag. It knows no connection by itself: no groups, no events, no limit
// of a queue. Where sock_diag is there, it is absent.
//
// Reading costs the kernel about 2 us a socket, and a snapshot of 1,000,000 sockets is 150 MB of
// text: it is read in pieces, and not again before that has cost less than the CPU budget allows.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/ip.h"
#include "collectors/collector.h"
#include "collectors/kernel_source.h"
#include "collectors/parse_errors.h"
#include "collectors/tcp_state.h"

namespace tcpvitals {

// What the two files say together.
struct ProcTcp {
  std::array<std::uint64_t, kTcpStates> states{};
  // Connections that wait for accept, by where one listens: of several sockets on one address and
  // port the fullest. The first 65,536.
  std::map<Endpoint, std::uint64_t> listeners;
};

// Reads the format of both files, in pieces that may end anywhere. A line that is not understood
// costs itself. Pure, safe on any bytes, holds at most one line.
//
//   "  sl  local_address rem_address   st tx_queue rx_queue ..."
//   "   0: 0100007F:2774 00000000:0000 0A 00000000:00000005 ..."   addresses as 32-bit words
class ProcTcpReader {
 public:
  explicit ProcTcpReader(ProcTcp& into) : into_(into) {}

  void add(std::string_view piece);
  void end_file();  // a line that was cut off is left out

  const ParseErrors& errors() const { return errors_; }

 private:
  void add_line(std::string_view line);
  bool add_socket(std::string_view line);

  ProcTcp& into_;
  ParseErrors errors_;
  std::size_t line_ = 0;
  std::string rest_;       // of a line whose end has not come
  bool too_long_ = false;  // that line
};

// The share of a core that may be spent; nothing where sock_diag is there.
using StandInBudget = std::function<std::optional<double>()>;

// `source` must outlive the collector.
std::unique_ptr<Collector> make_proc_tcp_collector(const KernelSource& source,
                                                   StandInBudget budget);

}  // namespace tcpvitals
