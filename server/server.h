// Server: the embedded TCP server. It answers on its listeners and reports every connection it
// carries.
//
//   auto server = Server::start({});  // echo on 127.0.0.1:10078
//   if (!server) return die(server.error().message);
//   ServerCollector collector(**server);
//
// Threads: start() makes one per worker, with all signals blocked; each is an epoll loop with its
// own sockets. Every method may be called from any thread, but stop() and the destructor by one
// only. Lifetime: a server outlives its collectors and whoever asks it for snapshots. Failure:
// start() either has every listener listening or leaves nothing behind, but for listeners whose
// certificate cannot be used: they stay closed until it can. After that nothing ends the server but
// stop(). Out of descriptors or at its limit a listener pauses: connections wait in the
// kernel's queue, the pause is counted, and it tries again at the next close or after 100 ms.
// A connection whose peer ended its stream is closed when that peer has acknowledged ours, for only
// then are its counters final; after 10 s without, it is left to the kernel, and counted as such.
// Bounds: 256 bytes a connection, and while its peer does not read, max_output_bytes more.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "server/connection_series.h"
#include "server/listener_plan.h"
#include "server/options.h"
#include "server/passed_socket.h"
#include "server/statistics.h"
#include "server/worker.h"

namespace tcpvitals {

class Server {
 public:
  // `passed` sockets are used by the listener of their name, instead of new ones; those of no
  // listener are closed.
  static Result<std::unique_ptr<Server>> start(ServerOptions options,
                                               std::vector<PassedSocket> passed = {});
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  // Prepares other listeners, by their names: all that can fail, such as an address that is in use.
  // Nothing has changed until what is returned is called, which cannot fail, and leaves no other
  // change between: it is to be called, or dropped, by the thread that prepared it, and soon. Then
  // new connections have the new options, and so have live ones, but for those of their sockets.
  // Nobody's connection ends but those of clients that allow and deny no longer let in (cause
  // `denied`), and those of listeners that are gone: these are drained for `drain_timeout`, 0: for
  // as long as they like. A listener whose certificate cannot be used is closed until it can.
  // Fails after drain() or stop(), too. Handlers of one's own are made for new listeners only.
  Result<std::function<void()>> prepare(std::vector<ListenerOptions> listeners,
                                        std::chrono::seconds drain_timeout);

  // Closes the listeners, and lets each connection come to its end as its handler sees fit. True:
  // none is left; false: some are at `deadline`, for stop().
  bool drain(TimePoint deadline);

  // Closes listeners and connections as they are, each sampled once more, and joins the workers: a
  // few microseconds a connection. Snapshots go on to work and have the final counts.
  void stop();

  // Loads the certificates whose files have changed, each listener's for itself; live connections
  // keep theirs. Opens listeners that were closed for want of one. What goes wrong is logged once,
  // and a certificate that has ended meanwhile too. To be called every second or so, until drain();
  // by one thread at a time. While a change is prepared it does nothing.
  void renew_tls();

  // The listening sockets with their listeners' names, for a process that takes over: as
  // Server::start() there wants them. They stay open for as long as anybody has them; gone after
  // drain() or stop().
  std::vector<std::pair<std::string, SharedFd>> listening_sockets() const;

  // Where a listener, by its index in the options that are in force, really listens; while it is
  // closed, where it would.
  Endpoint endpoint(std::size_t listener = 0) const;
  bool is_open(std::size_t listener) const;

  unsigned workers() const { return options_.workers; }

  // All workers' statistics. A connection's counters are at most one sweep interval old, at most a
  // moment if there are few or if it is among the worst, and final once it is closed. Fails, by the
  // worker's name, if one does not answer by `deadline`.
  Result<ServerSnapshot> snapshot(TimePoint deadline);

 private:
  explicit Server(ServerOptions options);
  Result<void> open(std::vector<PassedSocket> passed);
  Result<void> make_workers();
  Result<void> put_in_force(ListenerPlan plan);
  void wait_for_workers();
  void renew_tls(std::size_t place);
  Result<void> open_if_usable(std::size_t place);
  void look_at_certificate(std::size_t place);
  void tell(std::size_t place, std::string trouble);
  void end();
  ServerSnapshot joined(const std::vector<std::shared_ptr<const WorkerReport>>& reports) const;
  std::vector<std::size_t> in_order() const;
  ListenerEntry entry(std::size_t place) const;
  std::vector<ListenerEntry> entries() const;

  const ServerOptions options_;  // but for the listeners, those of the start
  ServerShared shared_;
  ConnectionSeries series_;
  std::atomic<std::size_t> tcp_info_length_ = 0;
  std::vector<std::unique_ptr<Worker>> workers_;
  std::atomic<bool> ending_ = false;

  std::mutex changing_;  // held by whoever changes the listeners, from first to last
  mutable std::mutex mutex_;
  std::vector<ListenerEntry> entries_;  // these two under mutex_
  std::vector<std::size_t> order_;      // of the listeners in the options, their entries
};

}  // namespace tcpvitals
