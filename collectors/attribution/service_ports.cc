#include "collectors/attribution/service_ports.h"

#include <algorithm>

namespace tcpvitals {

std::uint64_t ServicePorts::enough() const {
  const std::size_t quarters_taken = 4 * named_.size() / std::max<std::size_t>(limit_, 1);
  return std::uint64_t{16} << (2 * std::min<std::size_t>(quarters_taken, 3));
}

ServicePorts::Count& ServicePorts::count_of(std::uint16_t port) {
  const auto known =
      std::find_if(counts_.begin(), counts_.end(), [&](const Count& c) { return c.port == port; });
  if (known != counts_.end()) return *known;
  Count& least =
      *std::min_element(counts_.begin(), counts_.end(),
                        [](const Count& a, const Count& b) { return a.worth < b.worth; });
  least.port = port;
  least.error = least.worth;
  return least;
}

bool ServicePorts::add(std::uint16_t port, Sign sign) {
  const auto named = named_.find(port);
  if (named != named_.end()) {
    named->second = {};  // in use: retain() knows the time
    return false;
  }
  if (named_.size() >= limit_) return false;
  Count& count = count_of(port);
  count.worth += static_cast<std::uint32_t>(sign);
  if (count.worth - count.error < enough()) return false;
  count = {};
  named_.try_emplace(port);
  return true;
}

}  // namespace tcpvitals
