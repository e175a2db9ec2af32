// OutcomeLog: when the log tells how a collector does.
//
// It tells when the collector stops working and when it works again, with one complaint a minute at
// most: a client in a hurry can make its own scrapes fail as often as it likes. What was left out
// is told later if it lasts. Not thread-safe.
#pragma once

#include "base/clock.h"
#include "exporter/scrape.h"

namespace tcpvitals {

class OutcomeLog {
 public:
  using Outcome = CollectorReport::Outcome;

  // Whether the log is to tell of this outcome.
  bool tells(Outcome outcome, TimePoint now) {
    const bool complaint = outcome != Outcome::kOk;
    if (outcome == told_ || (complaint && now < next_complaint_)) return false;
    told_ = outcome;
    if (complaint) next_complaint_ = now + std::chrono::minutes(1);
    return true;
  }

 private:
  Outcome told_ = Outcome::kOk;
  TimePoint next_complaint_{};
};

}  // namespace tcpvitals
