// KernelSource: the only kernel I/O of the /proc collectors, and so the one place to stand a
// fixture or a fault in.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"

namespace tcpvitals {

// Thread-safe. Outlives the collectors that were given it.
class KernelSource {
 public:
  virtual ~KernelSource() = default;

  // The whole of one file below /proc, e.g. read("net/snmp"), read("sys/net/ipv4/tcp_mem").
  // ENOENT is Error::absent; everything else that goes wrong is a failure that names the file.
  virtual Result<std::string> read(std::string_view path) const = 0;
};

// The real thing, or a fixture: `root` is "/proc" or a captured tree of the same shape.
class ProcSource final : public KernelSource {
 public:
  explicit ProcSource(std::string root) : root_(std::move(root)) {}

  Result<std::string> read(std::string_view path) const override;

 private:
  std::string root_;
};

}  // namespace tcpvitals
