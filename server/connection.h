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
#include <span>
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

// Output that the socket did not take yet. Memory is bounded by what waits: at most half of the
// bytes kept are sent ones, and the buffer has room for at most as many again.
class PendingOutput {
 public:
  std::size_t size() const { return bytes_.size() - sent_; }
  std::size_t capacity() const { return bytes_.capacity(); }
  std::span<const char> waiting() const { return std::span(bytes_).subspan(sent_); }

  void append(std::span<const char> more) { bytes_.insert(bytes_.end(), more.begin(), more.end()); }
  // The first of them are sent.
  void drop(std::size_t sent);

 private:
  std::vector<char> bytes_;
  std::size_t sent_ = 0;
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
  kResetting,    // a reset follows when the peer has acknowledged all that was written
  kFinishing,    // both ends are shut; the peer has not acknowledged ours yet
};

struct Connection {
  ConnectionVitals vitals;
  std::uint64_t id = 0;             // rises over the whole server, see Stream::id(); 0: outbound
  std::uint64_t read_bytes = 0;     // by the handler: TLS and PROXY are not in it
  std::uint64_t written_bytes = 0;  // to the kernel, likewise
  TimePoint opened;
  std::unique_ptr<PendingOutput> output;  // only while a write is blocked
  std::unique_ptr<ProxiedEnds> proxied;   // only where a PROXY header came
  std::unique_ptr<TlsSession> tls;
  void* context = nullptr;  // the handler's
  Endpoint peer;
  std::uint16_t port = 0;  // of its worker
  Fd fd;                   // valid while the connection lives
  std::uint32_t slot = 0;
  std::uint32_t generation = 1;     // never 0
  std::uint32_t events = 0;         // what epoll watches for
  std::uint32_t read_tick = 0;      // when bytes last came, or the phase began
  std::uint32_t taken_tick = 0;     // when the peer last took output, or could begin to
  std::uint32_t acked_bytes = 0;    // low half of what it had acknowledged at the last look
  std::uint32_t bytes_at_look = 0;  // of a drain
  WheelLinks timer;                 // of a free slot: the next one
  std::int16_t error = 0;           // errno of what ended it
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
  bool lost : 1 = false;          // nothing can be sent; what came before is still read
  bool touched : 1 = false;       // in the list of those
  bool shakes_hands : 1 = false;  // has a place among the handshakes
  bool tls_writes : 1 = false;    // the handshake, or a read, waits to write
  bool tls_reads : 1 = false;     // a write waits to read
  bool notifies : 1 = false;      // close_notify waits to be written
  bool stalled : 1 = false;       // the last look found nothing newly acknowledged
  bool data_left : 1 = false;     // finishing: the last look found more than the FIN unacknowledged
  bool counted : 1 = false;       // by the peer limits
  bool has_spare : 1 = false;     // a socket of its worker waits for its backend
  bool looked_at : 1 = false;     // by a drain, when so many bytes had moved
  bool drained : 1 = false;       // the server asked it to end
  bool handled : 1 = false;       // the handler knows it
  bool audited : 1 = false;       // its audit record `open` is written

  std::uint64_t tag() const { return std::uint64_t{generation} << 32 | slot; }
  std::size_t pending() const { return output ? output->size() : 0; }
  bool waits_to_write() const { return output || tls_writes || notifies; }
  Endpoint client() const { return proxied ? proxied->client : peer; }
};
static_assert(sizeof(Connection) <= 232);

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
