// Handler: what a listener does with its connections; the interface for a program of one's own.
//
//   class Shout final : public Handler {
//     void on_data(Stream stream, std::string_view bytes) override {
//       std::string text(bytes);
//       for (char& c : text) c = static_cast<char>(std::toupper(c));
//       stream.write(text);
//     }
//   };
//   options.handler = HandlerKind::kOwn;
//   options.make_handler = [] { return std::make_unique<Shout>(); };
//
// Threads: each worker makes a handler of its own and calls it on its own thread, so a handler
// needs no locks for what is its own. A call must not block: all of the worker's connections wait.
// Nothing is thrown out of it. A Stream may be kept until on_close() of it, and used on the
// worker's thread only; nothing that is done to it calls the handler back at once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "base/ip.h"
#include "base/result.h"
#include "server/statistics.h"

namespace tcpvitals {

struct Connection;
struct ListenerOptions;
class Worker;

// One connection, as its handler has it: two pointers.
class Stream {
 public:
  // Sends; what the socket does not take now is kept, up to max_output_bytes, beyond which the
  // connection is closed with cause `handler`. False if anything waits after that, or if nothing
  // will be sent any more. While something waits nothing is read, unless the stream is duplex.
  // After the peer has reset the connection what it sent before is still read, and what is written
  // is dropped.
  bool write(std::string_view bytes);

  // Our end of the stream, after what waits. The connection is closed when the peer's end came too.
  void finish();
  // Closes at once, with a reset: the peer must not take what it has for the whole stream. In
  // on_close() only the reset is still to be had.
  void abort(CloseCause cause = CloseCause::kHandler);
  // Closes with a reset when the peer has acknowledged all that was written, within write_stall.
  // Until then nothing is read or written.
  void break_off(CloseCause cause = CloseCause::kHandler);

  // Nothing is read until resume().
  void pause();
  void resume();
  // Reads go on while output waits: the two directions are independent of each other.
  void set_duplex();

  std::size_t pending() const;  // bytes that wait

  // Unique, over restarts too if the clock is not set back: ids count up from the time at which the
  // server started, in microseconds since 1970.
  std::uint64_t id() const;
  Endpoint peer() const;   // the client, by the PROXY header if there was one
  Endpoint local() const;  // what it connected to, likewise
  // The PROXY header as it came, once, and only where the listener has send_proxy; else empty.
  std::string take_proxy_header();
  std::string tls_subject() const;  // of the client's certificate; empty: none was shown

  // The handler's own.
  void* context() const;
  void set_context(void* context);

  // A connection from this worker to another server, with the same handler: on_open() when it
  // stands, on_close() if it never does. `bound`, if given, is told of our end of it, which is on
  // loopback then, before anything is sent.
  Result<Stream> connect(const Endpoint& to,
                         const std::function<void(const Endpoint&)>& bound = {});
  bool is_outbound() const;  // made by connect()

  friend bool operator==(const Stream&, const Stream&) = default;

 private:
  friend class Ports;
  friend class Worker;
  Stream(Worker& worker, Connection& connection) : worker_(&worker), connection_(&connection) {}

  Worker* worker_;
  Connection* connection_;
};

class Handler {
 public:
  virtual ~Handler() = default;

  // Ready for data: TLS and PROXY, if any, are done.
  virtual void on_open(Stream /*stream*/) {}
  // `bytes` are valid during the call.
  virtual void on_data(Stream stream, std::string_view bytes) = 0;
  // The peer sends no more.
  virtual void on_end(Stream stream) { stream.finish(); }
  // Nothing waits any more: all of it is sent, or dropped because the peer is gone.
  virtual void on_drained(Stream /*stream*/) {}
  // The server wants to end: a stream that is left open is closed when its patience is over.
  virtual void on_drain(Stream stream) { stream.finish(); }
  // The listener has other options from now on, for live streams too; valid during the call. It
  // keeps its handler for as long as its address and its kind of handler stay.
  virtual void on_options(const ListenerOptions& /*options*/) {}
  // Once a second while any connection is open: for deadlines of the handler's own.
  virtual void on_second() {}
  // The last call for this stream. Also for an outbound one that was never open.
  virtual void on_close(Stream /*stream*/, CloseCause /*cause*/) {}
};

}  // namespace tcpvitals
