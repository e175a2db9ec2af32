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
#include <vector>

#include "base/clock.h"
#include "base/fd.h"
#include "server/vitals.h"

namespace tcpvitals {

struct Connection {
  ConnectionVitals vitals;
  std::uint64_t id = 0;  // monotonic over the whole server
  TimePoint opened;
  TimePoint finishing_since;       // when both directions were shut, if `finishing`
  std::unique_ptr<char[]> output;  // only while a write is blocked
  std::uint32_t output_begin = 0;  // what is still to be written: [begin, end)
  std::uint32_t output_end = 0;
  Fd fd;  // valid while the connection lives
  std::uint32_t slot = 0;
  std::uint32_t generation = 1;  // never 0
  std::uint32_t next_free = 0;
  std::uint16_t listener = 0;
  bool finishing = false;  // our FIN is sent and the peer has not acknowledged it yet

  std::uint64_t tag() const { return std::uint64_t{generation} << 32 | slot; }
  std::uint32_t pending_output() const { return output_end - output_begin; }
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
