// TimerWheel: one timer a connection, to the second, in O(1).
//
// A hashed wheel: slot t mod 256 lists who is due at tick t, or 256 ticks later, and so on; who is
// not due yet is passed over. A timer that is set too early is no fault here: whoever is called
// looks at the clock and sets it anew, so activity need not touch the wheel at all. A tick that has
// passed stands for the next one. The lists go through the slab's slots, 12 bytes a connection. Not
// thread-safe.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

namespace tcpvitals {

// Where a connection stands in the wheel. `due` 0: nowhere.
struct WheelLinks {
  std::uint32_t due = 0;  // tick
  std::uint32_t next = 0xffffffff;
  std::uint32_t previous = 0xffffffff;
};

// `LinksOf`: WheelLinks& operator()(std::uint32_t slot).
template <typename LinksOf>
class TimerWheel {
 public:
  static constexpr std::uint32_t kNone = 0xffffffff;
  static constexpr std::uint32_t kTicks = 256;

  explicit TimerWheel(LinksOf links_of) : links_of_(links_of) { heads_.fill(kNone); }

  // At tick `due`, or at the next one if that has passed; a timer that was set before is moved.
  void set(std::uint32_t slot, std::uint32_t due) {
    due = std::max(due, tick_ + 1);
    WheelLinks& links = links_of_(slot);
    if (links.due == due) return;
    if (links.due != 0) unlink(links);
    std::uint32_t& head = heads_[due % kTicks];
    links = {due, head, kNone};
    if (head != kNone) links_of_(head).previous = slot;
    head = slot;
  }

  void clear(std::uint32_t slot) {
    WheelLinks& links = links_of_(slot);
    if (links.due != 0) unlink(links);
    links = {};
  }

  // Takes out those who are due by `now`, at most `most` of them, and calls f(slot) for each; f may
  // set and clear timers, of others too. True: there may be more.
  template <typename F>
  bool advance(std::uint32_t now, std::size_t most, F&& f) {
    if (now - tick_ >= kTicks) tick_ = now - kTicks;
    for (; tick_ != now; ++tick_) {
      const std::uint32_t list = (tick_ + 1) % kTicks;
      for (std::uint32_t slot; (slot = due_in(list, now)) != kNone;) {
        if (most-- == 0) return true;
        clear(slot);
        f(slot);
      }
    }
    return false;
  }

 private:
  std::uint32_t due_in(std::uint32_t list, std::uint32_t now) {
    std::uint32_t slot = heads_[list];
    while (slot != kNone && links_of_(slot).due > now) slot = links_of_(slot).next;
    return slot;
  }

  void unlink(const WheelLinks& links) {
    if (links.next != kNone) links_of_(links.next).previous = links.previous;
    if (links.previous != kNone) {
      links_of_(links.previous).next = links.next;
    } else {
      heads_[links.due % kTicks] = links.next;
    }
  }

  LinksOf links_of_;
  std::array<std::uint32_t, kTicks> heads_;
  std::uint32_t tick_ = 0;
};

}  // namespace tcpvitals
