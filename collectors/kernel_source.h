// KernelSource: the only kernel I/O of the /proc collectors, and so the one place to stand a
// fixture or a fault in.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"

namespace tcpvitals {

class KernelSource;

// One network namespace to read the files of.
struct NamespaceSource {
  std::string label;                           // empty: namespaces are not told apart
  std::shared_ptr<const KernelSource> source;  // outlives the namespace's departure
};

// Thread-safe. Outlives the collectors that were given it.
class KernelSource {
 public:
  virtual ~KernelSource() = default;

  // The whole of one file below /proc, e.g. read("net/snmp"), read("sys/net/ipv4/tcp_mem").
  // ENOENT is Error::absent; everything else that goes wrong is a failure that names the file.
  virtual Result<std::string> read(std::string_view path) const = 0;

  // The same file piece by piece, for one that may be larger than read() allows; a piece may end
  // anywhere. Until the end, or until `use` returns false.
  using UsePiece = std::function<bool(std::string_view piece)>;
  virtual Result<void> read_pieces(std::string_view path, const UsePiece& use) const;

  // How many entries the directory at `path` has. In self/fd the descriptor that counts is one of
  // them. Errors as above.
  virtual Result<std::size_t> count_entries(std::string_view path) const = 0;

  // Every network namespace that is watched, ours first. Another one has its namespace_files().
  virtual std::vector<NamespaceSource> namespaces() const;

  // Told by the reader of a namespace that is not ours that it went on without its numbers.
  virtual void namespace_failed(const std::string& label, const Error& error) const;
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
  Result<void> read_pieces(std::string_view path, const UsePiece& use) const override;
  Result<std::size_t> count_entries(std::string_view path) const override;

 private:
  std::string root_;
};

// The host's source, with those of the network namespaces that a watcher publishes beside it.
class NamespaceSources final : public KernelSource {
 public:
  // `host` must outlive this.
  explicit NamespaceSources(const KernelSource& host) : host_(host) {}

  Result<std::string> read(std::string_view path) const override { return host_.read(path); }
  Result<void> read_pieces(std::string_view path, const UsePiece& use) const override {
    return host_.read_pieces(path, use);
  }
  Result<std::size_t> count_entries(std::string_view path) const override {
    return host_.count_entries(path);
  }
  std::vector<NamespaceSource> namespaces() const override;
  void namespace_failed(const std::string& label, const Error& error) const override;

  // From now on ours is called `own`, and `others` are there too. An empty `own`: namespaces are
  // not told apart, as at the start.
  void publish(std::string own, std::vector<NamespaceSource> others);

  std::uint64_t failures() const { return failures_; }

 private:
  const KernelSource& host_;
  mutable std::mutex mutex_;
  std::string own_;                      // under mutex_
  std::vector<NamespaceSource> others_;  // under mutex_
  mutable std::atomic<std::uint64_t> failures_{0};
};

}  // namespace tcpvitals
