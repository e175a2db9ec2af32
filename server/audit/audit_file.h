// AuditFile: a file that is only appended to, and that holds whole lines whatever goes wrong.
//
// One thread at a time; nothing blocks but a disk, and kLockPatience once for a stranger's lock.
// May share the file with other processes that append whole lines: by a lock (flock) they know a
// line that is being written from one that was left unfinished. Whoever may read the file can lock
// it too, for ever: lines are then written without, and no other process takes them for unfinished.
//
// /dev/stdout and /dev/stderr are the descriptors of that name as they are, whatever they are: a
// file, a pipe, a terminal, a socket. A pipe that other processes write to as well may block.
#pragma once

#include <chrono>
#include <cstddef>
#include <string>
#include <string_view>

#include "base/fd.h"
#include "base/result.h"

namespace tcpvitals {

class AuditFile {
 public:
  static constexpr auto kLockPatience = std::chrono::milliseconds(100);

  // Creates it with mode 0640. Should it end within a line, because a machine went down, that line
  // is ended; one that somebody is writing is left to him. A pipe must have a reader.
  static Result<AuditFile> open(const std::string& path);

  AuditFile() = default;

  // /dev/stdout or /dev/stderr.
  static bool is_standard(const std::string& path);

  struct Written {
    std::size_t bytes = 0;  // of whole lines
    int error = 0;          // errno, why it is not all; EAGAIN: a pipe or socket is full
  };
  // Appends as many of the lines as it can. A line it could not end is taken back; the next call
  // begins with that line again.
  Written append(std::string_view lines);

  bool valid() const { return fd_.valid(); }
  int fd() const { return fd_.get(); }

 private:
  AuditFile(Fd fd, bool standard);

  Written write_lines(std::string_view lines);
  long write_some(std::string_view bytes) const;
  bool take_back(std::size_t bytes);

  Fd fd_;
  bool standard_ = false;  // shared with who started us: it may not be made nonblocking
  bool socket_ = false;
  bool stranger_ = false;  // holds the lock, and was waited for
  std::size_t begun_ = 0;  // of the next line, out already: a pipe takes nothing back
};

}  // namespace tcpvitals
