// Ends the tests when one case takes too long, and names it: a case that hangs must fail, not wait.
#include <doctest/doctest.h>

#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <thread>

#include "base/thread.h"

namespace {

using namespace std::chrono_literals;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr std::chrono::seconds kLimit = 600s;
#else
constexpr std::chrono::seconds kLimit = 120s;
#endif

// What one case may take; the test of this very file says less.
std::chrono::seconds limit() {
  const char* seconds = std::getenv("TCPVITALS_TEST_SECONDS");
  return seconds == nullptr ? kLimit : std::chrono::seconds(std::atoi(seconds));
}

class Watchdog final : public doctest::IReporter {
 public:
  explicit Watchdog(const doctest::ContextOptions&) {}
  ~Watchdog() override {
    watch(nullptr);
    if (thread_.joinable()) thread_.join();
  }
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

  void test_case_start(const doctest::TestCaseData& data) override {
    watch(data.m_name);
    if (!thread_.joinable()) thread_ = tcpvitals::start_thread("watchdog", [this] { guard(); });
  }
  void test_case_end(const doctest::CurrentTestCaseStats&) override { watch(kBetween); }

  void report_query(const doctest::QueryData&) override {}
  void test_run_start() override {}
  void test_run_end(const doctest::TestRunStats&) override {}
  void test_case_reenter(const doctest::TestCaseData&) override {}
  void test_case_exception(const doctest::TestCaseException&) override {}
  void subcase_start(const doctest::SubcaseSignature&) override {}
  void subcase_end() override {}
  void log_assert(const doctest::AssertData&) override {}
  void log_message(const doctest::MessageData&) override {}
  void test_case_skipped(const doctest::TestCaseData&) override {}

 private:
  static constexpr const char* kBetween = "between two cases";

  // The case that runs now; null: none will.
  void watch(const char* name) {
    {
      const std::lock_guard lock(mutex_);
      name_ = name;
      ++changes_;
    }
    changed_.notify_one();
  }

  void guard() {
    std::unique_lock lock(mutex_);
    while (name_ != nullptr) {
      const unsigned seen = changes_;
      if (changed_.wait_for(lock, limit(), [&] { return changes_ != seen; })) continue;
      std::fprintf(stderr, "takes longer than %lld s: %s\n",
                   static_cast<long long>(limit().count()), name_);
      lock.unlock();  // doctest's handler tells its listeners, this one too
      std::abort();
    }
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  const char* name_ = kBetween;
  unsigned changes_ = 0;
  std::thread thread_;
};

}  // namespace

REGISTER_LISTENER("watchdog", 0, Watchdog);
