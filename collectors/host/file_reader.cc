#include "collectors/host/file_reader.h"

#include <fmt/format.h>

namespace tcpvitals {

void FileReader::unreadable(const NamespaceSource& netns, const Error& error) {
  if (error.is_absent()) {
    if (absent_.empty()) absent_ = error.message;
  } else if (is_ours(netns)) {
    sink_.parse_errors().add(error.message);
  } else {
    source_.namespace_failed(netns.label, error);
  }
}

void FileReader::reject(const NamespaceSource& netns, std::string_view path, std::string what) {
  ParseErrors one;
  one.add(std::move(what));
  sink_.parse_errors().add(one, name_of(netns, path));
}

Result<void> FileReader::outcome() const {
  if (sink_.series() + sink_.dropped() > 0) return {};
  if (sink_.parse_errors().count > 0) return Error{sink_.parse_errors().first};
  return Error::absent(read_.empty() ? absent_ : read_ + ": has none of the fields");
}

std::string FileReader::name_of(const NamespaceSource& netns, std::string_view path) const {
  return is_ours(netns) ? std::string(path) : fmt::format("{}: {}", netns.label, path);
}

}  // namespace tcpvitals
