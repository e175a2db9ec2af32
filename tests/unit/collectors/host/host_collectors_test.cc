// The list of the host's collectors, and the files that follow from it.
#include "collectors/host/host_collectors.h"

#include <algorithm>

#include "tests/support/testing.h"

using namespace tcpvitals;
using namespace tcpvitals::testing;

namespace {

bool contains(std::span<const std::string> files, std::string_view file) {
  return std::find(files.begin(), files.end(), file) != files.end();
}

}  // namespace

TEST_CASE("a metric's files are the words of its source that begin with /proc/") {
  using Files = std::vector<std::string_view>;
  const auto files = [](std::string_view source) {
    return files_of({"x", MetricType::kGauge, "", {}, source});
  };
  CHECK(files("/proc/net/snmp TcpOutSegs") == Files{"net/snmp"});
  CHECK(files("/proc/self/stat starttime, /proc/stat btime") == Files{"self/stat", "stat"});
  CHECK(files("/proc/sys/net/core, /proc/sys/net/ipv4") == Files{"sys/net/core", "sys/net/ipv4"});
  CHECK(files("").empty());
}

TEST_CASE("the files of a namespace are those of the metrics that have its label, each once") {
  const auto files = namespace_files();
  CHECK(std::is_sorted(files.begin(), files.end()));
  CHECK(std::adjacent_find(files.begin(), files.end()) == files.end());
  for (const char* file :
       {"net/snmp", "net/snmp6", "net/netstat", "net/sockstat", "net/sockstat6",
        "sys/net/ipv4/ip_local_port_range", "sys/net/ipv4/ip_local_reserved_ports",
        "sys/net/ipv4/tcp_max_tw_buckets"}) {
    CAPTURE(file);
    CHECK(contains(files, file));
  }
  CHECK_FALSE(contains(files, "sys/net/ipv4/tcp_mem"));  // one for the whole machine
  CHECK_FALSE(contains(files, "self/stat"));
}

TEST_CASE("what a collector reads of another namespace is among the files opened in each") {
  const ProcSource host = fixture_source("6.18-host");
  const ProcSource captured = fixture_source("6.18-namespace");
  for (const HostCollector& entry : host_collectors()) {
    const auto blue = std::make_shared<FailingSource>(captured);
    NamespaceSources sources(host);
    sources.publish("host", {{"blue", blue}});
    const auto collector = entry.make(sources, {});
    REQUIRE(collector.ok());
    CHECK(collect(**collector).outcome.ok());
    for (const std::string& path : blue->paths()) {
      CAPTURE(path);
      CHECK(contains(namespace_files(), path));
    }
  }
}

TEST_CASE("what a collector reads is a source of one of its metrics, or lies below one") {
  const ProcSource host = fixture_source("6.18-host");
  for (const HostCollector& entry : host_collectors()) {
    const FailingSource recorder(host);
    const auto collector = entry.make(recorder, {});
    REQUIRE(collector.ok());
    CHECK(collect(**collector).outcome.ok());
    for (const std::string& path : recorder.paths()) {
      CAPTURE(path);
      bool named = false;
      for (const MetricDesc& desc : (*collector)->metrics()) {
        for (const std::string_view file : files_of(desc)) {
          named = named || path == file || path.starts_with(std::string(file) + "/");
        }
      }
      CHECK(named);
    }
  }
}
