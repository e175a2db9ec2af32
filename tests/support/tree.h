// A tree of directories for one test; their inodes are real.
#pragma once

#include <doctest/doctest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <string>

namespace tcpvitals::testing {

class Tree {
 public:
  Tree() {
    char path[] = "/tmp/tcpvitals-tree-XXXXXX";
    REQUIRE(::mkdtemp(path) != nullptr);
    root_ = path;
  }
  ~Tree() { std::filesystem::remove_all(root_); }
  Tree(const Tree&) = delete;
  Tree& operator=(const Tree&) = delete;

  std::string path(const std::string& p) const { return root_ + p; }

  // Their inodes.
  std::uint64_t make(const std::string& p) const {
    std::filesystem::create_directories(path(p));
    return id(p);
  }
  std::uint64_t id(const std::string& p) const {
    struct stat status {};
    REQUIRE(::stat(path(p).c_str(), &status) == 0);
    return status.st_ino;
  }
  void remove(const std::string& p) const { std::filesystem::remove_all(path(p)); }
  void move(const std::string& from, const std::string& to) const {
    std::filesystem::rename(path(from), path(to));
  }

 private:
  std::string root_;
};

}  // namespace tcpvitals::testing
