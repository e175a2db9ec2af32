// FileReader: how the collectors of this room read the kernel's files. What cannot be read costs
// the metrics of that file and is told to the sink; a collector fails only where nothing could be
// read.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "collectors/kernel_source.h"
#include "collectors/metric.h"
#include "collectors/parse_errors.h"

namespace tcpvitals {

// One call of Collector::collect(). Outlived by both.
class FileReader {
 public:
  FileReader(const KernelSource& source, Sink& sink)
      : source_(source), sink_(sink), namespaces_(source.namespaces()) {}

  // As KernelSource::namespaces(): ours is the first.
  const std::vector<NamespaceSource>& namespaces() const { return namespaces_; }
  const NamespaceSource& ours() const { return namespaces_.front(); }

  // What `path` says in `netns`, one of namespaces(); nothing if it cannot be read. `parse` is
  // pure: Parsed<Record>(std::string_view).
  template <typename Parse>
  auto read(const NamespaceSource& netns, std::string_view path, Parse parse)
      -> std::optional<decltype(parse(std::string_view()).record)> {
    const auto text = netns.source->read(path);
    if (!text) {
      unreadable(netns, text.error());
      return std::nullopt;
    }
    if (read_.empty()) read_ = path;
    auto parsed = parse(std::string_view(*text));
    sink_.parse_errors().add(parsed.errors, name_of(netns, path));
    return std::move(parsed.record);
  }

  // Tells that a file of `netns` could not be read. One that is not there is no error; of one that
  // is not ours the source is told.
  void unreadable(const NamespaceSource& netns, const Error& error);

  // Tells that a file of `netns` says what cannot be.
  void reject(const NamespaceSource& netns, std::string_view path, std::string what);

  // For the end of collect(): an error if nothing was emitted, absent if nothing went wrong either.
  Result<void> outcome() const;

 private:
  // `blue: net/snmp`; ours has no name.
  std::string name_of(const NamespaceSource& netns, std::string_view path) const;
  bool is_ours(const NamespaceSource& netns) const { return &netns == &ours(); }

  const KernelSource& source_;
  Sink& sink_;
  const std::vector<NamespaceSource> namespaces_;
  std::string absent_;  // of the first file that is not there
  std::string read_;    // the first that is
};

// read_parsed() for a parser of this room: the record alone. For those who read a file beside its
// collector, which tells of what could not be parsed.
template <typename Parse>
requires requires(Parse parse) { parse(std::string_view()).record; }
auto read_parsed(const KernelSource& source, std::string_view path, Parse parse)
    -> Result<decltype(parse(std::string_view()).record)> {
  const auto text = source.read(path);
  if (!text) return text.error();
  return parse(std::string_view(*text)).record;
}

}  // namespace tcpvitals
