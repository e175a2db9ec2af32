#include "collectors/namespaces/netns.h"

#include <fmt/format.h>
#include <linux/capability.h>
#include <pthread.h>
#include <sched.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <vector>

namespace tcpvitals {
namespace {

struct Visit {
  int netns;
  const std::function<Result<void>()>& work;
  Result<void> result;
};

void* run_visit(void* argument) {
  Visit& visit = *static_cast<Visit*>(argument);
  if (::setns(visit.netns, CLONE_NEWNET) < 0) {
    visit.result = errno_error("enter network namespace", errno);
  } else {
    visit.result = visit.work();
  }
  return nullptr;
}

}  // namespace

Result<std::uint64_t> own_namespace() {
  struct stat status {};
  constexpr const char* kPath = "/proc/thread-self/ns/net";
  if (::stat(kPath, &status) < 0) return errno_error(kPath, errno);
  return status.st_ino;
}

Result<void> in_namespace(int netns, const std::function<Result<void>()>& work) {
  Visit visit{netns, work, {}};
  pthread_t thread{};
  // Not std::thread: that throws where no thread can be had.
  const int error = ::pthread_create(&thread, nullptr, run_visit, &visit);
  if (error != 0) return errno_error("start a thread", error);
  ::pthread_join(thread, nullptr);
  return visit.result;
}

std::string missing_namespace_privileges() {
  constexpr struct {
    unsigned bit;
    const char* name;
  } kNeeded[] = {{CAP_SYS_ADMIN, "CAP_SYS_ADMIN"},          // to enter them
                 {CAP_NET_BROADCAST, "CAP_NET_BROADCAST"},  // for their events
                 {CAP_NET_ADMIN, "CAP_NET_ADMIN"}};         // to give them an nsid
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  std::array<__user_cap_data_struct, _LINUX_CAPABILITY_U32S_3> sets{};
  ::syscall(SYS_capget, &header, sets.data());
  std::vector<std::string_view> missing;
  for (const auto& needed : kNeeded) {
    if ((sets[CAP_TO_INDEX(needed.bit)].effective & CAP_TO_MASK(needed.bit)) == 0) {
      missing.emplace_back(needed.name);
    }
  }
  return fmt::format("{}", fmt::join(missing, ", "));
}

}  // namespace tcpvitals
