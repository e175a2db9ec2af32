#include "collectors/connections/reconfiguration.h"

#include <utility>

namespace tcpvitals {

Result<void> exclude(EventReader& events, HostAccount& host, const Excludes& excludes) {
  auto done = events.exclude(excludes);
  return done ? host.exclude(excludes) : done;
}

bool Reconfiguration::begin(std::unique_ptr<ReconfigurationRequest> request) {
  const Excludes before = host_.config().excludes;
  const Excludes& now = request->config.excludes;
  if (!(now == before)) {
    auto possible = exclude(events_, host_, now);
    if (possible) possible = exclude(events_, host_, {});
    if (!possible) {
      exclude(events_, host_, before).ok();
      request->done.set_value(std::move(possible));
      return false;
    }
  }
  host_.configure(request->config);
  request_ = std::move(request);
  return true;
}

void Reconfiguration::end() {
  auto excluding = exclude(events_, host_, host_.config().excludes);
  if (excluding) {
    events_.read();  // that came before the filter
    host_.kernel_excludes();
  }
  request_->done.set_value(std::move(excluding));
  request_.reset();
}

}  // namespace tcpvitals
