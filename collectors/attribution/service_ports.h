// ServicePorts: the ports that keep their numbers though the kernel may give them to any
// connection, because enough connections share them.
//
// Counted by the space-saving algorithm over kCounters ports: a port that is not counted takes the
// place of the least one, and inherits its count as error. A port is named when it has earned
// enough beyond its error, so a scan of 60,000 ports names none. What is enough grows fourfold with
// each quarter of the places that is taken: the first services are named at once, and a client of
// thousands of peers cannot take the last places from those that many share.
//
// A named port stays as long as a group shows it and an hour longer, so names never flap and there
// are at most `limit` new ones an hour. Not thread-safe: the sampler's thread only.
#pragma once

#include <absl/container/flat_hash_map.h>

#include <cstdint>
#include <vector>

#include "base/clock.h"

namespace tcpvitals {

class ServicePorts {
 public:
  // What one sign is worth. While a quarter of the places is taken at most, a listener or two
  // connections are enough, or sixteen attempts that failed.
  enum class Sign : std::uint32_t { kFailure = 1, kConnection = 8, kListener = 16 };

  static constexpr std::size_t kCounters = 256;
  static constexpr auto kKept = std::chrono::hours(1);

  void set_limit(std::size_t limit) { limit_ = limit; }

  // A connection or an attempt has this port. True if that gave the port its name.
  bool add(std::uint16_t port, Sign sign);

  // Names it now, whatever it has earned.
  void name(std::uint16_t port) { named_.try_emplace(port); }

  // Names it now if the first quarter of the places is not taken.
  void name_early(std::uint16_t port) {
    if (4 * named_.size() < limit_) name(port);
  }

  bool contains(std::uint16_t port) const { return !named_.empty() && named_.contains(port); }
  std::size_t size() const { return named_.size(); }

  // Forgets the named ports for which `shown` was false for kKept. To be called now and then.
  template <typename Shown>
  void retain(TimePoint now, const Shown& shown);

 private:
  struct Count {
    std::uint16_t port = 0;
    std::uint64_t worth = 0;
    std::uint64_t error = 0;
  };

  std::uint64_t enough() const;
  Count& count_of(std::uint16_t port);

  std::size_t limit_ = 200;
  absl::flat_hash_map<std::uint16_t, TimePoint> named_;  // when it was last in use
  std::vector<Count> counts_ = std::vector<Count>(kCounters);
};

template <typename Shown>
void ServicePorts::retain(TimePoint now, const Shown& shown) {
  absl::erase_if(named_, [&](auto& entry) {
    auto& [port, last_used] = entry;
    if (last_used == TimePoint{} || shown(port)) last_used = now;
    return now - last_used > kKept;
  });
}

}  // namespace tcpvitals
