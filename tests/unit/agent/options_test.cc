#include "agent/options.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <exception>

using namespace tcpvitals;

namespace {

Options parsed(std::vector<const char*> arguments) {
  arguments.insert(arguments.begin(), "tcpvitals");
  return parse_options(static_cast<int>(arguments.size()), arguments.data());
}

// The complaint about a command line; empty: it was accepted.
std::string complaint(std::vector<const char*> arguments) {
  try {
    parsed(std::move(arguments));
    return "";
  } catch (const std::exception& e) {
    return e.what();
  }
}

std::vector<std::string> enabled(const Options& options) {
  std::vector<std::string> names = options.collectors.names;
  if (options.server_metrics) names.push_back("server");
  if (options.audit_metrics) names.push_back("audit");
  if (options.config_metrics) names.push_back("config");
  return names;
}

bool contains(const std::string& text, const char* part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("without a flag everything has its default") {
  const Options o = parsed({});
  REQUIRE(o.web_addresses.size() == 1);
  CHECK(to_string(o.web_addresses[0]) == "127.0.0.1:10077");
  CHECK(o.metrics_path == "/metrics");
  CHECK(o.max_requests == 40);
  CHECK_FALSE(o.api_remote);
  REQUIRE(o.server_addresses.size() == 1);
  CHECK(to_string(o.server_addresses[0]) == "127.0.0.1:10078");
  CHECK_FALSE(o.server_addresses_given);
  CHECK(o.connection_series.slots == 20);
  CHECK(o.connection_series.new_per_hour == 60);
  CHECK(o.collectors.connections.event_buffer_bytes == 8 << 20);
  CHECK(default_config(o.config_flags).connections == ConnectionsConfig{});
  CHECK(o.config_file == "");
  CHECK_FALSE(o.check_config);
  CHECK_FALSE(o.lifecycle);
  CHECK(enabled(o) == all_collector_names());
  CHECK(o.collectors.host.netstat_fields == "");
  CHECK(o.procfs == "/proc");
  CHECK(o.log_level == LogLevel::kInfo);
  CHECK(o.log_format == LogFormat::kLogfmt);
  CHECK(o.answer == "");
}

TEST_CASE("each flag sets what it names, with = or a space") {
  const Options o = parsed({"--web.listen-address=[0.0.0.0]:9",
                            "--web.telemetry-path",
                            "/m",
                            "--web.max-requests=3",
                            "--server.listen-address=",
                            "--server.connection-series=0",
                            "--server.connection-series-per-hour=7",
                            "--connections.cpu-budget=0.5",
                            "--connections.max-tracked=1000",
                            "--connections.max-groups=7",
                            "--connections.event-buffer=65536",
                            "--collector.netstat.fields=^TcpExt",
                            "--path.procfs=/tmp",
                            "--log.level=debug",
                            "--log.format=json",
                            "--connections.max-peers=8",
                            "--connections.max-cgroups=9",
                            "--connections.max-namespaces=10",
                            "--connections.max-listeners=11",
                            "--config.file=/a b.yml",
                            "--config.check",
                            "--web.enable-lifecycle",
                            "--web.api-remote"});
  REQUIRE(o.web_addresses.size() == 1);
  CHECK(to_string(o.web_addresses[0]) == "0.0.0.0:9");
  CHECK(o.metrics_path == "/m");
  CHECK(o.max_requests == 3);
  CHECK(o.api_remote);
  CHECK(o.server_addresses.empty());
  CHECK(o.server_addresses_given);
  CHECK(o.connection_series.slots == 0);
  CHECK(o.connection_series.new_per_hour == 7);
  const ConnectionsConfig c = default_config(o.config_flags).connections;
  CHECK(c.cpu_budget == 0.5);
  CHECK(o.collectors.connections.event_buffer_bytes == 65536);
  CHECK(c.limits == ConnectionLimits{1000, 7, 8, 9, 10, 11});
  CHECK(o.config_file == "/a b.yml");
  CHECK(o.check_config);
  CHECK(o.lifecycle);
  CHECK(o.collectors.host.netstat_fields == "^TcpExt");
  CHECK(o.procfs == "/tmp");
  CHECK(o.log_level == LogLevel::kDebug);
  CHECK(o.log_format == LogFormat::kJson);
}

TEST_CASE("collectors are switched one by one, or all but those named") {
  using Names = std::vector<std::string>;
  for (const std::string& name : all_collector_names()) {
    CAPTURE(name);
    Names others = all_collector_names();
    others.erase(std::find(others.begin(), others.end(), name));
    CHECK(enabled(parsed({("--no-collector." + name).c_str()})) == others);
    CHECK(enabled(parsed({"--collector.disable-defaults", ("--collector." + name).c_str()})) ==
          Names{name});
  }
  CHECK(enabled(parsed({"--collector.disable-defaults"})).empty());
}

TEST_CASE("what is wrong is one line that names the flag, the value and what would be right") {
  const struct {
    std::vector<const char*> arguments;
    std::vector<const char*> parts;
  } kTable[] = {
      {{"--nope"}, {"--nope", "not expected"}},
      {{"extra"}, {"extra", "not expected"}},
      {{"--collector.nope"}, {"--collector.nope", "not expected"}},
      {{"--web.listen-address", "localhost"},
       {"--web.listen-address", "\"localhost\"", "127.0.0.1:10077"}},
      {{"--web.listen-address", "127.0.0.1:99999"}, {"--web.listen-address", "99999"}},
      {{"--web.listen-address="}, {"--web.listen-address", "ADDRESS:PORT"}},
      {{"--web.max-requests", "0"}, {"--web.max-requests", "\"0\"", "from 1 to 1000"}},
      {{"--web.max-requests", "4x"}, {"--web.max-requests", "\"4x\"", "from 1 to 1000"}},
      {{"--web.max-requests"}, {"--web.max-requests", "missing"}},
      {{"--web.telemetry-path", "metrics"}, {"--web.telemetry-path", "\"metrics\"", "/metrics"}},
      {{"--web.telemetry-path", "/"}, {"--web.telemetry-path", "\"/\""}},
      {{"--web.telemetry-path", "/-/ready"}, {"--web.telemetry-path", "/-/ has pages of its own"}},
      {{"--connections.cpu-budget", "nan"}, {"--connections.cpu-budget", "\"nan\"", "0.001"}},
      {{"--connections.max-groups", "-1"}, {"--connections.max-groups", "\"-1\""}},
      {{"--connections.max-peers", "3"}, {"--connections.max-peers", "\"3\"", "from 4 to 255"}},
      {{"--connections.max-namespaces="}, {"--connections.max-namespaces", "from 1 to"}},
      {{"--config.check"}, {"--config.check", "--config.file"}},
      {{"--server.listen-address", "x"}, {"--server.listen-address", "\"x\"", "ADDRESS:PORT"}},
      {{"--path.procfs", "/no/such"}, {"--path.procfs", "\"/no/such\"", "No such file"}},
      {{"--path.procfs", "/dev/null"}, {"--path.procfs", "\"/dev/null\"", "directory"}},
      {{"--log.level", "loud"}, {"--log.level", "\"loud\"", "debug, info, warn or error"}},
      {{"--log.format", "xml"}, {"--log.format", "\"xml\"", "logfmt or json"}},
  };
  for (const auto& row : kTable) {
    const std::string line = complaint(row.arguments);
    CAPTURE(line);
    CHECK(!line.empty());
    CHECK(!contains(line, "\n"));
    for (const char* part : row.parts) CHECK(contains(line, part));
  }
}

TEST_CASE("--help tells every flag and its default; --version the version") {
  const std::string help = parsed({"--help"}).answer;
  for (const char* part : {"--web.listen-address ADDRESS:PORT",
                           "[127.0.0.1:10077]",
                           "--web.telemetry-path",
                           "--web.max-requests",
                           "--web.max-response-bytes",
                           "--web.api-remote",
                           "--server.listen-address",
                           "--server.connection-series N",
                           "--server.connection-series-per-hour N",
                           "--connections.cpu-budget",
                           "--connections.max-tracked",
                           "--connections.max-groups",
                           "--connections.max-peers",
                           "--connections.max-cgroups",
                           "--connections.max-namespaces",
                           "--connections.max-listeners",
                           "--config.file PATH",
                           "--config.check",
                           "--web.enable-lifecycle",
                           "--[no-]collector.NAME",
                           "--collector.disable-defaults",
                           "--collector.netstat.fields",
                           "--path.procfs",
                           "--log.level",
                           "--log.format",
                           "--version"}) {
    CAPTURE(part);
    CHECK(contains(help, part));
  }
  for (const std::string& name : all_collector_names()) CHECK(contains(help, name.c_str()));
  CHECK(parsed({"--version"}).answer.rfind("tcpvitals ", 0) == 0);
}
