// Ports: a worker's listeners, as it knows them now; how they change and how they drain.
//
// A port is a listener with one address and one handler: its connections name it by its place here,
// which they keep. New settings are for all ports of the listener, and so for live connections too.
// A new address or another kind of handler makes a new port: the one before accepts no more, and
// goes when its last connection has gone. The statistics are the listener's, whatever its ports.
//
// The worker's own thread alone, or before that runs. No call goes back into a handler but
// on_drain() and on_options().
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "base/clock.h"
#include "base/fd.h"
#include "base/ip.h"
#include "server/handler.h"
#include "server/listener.h"
#include "server/statistics.h"

namespace tcpvitals {

class Worker;

// A listening socket, which the server and one of its workers have.
using SharedFd = std::shared_ptr<const Fd>;

// What is to become of a listener. Made by the server, taken by a worker.
struct PortChange {
  std::size_t listener = 0;                          // its place in the server
  std::shared_ptr<ServerListener> common;            // another one than before: another listener
  std::shared_ptr<const ListenerSettings> settings;  // null: it is removed
  Endpoint endpoint;                                 // where it listens, or would
  std::vector<SharedFd> sockets;                     // this worker's, from now on; none: closed
  bool shared = false;                               // other workers accept from them too
  std::unique_ptr<Handler> handler;                  // of a new port; null: the port goes on
  std::vector<Fd> spares;                            // of a new port
  TimePoint drain_ends = TimePoint::max();           // if it is removed
};

struct Port {
  std::size_t listener = 0;
  std::shared_ptr<ServerListener> common;  // null: a free place
  std::shared_ptr<const ListenerSettings> settings;
  std::shared_ptr<const ListenerSettings> before;  // while a change is put in force
  std::shared_ptr<ListenerStatistics> statistics;
  std::unique_ptr<Handler> handler;
  Endpoint endpoint;
  std::vector<SharedFd> sockets;
  bool shared = false;
  // Of a relay: sockets for the backends of clients that have none yet, and one for the next
  // client, so that nobody is accepted for whom there is no second descriptor.
  std::vector<Fd> spares;
  std::size_t owed = 0;         // clients that have none yet
  std::size_t connections = 0;  // that name this port
  TimePoint resume_at{};        // when accepting goes on, if `paused`
  TimePoint drain_began{};      // if `draining`, as the next one
  TimePoint drain_ends{};       // connections that are left then are closed
  bool paused = false;
  bool retired = false;  // accepts no more
  bool draining = false;

  const ListenerOptions& options() const { return settings->options; }
};

class Ports {
 public:
  explicit Ports(Worker& worker) : worker_(worker) {}

  Port& operator[](std::size_t port) { return ports_[port]; }
  const Port& operator[](std::size_t port) const { return ports_[port]; }
  std::size_t size() const { return ports_.size(); }
  auto begin() { return ports_.begin(); }
  auto end() { return ports_.end(); }
  auto begin() const { return ports_.begin(); }
  auto end() const { return ports_.end(); }

  // Puts them in force together. The errno of a socket that cannot be watched now, and is tried
  // again after a pause; 0: there is none.
  int change(std::vector<PortChange> changes);

  // Accepts no more, and lets each connection come to its end as its handler sees fit: when nothing
  // has moved on it from one look to the next, and after a second in any case.
  void drain();
  void look();
  TimePoint next_look() const { return next_look_; }

  // One connection of the port is gone.
  void leave(std::size_t port);

  std::vector<ListenerStatistics> statistics() const;

 private:
  // What a listener counts with this worker.
  struct Account {
    std::shared_ptr<ServerListener> owner;
    std::shared_ptr<ListenerStatistics> statistics;
  };

  std::optional<std::size_t> current(const PortChange& change) const;
  void let_go(const PortChange& change, const std::vector<PortChange>& all);
  void close_if_gone(std::size_t index, const PortChange& change,
                     const std::vector<PortChange>& all);
  int put_in_force(PortChange& change);
  std::size_t add(PortChange& change);
  void hold_to_limits(Connection& c, const Port& port);
  void renew_spares(Port& port);
  void begin_drain(Port& port, TimePoint ends);
  void free_if_done(Port& port);

  Worker& worker_;
  std::vector<Port> ports_;
  std::vector<Account> accounts_;  // by listener
  TimePoint next_look_ = TimePoint::max();
};

}  // namespace tcpvitals
