// DumpRound: one full dump of each network namespace, one after the other, a piece at a time, so
// that events never wait for it.
//
// A namespace that cannot be dumped is left out of the round; if that is ours, the round fails. Not
// thread-safe: the sampler's thread only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>

#include "base/clock.h"
#include "base/result.h"
#include "collectors/connections/host_account.h"
#include "collectors/connections/sampler_requests.h"

namespace tcpvitals {

class DumpRound {
 public:
  // Told of a namespace that is not ours and could not be dumped.
  using OnFailure = std::function<void(const NamespaceAccount&, const Error&)>;

  // `host` must outlive it. `now` is the clock.
  DumpRound(HostAccount& host, OnFailure on_failure, std::function<TimePoint()> now = Clock::now)
      : host_(host), on_failure_(std::move(on_failure)), now_(std::move(now)) {}

  struct Options {
    bool events_lost = false;  // since the last round began
    bool regrouped = false;    // connections move to other groups as they are seen
    PendingSearches searches;  // for which connections are looked at one by one
  };
  void begin(Options options);
  bool running() const { return running_; }

  // What to wait for while it runs; -1: nothing, the next piece is there.
  int fd() const;

  // Takes a few pieces of 32 KiB, if they are there, or goes on to the next namespace; the round
  // may end with it.
  void read();

  // Of the round that ended last.
  struct Report {
    std::optional<Error> error;
    TimePoint start;
    TimePoint end;
    double cpu_seconds = 0;
    std::uint64_t bytes = 0;
    std::size_t namespaces = 0;  // that needed a dump
    bool events_lost = false;    // as it was begun
  };
  const Report& report() const { return report_; }

  // Answers the searches of the round that ended.
  void answer_searches();

 private:
  NamespaceAccount& account() { return *host_.namespaces()[position_]; }

  void begin_namespace();
  void read_dump();
  Result<bool> add(std::span<const std::byte> datagram);
  void search(const SocketRow& row);
  void fail(Error error);
  void next_namespace();
  void end();

  HostAccount& host_;
  const OnFailure on_failure_;
  const std::function<TimePoint()> now_;
  bool running_ = false;
  std::size_t position_ = 0;  // of the namespace whose turn it is
  bool dumping_ = false;      // it is being dumped
  bool flows_ = false;        // the last look found a piece
  bool renewed_ = false;      // one that had not moved was dumped for its age
  TimePoint progress_{};
  double start_cpu_ = 0;
  Options options_;
  Report report_;
};

}  // namespace tcpvitals
