// What holds for every collector of the host alike.
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <regex>

#include "collectors/all.h"
#include "tests/fixtures/replay.h"
#include "tests/support/testing.h"

using namespace tcpvitals;
using namespace tcpvitals::testing;

namespace {

constexpr const char* kFixtures[] = {"6.18-host", "6.18-namespace", "5.10-reduced", "4.19-reduced"};

std::vector<std::unique_ptr<Collector>> make(const KernelSource& source,
                                             std::vector<std::string> names) {
  CollectorOptions options;
  options.names = std::move(names);
  options.host.netstat_fields = ".*";
  options.connections.open_sockets = [](std::size_t) {
    return replay_sockets(fixture_path("6.18-states"));
  };
  auto collectors = make_collectors(source, options);
  REQUIRE(collectors.ok());
  return std::move(collectors->all);
}

std::vector<std::unique_ptr<Collector>> make_all(const KernelSource& source) {
  return make(source, {collector_names().begin(), collector_names().end()});
}

// Those whose source is /proc. What connections reads there only scales it, and its own source is
// sock_diag: its faults are the sampler's tests. proc_tcp, which stands in for it, has its own.
std::vector<std::unique_ptr<Collector>> make_proc(const KernelSource& source) {
  std::vector<std::string> names{collector_names().begin(), collector_names().end()};
  for (const char* other : {"connections", "proc_tcp"}) {
    names.erase(std::find(names.begin(), names.end(), other));
  }
  return make(source, names);
}

const MetricDesc* find_desc(const Collector& collector, const std::string& name) {
  for (const MetricDesc& desc : collector.metrics()) {
    if (desc.name == name) return &desc;
  }
  return nullptr;
}

bool ends_in(std::string_view text, std::string_view suffix) { return text.ends_with(suffix); }

}  // namespace

TEST_CASE("every collector of the list can be built, alone or with all the others, in its order") {
  const ProcSource source("/proc");
  const auto all = make_all(source);
  REQUIRE(all.size() == collector_names().size());
  for (std::size_t i = 0; i < all.size(); ++i) CHECK(all[i]->name() == collector_names()[i]);

  CollectorOptions two;
  two.names = {"sockstat", "snmp"};
  const auto made = make_collectors(source, two);
  REQUIRE(made.ok());
  REQUIRE(made->all.size() == 2);
  CHECK(made->all[0]->name() == "snmp");
  CHECK(made->all[1]->name() == "sockstat");
}

TEST_CASE("an unknown collector or a bad regular expression is refused by name") {
  const ProcSource source("/proc");
  CollectorOptions unknown;
  unknown.names = {"snpm"};
  CHECK(make_collectors(source, unknown).error().message == "no collector is called \"snpm\"");
  CollectorOptions bad;
  bad.names = {"netstat"};
  bad.host.netstat_fields = "(";
  CHECK_FALSE(make_collectors(source, bad).ok());
}

TEST_CASE(
    "every family that a collector emits is one of its metrics, with the same labels and help") {
  for (const char* fixture : kFixtures) {
    const ProcSource source = fixture_source(fixture);
    for (const auto& collector : make_all(source)) {
      const Collected got = collect(*collector);
      INFO(fixture, ": ", collector->name());
      const bool fine = got.outcome.ok() || got.outcome.error().is_absent();
      CHECK(fine);
      for (const auto& family : got.families) {
        CAPTURE(family.name);
        const MetricDesc* desc = find_desc(*collector, family.name);
        REQUIRE(desc != nullptr);
        CHECK(family.help == desc->help);
        for (const auto& metric : family.metric) {
          auto wanted = desc->labels.begin();
          for (const auto& label : metric.label) {
            // Labels that one may group by and does not are left out.
            while (wanted != desc->labels.end() && *wanted != label.name) {
              CHECK((*wanted == "cgroup" || *wanted == "netns"));
              ++wanted;
            }
            REQUIRE(wanted != desc->labels.end());
            ++wanted;
            CHECK_FALSE(label.value.empty());
          }
        }
      }
    }
  }
}

TEST_CASE("every metric that a collector announces comes from one of the fixtures") {
  std::set<std::string> emitted;
  for (const char* fixture : kFixtures) {
    const ProcSource source = fixture_source(fixture);
    for (const auto& collector : make_all(source)) {
      for (const auto& family : collect(*collector).families) emitted.insert(family.name);
    }
  }
  const ProcSource source("/proc");
  for (const auto& collector : make_all(source)) {
    for (const MetricDesc& desc : collector->metrics()) {
      CAPTURE(desc.name);
      CHECK(emitted.count(std::string(desc.name)) == 1);
    }
  }
}

constexpr std::size_t kLongestSentence = 230;

// Help is read at 3 am.
std::vector<std::string_view> sentences(std::string_view help) {
  std::vector<std::string_view> found;
  while (!help.empty()) {
    const auto end = std::min(help.find(". "), help.size() - 1) + 1;
    found.push_back(help.substr(0, end));
    help.remove_prefix(std::min(end + 1, help.size()));
  }
  return found;
}

TEST_CASE("names, help and sources follow the rules, and no name is used twice") {
  const std::regex good_name("(tcp|tcpvitals|process)_[a-z0-9_]+[a-z0-9]");
  std::set<std::string_view> names;
  const ProcSource source("/proc");
  for (const auto& collector : make_all(source)) {
    for (const MetricDesc& desc : collector->metrics()) {
      CAPTURE(desc.name);
      // What stands in for connections says it under the same names.
      CHECK(names.insert(desc.name).second == (collector->name() != "proc_tcp"));
      CHECK(std::regex_match(std::string(desc.name), good_name));
      CHECK(ends_in(desc.name, "_total") == (desc.type == MetricType::kCounter));
      CHECK(desc.help.size() > 20);
      CHECK(ends_in(desc.help, "."));
      for (const std::string_view sentence : sentences(desc.help)) {
        CAPTURE(sentence);
        CHECK(sentence.size() <= kLongestSentence);
      }
      CHECK(desc.help.find_first_of("\n\t") == std::string_view::npos);
      const bool own = desc.name.starts_with("tcpvitals_");
      CHECK((own || !desc.source.empty()));
    }
  }
}

TEST_CASE("what stands in for connections has the types and labels that connections has") {
  const ProcSource source("/proc");
  const auto both = make(source, {"connections", "proc_tcp"});
  REQUIRE(both.size() == 2);
  for (const MetricDesc& desc : both[1]->metrics()) {
    CAPTURE(desc.name);
    const MetricDesc* const own = find_desc(*both[0], std::string(desc.name));
    REQUIRE(own != nullptr);
    CHECK(own->type == desc.type);
    CHECK(own->labels == desc.labels);
  }
  CHECK(collect(*both[1]).outcome.error().is_absent());
  CHECK(collect(*make(source, {"proc_tcp"})[0]).outcome.error().is_absent());
}

TEST_CASE("help refers only to metrics that exist") {
  const ProcSource source("/proc");
  std::set<std::string> names;
  for (const auto& collector : make_all(source)) {
    for (const MetricDesc& desc : collector->metrics()) names.emplace(desc.name);
  }
  const std::regex reference("(tcp_host|tcp_conntrack|process)_[a-z0-9_]+");
  for (const auto& collector : make_all(source)) {
    for (const MetricDesc& desc : collector->metrics()) {
      const std::string help(desc.help);
      for (std::sregex_iterator it(help.begin(), help.end(), reference), end; it != end; ++it) {
        CAPTURE(desc.name);
        CAPTURE(it->str());
        CHECK(names.count(it->str()) == 1);
      }
    }
  }
}

TEST_CASE("a file that is missing, cut off, garbage or unreadable costs only what comes from it") {
  const ProcSource real = fixture_source("6.18-host");
  const auto healthy = make_proc(real);
  for (std::size_t own = 0; own < healthy.size(); ++own) {
    const FailingSource recorder(real);
    REQUIRE(collect(*make_proc(recorder)[own]).outcome.ok());
    for (const std::string& path : recorder.paths()) {
      for (const Fault fault : kFaults) {
        CAPTURE(path);
        CAPTURE(static_cast<int>(fault));
        const FailingSource source(real, fault, path);
        const auto collectors = make_proc(source);
        for (std::size_t i = 0; i < collectors.size(); ++i) {
          CAPTURE(collectors[i]->name());
          const Collected whole = collect(*healthy[i]);
          const Collected got = collect(*collectors[i]);
          for (const auto& [sample, value] : got.samples) {
            if (!sample.starts_with("process_")) CHECK(whole.samples.contains(sample));
          }
          if (i != own) {
            CHECK(got.outcome.ok());
            CHECK(got.parse_errors.count == 0);
            CHECK(got.samples.size() == whole.samples.size());
            continue;
          }
          CHECK(got.samples.size() <= whole.samples.size());
          CHECK((got.parse_errors.count > 0) == (fault != Fault::kMissing));
          if (got.outcome.ok()) continue;
          CHECK(got.outcome.error().is_absent() == (fault == Fault::kMissing));
          CHECK(got.outcome.error().message.find(path) != std::string::npos);
        }
      }
    }
  }
}

TEST_CASE("fail the k-th read, for every k: exactly one collector tells of it, by file") {
  const ProcSource real = fixture_source("6.18-host");
  const FailingSource recorder(real);
  for (const auto& collector : make_proc(recorder)) REQUIRE(collect(*collector).outcome.ok());
  REQUIRE(recorder.calls() > 40);
  for (int k = 1; k <= recorder.calls(); ++k) {
    CAPTURE(k);
    const FailingSource source(real, Fault::kError, k);
    int told = 0;
    for (const auto& collector : make_proc(source)) {
      const Collected got = collect(*collector);
      told += got.parse_errors.count == 1;
      CHECK((got.outcome.ok() || got.parse_errors.count == 1));
    }
    CHECK(told == 1);
  }
}

TEST_CASE("a file that is not there is absent; one that may not be read is a failure") {
  const ProcSource source("/proc");
  CHECK(source.read("net/no_such_file").error().is_absent());
  CHECK(source.count_entries("no_such_directory").error().is_absent());
  const auto directory = source.read("net");
  REQUIRE_FALSE(directory.ok());
  CHECK_FALSE(directory.error().is_absent());
  CHECK_FALSE(source.count_entries("net/snmp").error().is_absent());
}

TEST_CASE("a file of any size comes in pieces, until its end or as long as it is wanted") {
  char path[] = "/tmp/tcpvitals-test-XXXXXX";
  REQUIRE(::mkdtemp(path) != nullptr);
  const std::string file = std::string(path) + "/large";
  const std::string whole = std::string(5 << 20, 'x') + "end";
  std::ofstream(file) << whole;
  const ProcSource source(path);
  CHECK(source.read("large").error().message == file + ": larger than 4 MiB");
  std::string all;
  int pieces = 0;
  const auto take = [&](std::string_view piece) {
    all.append(piece);
    return ++pieces != 1;
  };
  REQUIRE(source.read_pieces("large", take).ok());
  CHECK(pieces == 1);
  CHECK(all.size() < whole.size());
  all.clear();
  REQUIRE(source.read_pieces("large", take).ok());
  CHECK(all == whole);
  CHECK(source.read_pieces("small", take).error().is_absent());
  ::unlink(file.c_str());
  ::rmdir(path);
}
