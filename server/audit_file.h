// AuditFile: a file that is only appended to, and that holds whole lines whatever goes wrong.
//
// One thread at a time; nothing blocks but a disk. May share the file with other processes that
// append whole lines: by a lock (flock) they know a line that is being written from one that was
// left unfinished.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "base/fd.h"
#include "base/result.h"

namespace tcpvitals {

class AuditFile {
 public:
  // Creates it with mode 0640. Should it end within a line, because a machine went down, that line
  // is ended; one that somebody is writing is left to him. A pipe must have a reader.
  static Result<AuditFile> open(const std::string& path);

  AuditFile() = default;

  struct Written {
    std::size_t bytes = 0;  // of whole lines
    int error = 0;          // errno, why it is not all; EAGAIN: a pipe is full
  };
  // Appends as many of the lines as it can. A line it could not end is taken back; the next call
  // begins with that line again.
  Written append(std::string_view lines);

  bool valid() const { return fd_.valid(); }
  int fd() const { return fd_.get(); }

 private:
  explicit AuditFile(Fd fd) : fd_(std::move(fd)) {}

  Written write_lines(std::string_view lines);
  bool take_back(std::size_t bytes);

  Fd fd_;
  std::size_t begun_ = 0;  // of the next line, out already: a pipe takes nothing back
};

}  // namespace tcpvitals
