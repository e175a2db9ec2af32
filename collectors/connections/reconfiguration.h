// Reconfiguration: the change from one configuration to another while connections are counted.
//
// It begins between two samples and ends with the next complete one. From its begin to its end the
// kernel excludes nothing, so that the trackers see what comes and what goes by the change. Not
// thread-safe: the sampler's thread only.
#pragma once

#include <memory>

#include "base/result.h"
#include "collectors/connections/event_reader.h"
#include "collectors/connections/host_account.h"
#include "collectors/connections/sampler_requests.h"

namespace tcpvitals {

// Of events and dumps alike. Fails where the kernel cannot be told so much; then it may have been
// told a part.
Result<void> exclude(EventReader& events, HostAccount& host, const Excludes& excludes);

class Reconfiguration {
 public:
  // Both must outlive it.
  Reconfiguration(EventReader& events, HostAccount& host) : events_(events), host_(host) {}

  bool running() const { return request_ != nullptr; }

  // Puts the configuration in force, but for its excludes. False if the kernel refuses those: the
  // asker is told, and nothing has changed.
  bool begin(std::unique_ptr<ReconfigurationRequest> request);

  // After a complete sample: the kernel excludes by itself, and the asker is told.
  void end();

 private:
  EventReader& events_;
  HostAccount& host_;
  std::unique_ptr<ReconfigurationRequest> request_;  // until it ends
};

}  // namespace tcpvitals
