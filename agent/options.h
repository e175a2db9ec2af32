// The command line: every flag, its default, and what it may be.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "agent/config/config.h"
#include "base/ip.h"
#include "base/log.h"
#include "collectors/all.h"
#include "server/options.h"

namespace tcpvitals {

struct Options {
  std::vector<Endpoint> web_addresses;  // at least one
  std::string metrics_path;
  unsigned max_requests = 0;
  std::size_t max_response_bytes = 0;
  bool api_remote = false;
  bool lifecycle = false;  // POST /-/reload

  std::string config_file;    // empty: defaults
  bool check_config = false;  // say whether the file is good, do nothing else
  ConfigFlags config_flags;

  CollectorOptions collectors;
  std::string procfs;

  std::vector<Endpoint> server_addresses;  // of echo listeners
  bool server_addresses_given = false;     // on the command line
  ConnectionSeriesOptions connection_series;
  bool server_metrics = true;
  bool audit_metrics = true;
  bool config_metrics = true;

  LogLevel log_level = LogLevel::kInfo;
  LogFormat log_format = LogFormat::kLogfmt;

  std::string answer;  // --help and --version: print this, do nothing else
};

// Every collector that has a flag --[no-]collector.NAME.
std::vector<std::string> all_collector_names();

// The only function here that throws, because the library behind it does: a std::exception whose
// what() is the one line that names the flag, the value and what would be right.
Options parse_options(int argc, const char* const* argv);

}  // namespace tcpvitals
