#include "agent/config/host_check.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <filesystem>
#include <optional>
#include <system_error>

#include "base/log.h"
#include "server/audit/audit_file.h"
#include "server/tls.h"

namespace tcpvitals {
namespace {

std::optional<TlsFault> fault_of(const TlsOptions& options) {
  TlsFault fault;
  const auto context = TlsContext::load(options, &fault);
  if (!context) return fault;
  return (*context)->doubt(
      std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now()));
}

std::string text_of(int error) { return std::generic_category().message(error); }

// Empty: an audit log can be written there.
std::string audit_trouble(const std::string& path) {
  if (AuditFile::is_standard(path)) return "";
  struct stat status {};
  if (::stat(path.c_str(), &status) == 0) {
    if (S_ISDIR(status.st_mode)) return text_of(EISDIR);
    if (::access(path.c_str(), W_OK) == 0) return "";
    return text_of(errno) + ": give it to the agent's user";
  }
  if (errno != ENOENT) return text_of(errno);
  const std::string directory = std::filesystem::path(path).parent_path();
  if (::access(directory.c_str(), W_OK | X_OK) == 0) return "";
  return directory + ": " + text_of(errno) + ": make the directory, for the agent's user to write";
}

}  // namespace

std::vector<HostProblem> check_host(const ServerConfig& config, const std::string& file) {
  std::vector<HostProblem> problems;
  for (const TlsSource& tls : config.tls) {
    const auto fault = fault_of(tls.options);
    if (!fault) continue;
    const auto place = std::find_if(tls.places.begin(), tls.places.end(),
                                    [&](const auto& row) { return row.first == fault->file; });
    problems.push_back({file + ":" + place->second + fault->reason, false});
  }
  if (config.audit.path.empty()) return problems;
  if (const std::string trouble = audit_trouble(config.audit.path); !trouble.empty()) {
    problems.push_back({file + ":" + config.audit_place + trouble, true});
  }
  return problems;
}

void log_problems(const std::vector<HostProblem>& problems) {
  for (const HostProblem& problem : problems) {
    log_error("configuration does not work on this host", {{"error", problem.message}});
  }
}

}  // namespace tcpvitals
