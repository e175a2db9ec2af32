// What one does with a network namespace: name it, and work inside it. No thread that lives on ever
// leaves ours: one that stayed inside another would keep that alive.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "base/result.h"

namespace tcpvitals {

// The inode number of the namespace that the calling thread is in: as lsns(8) tells it.
Result<std::uint64_t> own_namespace();

// Runs `work` in the namespace that `netns` is a descriptor of, on a thread that ends with it;
// waits for its end. Needs CAP_SYS_ADMIN. What `work` opens stays in that namespace.
Result<void> in_namespace(int netns, const std::function<Result<void>()>& work);

// Of the privileges without which other namespaces cannot be watched, those that this process
// lacks: "CAP_SYS_ADMIN and CAP_NET_ADMIN"; empty: none.
std::string missing_namespace_privileges();

}  // namespace tcpvitals
