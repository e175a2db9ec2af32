// Connection: what a worker keeps of one accepted connection; and the slab they live in.
//
// A slab belongs to one worker and one thread. It hands out slots by index in chunks that never
// move, so a Connection& stays good while others come and go. What is given to epoll is a tag, not
// a pointer: an event that was queued for a connection already gone carries an old generation and
// finds nothing. Memory follows the peak of live connections, a chunk at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/fd.h"
#include "base/ip.h"
#include "server/statistics.h"
#include "server/timer_wheel.h"
#include "server/tls.h"
#include "server/vitals.h"

namespace tcpvitals {

// Output that the socket did not take yet.
struct PendingOutput {
  std::vector<char> bytes;
  std::size_t sent = 0;

  std::size_t size() const { return bytes.size() - sent; }
};

// What a PROXY header said.
struct ProxiedEnds {
  Endpoint client;
  Endpoint server;
  bool probe = false;  // of the proxy itself: a health check
  std::string header;  // as it came, until a relay passes it on
};

enum class Phase : std::uint8_t {
  kProxyHeader,  // it is awaited
  kHandshake,    // of TLS
  kConnecting,   // outbound
  kOpen,         // the handler has it
  kFinishing,    // both ends are shut; the peer has not acknowledged ours yet
};

struct Connection {
  ConnectionVitals vitals;
  std::uint64_t id = 0;             // rises over the whole server, see Stream::id(); 0: outbound
  std::uint64_t read_bytes = 0;     // by the handler: TLS and PROXY are not in it
  std::uint64_t written_bytes = 0;  // likewise
  TimePoint opened;
  TimePoint phase_began;
  std::unique_ptr<PendingOutput> output;  // only while a write is blocked
  std::unique_ptr<ProxiedEnds> proxied;   // only where a PROXY header came
  std::unique_ptr<TlsSession> tls;
  void* context = nullptr;  // the handler's
  Endpoint peer;
  Fd fd;  // valid while the connection lives
  std::uint32_t slot = 0;
  std::uint32_t generation = 1;  // never 0
  std::uint32_t next_free = 0;
  std::uint32_t events = 0;       // what epoll watches for
  std::uint32_t active_tick = 0;  // when bytes last came or went
  std::uint32_t bytes_at_look = 0;
  std::uint32_t write_tick = 0;      // when output began to wait, or last went
  std::uint32_t unacknowledged = 0;  // bytes, when last looked at after our FIN
  WheelLinks timer;
  std::uint16_t listener = 0;
  std::int16_t error = 0;  // errno of what ended it
  Phase phase = Phase::kOpen;
  CloseCause cause{};
  bool outbound : 1 = false;
  bool duplex : 1 = false;
  bool paused : 1 = false;
  bool peer_ended : 1 = false;    // its FIN came
  bool finish_asked : 1 = false;  // our FIN follows the output
  bool finished : 1 = false;      // our FIN is sent
  bool doomed : 1 = false;        // to be closed when the turn comes to it, for `cause`
  bool reset : 1 = false;         // with a reset
  bool touched = false;           // in the list of those
  bool shakes_hands : 1 = false;  // has a place among the handshakes
  bool tls_writes : 1 = false;    // the handshake waits to write
  bool counted : 1 = false;       // by the peer limits
  bool has_spare : 1 = false;     // a socket of its worker waits for its backend
  bool looked_at = false;         // by a drain, when so many bytes had moved
  bool drained : 1 = false;       // the server asked it to end
  bool handled : 1 = false;       // the handler knows it
  bool audited = false;           // its audit record `open` is written

  std::uint64_t tag() const { return std::uint64_t{generation} << 32 | slot; }
  std::size_t pending() const { return output ? output->size() : 0; }
  Endpoint client() const { return proxied ? proxied->client : peer; }
};
static_assert(sizeof(Connection) <= 256);

class ConnectionSlab {
 public:
  static constexpr std::size_t kChunk = 256;

  // A blank connection that owns `fd`.
  Connection& acquire(Fd fd);
  // Closes the descriptor and takes the slot back.
  void release(Connection& connection);
  // The live connection with this tag, or null.
  Connection* find(std::uint64_t tag);
  Connection& at(std::uint32_t slot) { return chunks_[slot / kChunk][slot % kChunk]; }

  std::size_t live() const { return live_; }
  std::size_t chunks() const { return chunks_.size(); }

  // Calls f(Connection&) for every live connection of one chunk, or of all. `f` may release it.
  template <typename F>
  void for_each_in(std::size_t chunk, F&& f) {
    for (std::size_t i = 0; i < kChunk; ++i) {
      if (chunks_[chunk][i].fd.valid()) f(chunks_[chunk][i]);
    }
  }
  template <typename F>
  void for_each(F&& f) {
    for (std::size_t chunk = 0; chunk < chunks_.size(); ++chunk) for_each_in(chunk, f);
  }

 private:
  static constexpr std::uint32_t kNone = 0xffffffff;

  void add_chunk();

  std::vector<std::unique_ptr<Connection[]>> chunks_;
  std::uint32_t free_ = kNone;
  std::size_t live_ = 0;
};

}  // namespace tcpvitals
