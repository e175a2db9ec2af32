#include "agent/options.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <charconv>
#include <iterator>
#include <memory>
#include <sstream>
#include <utility>

#include "collectors/all.h"
#include "exporter/http.h"
#include "version.h"

namespace tcpvitals {
namespace {

// What a validator says is wrong with a value; empty: nothing.
using Complaint = std::string;

template <typename T>
auto accepted_by(Result<T> (*parse)(std::string_view)) {
  return [parse](const std::string& text) -> Complaint {
    const auto parsed = parse(text);
    return parsed ? "" : parsed.error().message;
  };
}

template <typename T>
auto number_between(T lowest, T highest) {
  return [=](const std::string& text) -> Complaint {
    T value{};
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    const bool whole = error == std::errc() && end == text.data() + text.size();
    if (whole && value >= lowest && value <= highest) return "";
    return fmt::format("\"{}\": expected a number from {} to {}", text, lowest, highest);
  };
}

Complaint is_directory(const std::string& text) {
  struct stat status {};
  if (::stat(text.c_str(), &status) != 0) return errno_error("\"" + text + "\"", errno).message;
  return S_ISDIR(status.st_mode) ? "" : fmt::format("\"{}\": expected a directory", text);
}

constexpr char kCollectors[] = "Collectors";

// Collectors that are made where what they tell of is made.
constexpr std::pair<const char*, bool Options::*> kOwnCollectors[] = {
    {"server", &Options::server_metrics},
    {"audit", &Options::audit_metrics},
    {"config", &Options::config_metrics}};

// The layout of --help: two columns, in groups, each flag with its default.
class HelpFormatter final : public CLI::Formatter {
 public:
  HelpFormatter() { column_width(46); }

  std::string make_usage(const CLI::App* /*app*/, std::string name) const override {
    return fmt::format("Usage: {} [FLAG]...\n\n", name);
  }
  // One line stands for the two flags that each collector has.
  std::string make_group(std::string group, bool is_positional,
                         std::vector<const CLI::Option*> options) const override {
    std::stringstream out;
    out << CLI::Formatter::make_group(group, is_positional, std::move(options));
    if (group == kCollectors) {
      const std::string names = fmt::format("{}", fmt::join(all_collector_names(), " "));
      CLI::detail::format_help(out, "--[no-]collector.NAME",
                               "Start it or not; all are started by default:\n" + names,
                               get_column_width());
    }
    return out.str().substr(1);  // the caller separates groups too
  }
  std::string make_option_opts(const CLI::Option* option) const override {
    return option->get_type_size() == 0 ? "" : " " + option->get_type_name();
  }
  std::string make_option_desc(const CLI::Option* option) const override {
    const std::string standard = option->get_default_str();
    return option->get_description() + (standard.empty() ? "" : fmt::format(" [{}]", standard));
  }
};

}  // namespace

std::vector<std::string> all_collector_names() {
  std::vector<std::string> names(collector_names().begin(), collector_names().end());
  for (const auto& [name, enabled] : kOwnCollectors) names.emplace_back(name);
  return names;
}

Options parse_options(int argc, const char* const* argv) {
  Options options;
  std::vector<std::string> web_addresses = {"127.0.0.1:10077"};
  std::vector<std::string> server_addresses = {"127.0.0.1:10078"};
  std::string log_level = "info";
  std::string log_format = "logfmt";
  options.metrics_path = "/metrics";
  options.max_requests = 40;
  options.max_response_bytes = std::size_t{8} << 20;
  options.procfs = "/proc";

  CLI::App app("TCP vital signs of this host, for Prometheus.", "tcpvitals");
  app.formatter(std::make_shared<HelpFormatter>());
  app.set_help_flag();  // as a plain flag below: the library's own leaves by exception
  app.option_defaults()->always_capture_default();

  const auto value = [&](const char* group, const char* flag, auto& target, const char* type,
                         const char* description) {
    return app.add_option(flag, target, description)->group(group)->type_name(type);
  };
  value("Web", "--web.listen-address", web_addresses, "ADDRESS:PORT",
        "Where /metrics and the page are served; may be given several times")
      ->check(accepted_by(parse_endpoint))
      ->allow_extra_args(false)
      ->default_str(web_addresses[0]);
  value("Web", "--web.telemetry-path", options.metrics_path, "PATH", "Where the metrics are")
      ->check(accepted_by(check_metrics_path));
  value("Web", "--web.max-requests", options.max_requests, "N",
        "Scrapes and page views at once; one more is answered 503")
      ->check(number_between(1U, 1000U));
  value("Web", "--web.max-response-bytes", options.max_response_bytes, "N",
        "Bytes of /metrics before compression; what does not fit is counted as dropped")
      ->check(number_between(std::size_t{1} << 16, std::size_t{1} << 30));
  app.add_flag("--web.api-remote", options.api_remote,
               "Let the API answer more than loopback: it names every peer's address")
      ->group("Web");
  app.add_flag("--web.enable-lifecycle", options.lifecycle,
               "Let POST /-/reload read --config.file again, as SIGHUP does")
      ->group("Web");

  auto* const config_file = value("Configuration", "--config.file", options.config_file, "PATH",
                                  "YAML, see docs/configuration.md; a flag overrides it");
  app.add_flag("--config.check", options.check_config,
               "Say whether --config.file is right, and do nothing else")
      ->group("Configuration")
      ->needs(config_file);

  const auto limit = [&](const std::string& flag, auto lowest, auto highest, auto standard,
                         const char* type, std::string_view description, auto use) {
    app.add_option_function<decltype(standard)>("--connections." + flag, use,
                                                std::string(description))
        ->group("Connections")
        ->type_name(type)
        ->default_str(fmt::format("{}", standard))
        ->check(number_between(lowest, highest));
  };
  const ConnectionsConfig standard;
  ConfigFlags& given = options.config_flags;
  limit("cpu-budget", kLowestCpuBudget, kHighestCpuBudget, standard.cpu_budget, "SHARE",
        "Share of one core that sampling may use", [&](double share) { given.cpu_budget = share; });
  for (const LimitOption& row : kLimitOptions) {
    limit(std::string(row.flag), row.lowest, row.highest, standard.limits.*row.value, "N", row.help,
          [&](std::size_t n) { given.limits.emplace_back(row.value, n); });
  }

  std::size_t& event_buffer = options.collectors.connections.event_buffer_bytes;
  limit("event-buffer", std::size_t{1} << 16, std::size_t{1} << 30, event_buffer, "BYTES",
        "Buffer for events, of 8 sockets together; without CAP_NET_ADMIN each has "
        "net.core.rmem_max at most",
        [&](std::size_t n) { event_buffer = n; });

  auto* const echo =
      value("Embedded server", "--server.listen-address", server_addresses, "ADDRESS:PORT",
            "Where the echo server listens, may be given several times; empty: nowhere")
          ->check([](const std::string& text) {
            return text.empty() ? "" : accepted_by(parse_endpoint)(text);
          })
          ->allow_extra_args(false)
          ->default_str(server_addresses[0]);
  value("Embedded server", "--server.connection-series", options.connection_series.slots, "N",
        "Worst connections that have series of their own, at once")
      ->check(number_between(std::size_t{0}, std::size_t{1000}));
  value("Embedded server", "--server.connection-series-per-hour",
        options.connection_series.new_per_hour, "N",
        "Connections that get series of their own in any hour, at most")
      ->check(number_between(std::size_t{1}, std::size_t{100'000}));

  value(kCollectors, "--collector.netstat.fields", options.collectors.host.netstat_fields, "REGEX",
        "Further fields of /proc/net/netstat to serve, by a regular expression");
  value(kCollectors, "--path.procfs", options.procfs, "DIRECTORY", "Where procfs is mounted")
      ->check(is_directory);
  bool none_by_default = false;
  app.add_flag("--collector.disable-defaults", none_by_default,
               "Start only the collectors that a flag names")
      ->group(kCollectors);
  std::vector<std::pair<std::string, const CLI::Option*>> switches;
  for (const std::string& name : all_collector_names()) {
    const std::string flag = fmt::format("--collector.{0},!--no-collector.{0}", name);
    switches.emplace_back(name, app.add_flag(flag)->group(""));
  }

  value("Log", "--log.level", log_level, "LEVEL", "debug, info, warn or error")
      ->check(accepted_by(parse_log_level));
  value("Log", "--log.format", log_format, "FORMAT", "logfmt or json")
      ->check(accepted_by(parse_log_format));
  bool version = false;
  bool help = false;
  app.add_flag("--version", version, "Print the version")->group("Other");
  app.add_flag("-h,--help", help, "Print this")->group("Other");

  std::vector<std::string> arguments;  // last first, as the library wants them
  for (int i = argc - 1; i > 0; --i) {
    arguments.emplace_back(argv[i]);
    // The library would take the argument after `--flag=` for its value; the value is empty.
    if (arguments.back().rfind("--", 0) != 0 || arguments.back().back() != '=') continue;
    arguments.back().pop_back();
    arguments.insert(arguments.end() - 1, "");
  }
  app.parse(std::move(arguments));

  if (help) options.answer = app.help();
  if (version) options.answer = "tcpvitals " TCPVITALS_VERSION "\n";
  for (const std::string& text : web_addresses) {
    options.web_addresses.push_back(*parse_endpoint(text));
  }
  options.server_addresses_given = echo->count() > 0;
  for (const std::string& text : server_addresses) {
    if (!text.empty()) options.server_addresses.push_back(*parse_endpoint(text));
  }
  options.log_level = *parse_log_level(log_level);
  options.log_format = *parse_log_format(log_format);
  for (const auto& [name, flag] : switches) {
    const bool enabled = flag->count() > 0 ? flag->as<bool>() : !none_by_default;
    const auto own =
        std::find_if(std::begin(kOwnCollectors), std::end(kOwnCollectors),
                     [&wanted = name](const auto& row) { return row.first == wanted; });
    if (own != std::end(kOwnCollectors)) {
      options.*own->second = enabled;
    } else if (enabled) {
      options.collectors.names.push_back(name);
    }
  }
  return options;
}

}  // namespace tcpvitals
