// The bench's network: a namespace of its own, so that nothing else on the host is measured or
// disturbed, with as many TCP sockets in it as are wanted.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "bench/child.h"

namespace tcpvitals::bench {

// Moves this thread, and what it starts from now on, into a new network namespace with loopback up.
// Without root that takes a user namespace, the first time while the process has one thread.
void enter_new_network();

// Directory of this program, where the others of its build are.
std::string program_directory();

// Idle connections over loopback, both ends held by processes of at most 20,000 descriptors. As
// many to each of the ports, whatever their number: ten, or more if the descriptors do not suffice.
// The last port's are IPv6. Closed with the object.
inline constexpr std::uint16_t kFirstHeldPort = 20001;
inline constexpr std::uint16_t kHeldPorts = 10;
class HeldConnections {
 public:
  explicit HeldConnections(std::size_t connections);

 private:
  std::vector<Child> holders_;
};

// One GET over HTTP/1.0 from 127.0.0.1; the body. `status` 0: nobody answered.
struct HttpResponse {
  int status = 0;
  std::string body;
};
HttpResponse http_get(std::uint16_t port, const std::string& path);

// Repeats http_get until it answers 200, ten seconds at most.
void wait_until_served(std::uint16_t port, const std::string& path);

}  // namespace tcpvitals::bench
