// KernelSource: the only kernel I/O of the /proc collectors, and so the one place to stand a
// fixture or a fault in.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>

#include "base/result.h"

namespace tcpvitals {

// Thread-safe. Outlives the collectors that were given it.
class KernelSource {
 public:
  virtual ~KernelSource() = default;

  // The whole of one file below /proc, e.g. read("net/snmp"), read("sys/net/ipv4/tcp_mem").
  // ENOENT is Error::absent; everything else that goes wrong is a failure that names the file.
  virtual Result<std::string> read(std::string_view path) const = 0;

  // How many entries the directory at `path` has. In self/fd the descriptor that counts is one of
  // them. Errors as above.
  virtual Result<std::size_t> count_entries(std::string_view path) const = 0;
};

// Reads `path` and gives it to the pure `parse`: Result<Record>(std::string_view). Adds the path to
// what `parse` complains about.
template <typename Parse>
auto read_parsed(const KernelSource& source, std::string_view path, Parse parse)
    -> decltype(parse(std::string_view())) {
  const auto text = source.read(path);
  if (!text) return text.error();
  auto parsed = parse(std::string_view(*text));
  if (!parsed) return std::move(parsed.error()).in(path);
  return parsed;
}

// The real thing, or a fixture: `root` is "/proc" or a captured tree of the same shape.
class ProcSource final : public KernelSource {
 public:
  explicit ProcSource(std::string root) : root_(std::move(root)) {}

  Result<std::string> read(std::string_view path) const override;
  Result<std::size_t> count_entries(std::string_view path) const override;

 private:
  std::string root_;
};

}  // namespace tcpvitals
