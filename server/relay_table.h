// RelayTable: for whom a relay connected to its backend. A backend in this process asks it who the
// client of a connection really is, and refuses a connection that no relay made. While the
// backend's socket is guarded, the kernel drops what comes from anybody else.
//
// Thread-safe. The key is the relay's end of the connection to the backend, address and port: both
// ends of it are on this machine, and the kernel gives that pair to no one else while it is bound.
// So the relay adds it when it is bound and before it connects, and removes it before it closes.
#pragma once

#include <cstddef>
#include <map>
#include <mutex>
#include <optional>
#include <string>

#include "base/ip.h"
#include "base/result.h"
#include "server/source_guard.h"

namespace tcpvitals {

class RelayTable {
 public:
  struct Client {
    Endpoint endpoint;        // by the PROXY header, where a listener takes one
    std::string tls_subject;  // of its certificate, if it showed one

    bool operator==(const Client&) const = default;
  };

  void add(const Endpoint& relay, Client client);
  void remove(const Endpoint& relay);

  // Nothing: no relay made that connection, or it has closed it meanwhile.
  std::optional<Client> find(const Endpoint& relay) const;

  std::size_t size() const;

  // Nobody can connect to `listener`, an IPv4 socket, but relays in the table; each change of it
  // takes 0.1 ms then. Until unguard(). Fails where the kernel does not do that: the socket is open
  // to all then.
  Result<void> guard(int listener);
  void unguard();

 private:
  void admit();

  mutable std::mutex mutex_;
  std::map<Endpoint, Client> clients_;
  std::optional<SourceGuard> guard_;
};

}  // namespace tcpvitals
