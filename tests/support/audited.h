// An audit log in a directory of its own, and the lines that were written to it.
#pragma once

#include <doctest/doctest.h>

#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "server/audit/audit.h"
#include "tests/support/serving.h"
#include "tests/support/tls_testing.h"

namespace tcpvitals::testing {

using Json = nlohmann::json;

// The lines of an audit log, by event.
struct Audited {
  Directory directory;
  std::unique_ptr<AuditLog> log = std::move(*AuditLog::open({.path = directory.path("audit")}));

  std::vector<Json> lines(const std::string& event) {
    CHECK(log->flush(Clock::now() + 10s));
    std::vector<Json> found;
    std::ifstream file(directory.path("audit"));
    for (std::string line; std::getline(file, line);) {
      Json parsed = Json::parse(line);
      if (parsed["event"] == event) found.push_back(std::move(parsed));
    }
    return found;
  }
};

}  // namespace tcpvitals::testing
