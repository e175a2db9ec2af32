// NamespaceIds: the numbers by which our network namespace knows others (nsid). Events of a
// namespace without one reach nobody outside it.
#pragma once

#include <memory>

#include "base/result.h"

struct mnl_socket;

namespace tcpvitals {

// Not thread-safe.
class NamespaceIds {
 public:
  static constexpr int kNone = -1;

  // Of the namespace that the calling thread is in.
  static Result<NamespaceIds> open();

  // The number of the namespace that `netns` is a descriptor of; kNone if it has none.
  Result<int> find(int netns);

  // The number it has, else a new one, which needs CAP_NET_ADMIN. The kernel takes it back when the
  // namespace ends.
  Result<int> assign(int netns);

 private:
  struct Close {
    void operator()(mnl_socket* socket) const;
  };
  explicit NamespaceIds(mnl_socket* socket) : socket_(socket) {}

  Result<void> send(int type, int flags, int netns);

  std::unique_ptr<mnl_socket, Close> socket_;
};

}  // namespace tcpvitals
