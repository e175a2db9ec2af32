#include "agent/process/signals.h"

#include <doctest/doctest.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <memory>
#include <thread>

using namespace tcpvitals;
using namespace std::chrono_literals;

namespace {

// Signals of this process, which is as before when the test ends.
class Fixture {
 public:
  explicit Fixture(std::optional<Clock::duration> patience) {
    ::pthread_sigmask(SIG_BLOCK, nullptr, &before_);
    pipe_before_ = ::signal(SIGPIPE, SIG_IGN);
    signals = std::make_unique<Signals>(patience, [this] { forced = true; });
  }
  ~Fixture() {
    signals.reset();
    ::pthread_sigmask(SIG_SETMASK, &before_, nullptr);
    ::signal(SIGPIPE, pipe_before_);
  }
  Fixture(const Fixture&) = delete;
  Fixture& operator=(const Fixture&) = delete;

  // Returns when it was taken: of two that wait in the kernel it makes one.
  static void send(int signal) {
    ::kill(::getpid(), signal);
    sigset_t waiting;
    do {
      std::this_thread::sleep_for(1ms);
      ::sigpending(&waiting);
    } while (::sigismember(&waiting, signal) == 1);
  }
  int next() const { return signals->next(Clock::now() + 10s); }
  bool forced_within(Clock::duration time) const {
    const TimePoint deadline = Clock::now() + time;
    while (!forced && Clock::now() < deadline) std::this_thread::sleep_for(1ms);
    return forced;
  }

  std::unique_ptr<Signals> signals;
  std::atomic<bool> forced = false;

 private:
  sigset_t before_{};
  sighandler_t pipe_before_ = SIG_DFL;
};

}  // namespace

TEST_CASE("a signal is told once, and its absence after the deadline") {
  const Fixture f(std::nullopt);
  CHECK(f.signals->next(Clock::now() + 1ms) == 0);
  for (const int signal : {SIGHUP, SIGUSR1, SIGUSR2, SIGINT, SIGTERM}) {
    f.send(signal);
    CHECK(f.next() == signal);
  }
  CHECK(f.signals->next(Clock::now() + 1ms) == 0);
}

TEST_CASE("a kind of signal waits once, but those to end count each") {
  const Fixture f(std::nullopt);
  for (int i = 0; i < 3; ++i) {
    f.send(SIGHUP);
    f.send(SIGINT);
  }
  CHECK(f.signals->ending());
  CHECK(f.next() == SIGHUP);
  CHECK(f.next() == SIGINT);
  CHECK(f.next() == SIGINT);
  CHECK(f.signals->next(Clock::now() + 1ms) == 0);
}

TEST_CASE("a process that does not end within its patience is ended, whatever it waits for") {
  const Fixture f(200ms);
  CHECK_FALSE(f.signals->ending());
  f.send(SIGHUP);
  CHECK_FALSE(f.forced_within(400ms));  // that is none to end
  const TimePoint asked = Clock::now();
  f.send(SIGTERM);  // and nobody asks for the next signal
  CHECK(f.forced_within(30s));
  CHECK(Clock::now() - asked >= 200ms);
}

TEST_CASE("without a bound for the first signal to end, the second one sets one") {
  const Fixture f(std::nullopt);
  f.send(SIGTERM);
  CHECK(f.next() == SIGTERM);
  CHECK_FALSE(f.forced_within(300ms));
  f.send(SIGTERM);
  CHECK(f.forced_within(Signals::kHurry + 30s));
}

TEST_CASE("the second signal to end shortens a long patience") {
  const Fixture f(1h);
  f.send(SIGTERM);
  CHECK(f.next() == SIGTERM);
  f.send(SIGINT);
  CHECK(f.forced_within(Signals::kHurry + 30s));
}

TEST_CASE("orphans leave no zombies, neither those that ended before nor those that end later") {
  const pid_t init = ::fork();  // what follows changes a process
  if (init == 0) {
    ::prctl(PR_SET_CHILD_SUBREAPER, 1);
    const auto orphan = [] {
      const pid_t parent = ::fork();
      if (parent == 0) {
        if (::fork() == 0) ::_exit(0);
        ::_exit(0);
      }
    };
    orphan();
    ::usleep(50'000);
    reap_orphans();
    orphan();
    // ECHILD once every one has ended; were one a zombie, it would be returned.
    ::_exit(::waitpid(-1, nullptr, 0) == -1 && errno == ECHILD ? 0 : 1);
  }
  int status = -1;
  REQUIRE(::waitpid(init, &status, 0) == init);
  CHECK(status == 0);
}
