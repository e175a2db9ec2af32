// ListenerPlan: how a server gets from the listeners that it has to those that it wants.
//
// All that can fail is done when it is made: addresses are bound, certificates are read, sockets
// for backends are opened. Nothing that is in force has changed by then, and a plan that is dropped
// leaves nothing behind.
//
// A listener is known by its name. While that stays, its sockets do, if its address does; an
// address that one leaves and another takes goes over with its sockets, and with the clients who
// wait there. One that was removed is remembered with its totals, so that they go on should it come
// back: as many as kMostListeners together with those that there are.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/ip.h"
#include "base/result.h"
#include "server/listener.h"
#include "server/options.h"
#include "server/passed_socket.h"
#include "server/ports.h"

namespace tcpvitals {

// What a server knows of one listener. Copies share what is behind the pointers.
struct ListenerEntry {
  std::string name;
  std::shared_ptr<ServerListener> common;
  std::shared_ptr<const ListenerSettings> settings;
  Endpoint endpoint;              // where it listens, or would
  std::vector<SharedFd> sockets;  // those that were passed are kept while it is closed
  std::size_t passed = 0;         // of the sockets
  bool wanted = false;            // false: it was removed, but may have connections
  bool open = false;
  std::string told;               // its trouble, as it was last logged
  TlsStoreStatistics tls_before;  // of its last certificates, for the counters
};

// How many descriptors connections may take.
struct DescriptorShare {
  std::uint32_t essential = 0;  // those of essential listeners
  std::uint32_t others = 0;     // those of all others
};

DescriptorShare share_descriptors(const ServerOptions& options);

class ListenerPlan {
 public:
  // From the entries as they are to the listeners of `wanted`, whose workers are as they were.
  // `passed` sockets are for the listener of their name. Connections of listeners that go are
  // drained until `drain_ends`. The error names the listener.
  static Result<ListenerPlan> make(std::vector<ListenerEntry> now, const ServerOptions& wanted,
                                   std::vector<PassedSocket> passed, TimePoint drain_ends);

  // For one that is closed, and could be open now: of an entry, which becomes so.
  static Result<std::vector<PortChange>> open(std::size_t place, ListenerEntry& entry,
                                              unsigned workers);

  ListenerPlan(ListenerPlan&&) = default;
  ListenerPlan& operator=(ListenerPlan&&) = default;
  ~ListenerPlan();

  // Gives the sockets that stay the options that they are to have. Cannot fail: the kernel took
  // them already, from another socket.
  void set_socket_options();

  // In force when the server and each worker has its own.
  std::vector<ListenerEntry> entries;
  std::vector<std::size_t> order;  // of the wanted listeners, their places among the entries
  std::vector<std::vector<PortChange>> of_workers;
  DescriptorShare descriptors;

 private:
  struct Leaving {  // an address that a listener leaves
    Endpoint endpoint;
    std::vector<SharedFd> sockets;
    std::size_t passed = 0;
    std::shared_ptr<const ListenerSettings> settings;
  };
  struct Kept {  // a socket that has a listener's options from now on
    SharedFd socket;
    std::shared_ptr<const ListenerSettings> before;
    std::shared_ptr<const ListenerSettings> after;
  };

  explicit ListenerPlan(unsigned workers) : of_workers(workers) {}

  Result<std::size_t> place_of(const std::string& name);
  void leave(ListenerEntry& entry, std::shared_ptr<const ListenerSettings> settings);
  void remove(std::size_t place, TimePoint drain_ends);
  Result<void> want(std::size_t place, const ListenerOptions& options);
  Result<void> settle(std::size_t place, std::vector<PassedSocket>& passed);
  std::shared_ptr<const ListenerSettings> take_over(ListenerEntry& entry);
  bool join(const ListenerEntry& entry);
  Result<void> keep(ListenerEntry& entry, const std::shared_ptr<const ListenerSettings>& before);
  Result<void> add_ports(std::size_t place);

  std::vector<bool> fresh_;  // of the wanted entries: new ports
  std::vector<Leaving> leaving_;
  std::vector<Kept> kept_;
  std::vector<SharedFd> joined_;  // have SO_REUSEPORT for this plan only
};

}  // namespace tcpvitals
