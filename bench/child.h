// Child: a program the bench started, talked to over pipes and signalled only by its own pid.
//
// It ends with the bench, however that ends. What cannot be done ends the bench with one line.
// Single-threaded use.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "base/fd.h"

namespace tcpvitals::bench {

[[noreturn]] void die(const std::string& what);

class Child {
 public:
  enum class Output { kRead, kDiscard };  // of stdout; stderr stays ours

  // `argv[0]` is looked up in PATH.
  Child(const std::vector<std::string>& argv, Output output);
  Child(Child&& other) noexcept;
  Child& operator=(Child&&) = delete;
  ~Child();  // kills it, unless it has ended

  // The next line of its stdout, without the newline; dies if there is none.
  std::string read_line();

  void close_stdin() { stdin_.reset(); }

  // Waits for its end, which must be exit(0); the CPU seconds it took in all.
  double wait();

  // CPU seconds so far, of all its threads.
  double cpu_seconds() const;

  // A field of /proc/PID/status in bytes: VmRSS, VmHWM.
  std::size_t memory(const std::string& field) const;
  std::size_t descriptors() const;

 private:
  std::string name_;
  pid_t pid_ = -1;
  Fd stdin_;
  Fd stdout_;
};

}  // namespace tcpvitals::bench
