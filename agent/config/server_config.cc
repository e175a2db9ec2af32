#include "agent/config/server_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <utility>

namespace tcpvitals {
namespace {

using std::chrono::seconds;

constexpr std::size_t kMaxListeners = 100;
constexpr std::size_t kMaxPathLength = 4095;
constexpr std::uint32_t kMaxBuffer = 1 << 30;
constexpr std::uint32_t kMaxConnections = 1 << 24;
constexpr std::size_t kMaxPrefixes = 10'000;  // of one list
// The kernel's own: MAX_TCP_KEEPIDLE and MAX_TCP_KEEPINTVL, MAX_TCP_KEEPCNT.
constexpr seconds kLongestKeepAlive{32'767};
constexpr unsigned kMostProbes = 127;

// A value that has a name, and what it stands for.
template <typename T>
struct Choice {
  std::string_view key;
  T value;
};

template <typename T, std::size_t n>
Result<void> read_choice(const ConfigField& field, const Choice<T> (&choices)[n], T& out) {
  return for_row_of(field, choices, [&](const Choice<T>& choice) -> Result<void> {
    out = choice.value;
    return {};
  });
}

Result<void> read_address(const ConfigField& field, Endpoint& out) {
  const auto endpoint = parse_endpoint(field.node.text);
  if (!endpoint) {
    return field.error("expected ADDRESS:PORT such as 127.0.0.1:10078, [::1]:10078 or :10078");
  }
  out = *endpoint;
  return {};
}

Result<void> read_backend(const ConfigField& field, Endpoint& out) {
  const auto endpoint = parse_endpoint(field.node.text);
  if (!endpoint || endpoint->port == 0 || endpoint->address.is_any()) {
    return field.error("expected the ADDRESS:PORT of another server, such as 192.0.2.1:5432");
  }
  out = *endpoint;
  return {};
}

// Of a file; a path that is not absolute would depend on where the agent was started.
Result<void> read_path(const ConfigField& field, std::string& out) {
  const std::string& text = field.node.text;
  if (!text.starts_with('/') || text.ends_with('/') || text.size() > kMaxPathLength) {
    return field.error("expected the whole path of a file, such as /etc/tcpvitals/server.pem");
  }
  out = text;
  return {};
}

// One, or two: of an ECDSA and an RSA certificate, say.
Result<void> read_paths(const ConfigField& field, std::string& first, std::string& second) {
  if (field.node.items.size() > 2) return field.error("expected at most two files");
  std::string* out = &first;
  return for_each_value(field, [&](const ConfigField& value) {
    return read_path(value, *std::exchange(out, &second));
  });
}

Result<void> read_duration_or_off(const ConfigField& field, seconds& out) {
  if (field.node.text == "off") {
    out = seconds(0);
    return {};
  }
  if (auto read = read_duration(field, out); !read) {
    return field.error("expected off, or a duration from 1s to 1y, such as 90s, 5m or 1h30m");
  }
  return {};
}

// What the kernel keeps in a small field.
template <typename Unit>
Result<void> read_bounded_duration(const ConfigField& field, seconds highest, Unit& out) {
  seconds value;
  if (!read_duration(field, value) || value > highest) {
    return field.error(fmt::format("expected a duration from 1s to {}s", highest.count()));
  }
  out = value;
  return {};
}

Result<void> read_prefixes(const ConfigField& field, std::vector<IpPrefix>& out) {
  if (field.node.items.size() > kMaxPrefixes) {
    return field.error(fmt::format("expected at most {} prefixes", kMaxPrefixes));
  }
  return for_each_value(
      field, [&](const ConfigField& value) { return read_prefix(value, out.emplace_back()); });
}

Result<void> read_congestion_control(const ConfigField& field, std::string& out) {
  constexpr std::size_t kLongest = 15;  // TCP_CA_NAME_MAX, without its NUL
  const std::string& text = field.node.text;
  if (text.empty() || text.size() > kLongest ||
      text.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789_-") != std::string::npos) {
    return field.error(
        "expected a name such as cubic, one of net.ipv4.tcp_available_congestion_control");
  }
  out = text;
  return {};
}

constexpr Choice<HandlerKind> kHandlers[] = {{"echo", HandlerKind::kEcho},
                                             {"discard", HandlerKind::kDiscard},
                                             {"relay", HandlerKind::kRelay}};
constexpr Choice<std::optional<ProxyVersion>> kProxyVersions[] = {
    {"off", std::nullopt}, {"v1", ProxyVersion::kV1}, {"v2", ProxyVersion::kV2}};
constexpr Choice<ClientCertificate> kClientCertificates[] = {
    {"none", ClientCertificate::kNone},
    {"request", ClientCertificate::kRequest},
    {"require", ClientCertificate::kRequire}};

Result<void> read_keepalive(const ConfigField& field, KeepAlive& out) {
  constexpr ConfigKey<KeepAlive> kKeys[] = {
      {"idle", [](const ConfigField& f,
                  KeepAlive& k) { return read_bounded_duration(f, kLongestKeepAlive, k.idle); }},
      {"interval",
       [](const ConfigField& f, KeepAlive& k) {
         return read_bounded_duration(f, kLongestKeepAlive, k.interval);
       }},
      {"count",
       [](const ConfigField& f, KeepAlive& k) { return read_number(f, 1U, kMostProbes, k.count); }},
  };
  if (field.node.text == "off") {
    out.idle = seconds(0);
    return {};
  }
  if (field.node.kind == YamlNode::Kind::kScalar) return field.error("expected off, or a map");
  return read_keys(field, kKeys, out);
}

Result<void> read_per_peer(const ConfigField& field, PeerLimitOptions& out) {
  constexpr ConfigKey<PeerLimitOptions> kKeys[] = {
      {"connections",
       [](const ConfigField& f, PeerLimitOptions& p) {
         return read_number(f, std::uint32_t{1}, kMaxConnections, p.max_connections);
       }},
      {"rate", [](const ConfigField& f,
                  PeerLimitOptions& p) { return read_number(f, 0.001, 1e6, p.rate); }},
      {"burst",
       [](const ConfigField& f, PeerLimitOptions& p) {
         return read_number(f, std::uint32_t{1}, std::uint32_t{1'000'000}, p.burst);
       }},
      {"ipv4_prefix",
       [](const ConfigField& f, PeerLimitOptions& p) {
         return read_number(f, std::uint8_t{0}, std::uint8_t{32}, p.ipv4_length);
       }},
      {"ipv6_prefix",
       [](const ConfigField& f, PeerLimitOptions& p) {
         return read_number(f, std::uint8_t{0}, std::uint8_t{128}, p.ipv6_length);
       }},
      {"peers",
       [](const ConfigField& f, PeerLimitOptions& p) {
         return read_number(f, std::size_t{1}, std::size_t{kMaxConnections}, p.max_entries);
       }},
  };
  if (auto read = read_keys(field, kKeys, out); !read) return read;
  if (out.burst > 0 && out.rate == 0) {
    return value_of(field, "burst").error("expected a rate beside it");
  }
  if (!out.limits() && field.node.kind == YamlNode::Kind::kMap && !field.node.items.empty()) {
    return field.error("limits nothing: expected connections or rate in it");
  }
  return {};
}

Result<void> read_accept_rate(const ConfigField& field, AcceptRateOptions& out) {
  constexpr std::uint32_t kMost = 1'000'000;
  constexpr ConfigKey<AcceptRateOptions> kKeys[] = {
      {"soft",
       [](const ConfigField& f, AcceptRateOptions& a) {
         return read_number(f, std::uint32_t{1}, kMost, a.soft);
       }},
      {"hard",
       [](const ConfigField& f, AcceptRateOptions& a) {
         return read_number(f, std::uint32_t{1}, kMost, a.hard);
       }},
  };
  if (auto read = read_keys(field, kKeys, out); !read) return read;
  if (out.hard > 0 && out.hard < out.soft) {
    return value_of(field, "hard")
        .error(fmt::format("below the soft limit: expected at least {}", out.soft));
  }
  return {};
}

Result<void> read_deadlines(const ConfigField& field, Deadlines& out) {
  struct Row {
    std::string_view key;
    seconds Deadlines::*value;
  };
  constexpr Row kRows[] = {{"handshake", &Deadlines::handshake},
                           {"proxy", &Deadlines::proxy_header},
                           {"idle", &Deadlines::idle},
                           {"half_closed", &Deadlines::half_closed},
                           {"write_stall", &Deadlines::write_stall},
                           {"lifetime", &Deadlines::lifetime},
                           {"connect", &Deadlines::connect}};
  return for_each_row(field, kRows, [&](const Row& row, const ConfigField& value) {
    return read_duration_or_off(value, out.*row.value);
  });
}

Result<void> read_tls(const ConfigField& field, TlsOptions& out) {
  constexpr ConfigKey<TlsOptions> kKeys[] = {
      {"certificate",
       [](const ConfigField& f, TlsOptions& t) {
         return read_paths(f, t.certificate_file, t.second_certificate_file);
       }},
      {"key", [](const ConfigField& f,
                 TlsOptions& t) { return read_paths(f, t.key_file, t.second_key_file); }},
      {"client_ca",
       [](const ConfigField& f, TlsOptions& t) {
         // Whoever names it wants to know who comes; client_certificate may say less.
         t.client_certificate = ClientCertificate::kRequire;
         return read_path(f, t.client_ca_file);
       }},
      {"client_certificate", [](const ConfigField&, TlsOptions&) { return Result<void>(); }},
      {"max_handshakes",
       [](const ConfigField& f, TlsOptions& t) {
         return read_number(f, std::uint32_t{1}, std::uint32_t{100'000}, t.max_handshakes);
       }},
  };
  if (auto read = read_keys(field, kKeys, out); !read) return read;
  if (has_value(field, "client_certificate")) {
    const ConfigField wish = value_of(field, "client_certificate");
    if (auto read = read_choice(wish, kClientCertificates, out.client_certificate); !read) {
      return read;
    }
    if (out.client_certificate != ClientCertificate::kNone && out.client_ca_file.empty()) {
      return wish.error("expected client_ca beside it: who signs the clients' certificates");
    }
  }
  if (out.certificate_file.empty() || out.key_file.empty()) {
    return field.error("expected both certificate and key in it");
  }
  if (out.second_certificate_file.empty() != out.second_key_file.empty()) {
    return field.error("expected as many keys as certificates, in the same order");
  }
  return {};
}

Result<void> read_proxy_protocol(const ConfigField& field, std::vector<IpPrefix>& out) {
  constexpr ConfigKey<std::vector<IpPrefix>> kKeys[] = {{"trusted", read_prefixes}};
  if (auto read = read_keys(field, kKeys, out); !read) return read;
  if (out.empty()) {
    return field.error("expected trusted in it: the prefixes of the proxies, and of nobody else");
  }
  return {};
}

void note_tls(const ConfigField& listener, const TlsOptions& options, ServerConfig& out) {
  if (!options.enabled()) return;
  const ConfigField tls = value_of(listener, "tls");
  TlsSource& source = out.tls.emplace_back(TlsSource{options, {}});
  const auto note = [&](std::string_view key, auto... files) {
    std::array wanted{files...};
    std::size_t i = 0;
    (void)for_each_value(value_of(tls, key), [&](const ConfigField& value) -> Result<void> {
      if (i < wanted.size()) source.places.emplace_back(wanted[i++], value.error("").message);
      return {};
    });
  };
  note("certificate", &TlsOptions::certificate_file, &TlsOptions::second_certificate_file);
  note("key", &TlsOptions::key_file, &TlsOptions::second_key_file);
  note("client_ca", &TlsOptions::client_ca_file);
}

// The first four say where a listener stands and leads: not for those that serve the metrics.
constexpr std::size_t kPlaceKeys = 4;
constexpr ConfigKey<ListenerOptions> kListenerKeys[] = {
    {"address",
     [](const ConfigField& f, ListenerOptions& l) { return read_address(f, l.endpoint); }},
    {"handler",
     [](const ConfigField& f, ListenerOptions& l) { return read_choice(f, kHandlers, l.handler); }},
    {"backend",
     [](const ConfigField& f, ListenerOptions& l) { return read_backend(f, l.backend); }},
    {"send_proxy", [](const ConfigField& f,
                      ListenerOptions& l) { return read_choice(f, kProxyVersions, l.send_proxy); }},
    {"backlog",
     [](const ConfigField& f, ListenerOptions& l) {
       return read_number(f, std::uint32_t{1}, std::uint32_t{65'535}, l.backlog);
     }},
    {"max_connections",
     [](const ConfigField& f, ListenerOptions& l) {
       return read_number(f, std::uint32_t{1}, kMaxConnections, l.max_connections);
     }},
    {"max_output",
     [](const ConfigField& f, ListenerOptions& l) {
       return read_number(f, std::uint32_t{1024}, std::uint32_t{1 << 24}, l.max_output_bytes);
     }},
    {"keepalive",
     [](const ConfigField& f, ListenerOptions& l) { return read_keepalive(f, l.keepalive); }},
    {"user_timeout",
     [](const ConfigField& f, ListenerOptions& l) {
       return read_bounded_duration(f, std::chrono::days(7), l.user_timeout);
     }},
    {"nodelay", [](const ConfigField& f, ListenerOptions& l) { return read_flag(f, l.nodelay); }},
    {"fast_open",
     [](const ConfigField& f, ListenerOptions& l) {
       return read_number(f, std::uint32_t{0}, std::uint32_t{65'535}, l.fast_open);
     }},
    {"defer_accept",
     [](const ConfigField& f, ListenerOptions& l) {
       return read_bounded_duration(f, std::chrono::minutes(1), l.defer_accept);
     }},
    {"receive_buffer",
     [](const ConfigField& f, ListenerOptions& l) {
       return read_number(f, std::uint32_t{1024}, kMaxBuffer, l.receive_buffer);
     }},
    {"send_buffer",
     [](const ConfigField& f, ListenerOptions& l) {
       return read_number(f, std::uint32_t{1024}, kMaxBuffer, l.send_buffer);
     }},
    {"congestion_control",
     [](const ConfigField& f, ListenerOptions& l) {
       return read_congestion_control(f, l.congestion_control);
     }},
    {"allow", [](const ConfigField& f, ListenerOptions& l) { return read_prefixes(f, l.allow); }},
    {"deny", [](const ConfigField& f, ListenerOptions& l) { return read_prefixes(f, l.deny); }},
    {"per_peer",
     [](const ConfigField& f, ListenerOptions& l) { return read_per_peer(f, l.per_peer); }},
    {"accept_rate",
     [](const ConfigField& f, ListenerOptions& l) { return read_accept_rate(f, l.accept_rate); }},
    {"deadlines",
     [](const ConfigField& f, ListenerOptions& l) { return read_deadlines(f, l.deadlines); }},
    {"tls", [](const ConfigField& f, ListenerOptions& l) { return read_tls(f, l.tls); }},
    {"proxy_protocol",
     [](const ConfigField& f, ListenerOptions& l) { return read_proxy_protocol(f, l.proxy_from); }},
    {"audit", [](const ConfigField& f, ListenerOptions& l) { return read_flag(f, l.audit); }},
};

Result<void> read_web(const ConfigField& field, ServerConfig& out) {
  const auto keys = std::span(kListenerKeys).subspan<kPlaceKeys>();
  auto read = for_each_row(field, keys, [&](const auto& row, const ConfigField& value) {
    return row.read(value, out.web);
  });
  note_tls(field, out.web.tls, out);
  return read;
}

// What only the whole listener can tell.
Result<void> check_together(const ConfigField& field, const ListenerOptions& listener) {
  if (!has_value(field, "address")) return field.error("expected an address in it");
  if (listener.handler == HandlerKind::kRelay) {
    if (has_value(field, "backend")) return {};
    return field.error("expected a backend in it: where the relay leads");
  }
  for (const std::string_view key : {"backend", "send_proxy"}) {
    if (has_value(field, key))
      return value_of(field, key).error("expected handler: relay beside it");
  }
  return {};
}

Result<void> read_listeners(const ConfigField& field, ServerConfig& out) {
  if (field.node.items.size() / 2 > kMaxListeners) {
    return field.error(fmt::format("expected at most {} listeners", kMaxListeners));
  }
  std::map<Endpoint, std::pair<std::string, int>> owners;  // name and line
  return for_each_entry(
      field, [&](const ConfigField& key, const ConfigField& value) -> Result<void> {
        if (auto ok = check_name(key, {}); !ok) return ok;
        if (is_web_name(key.node.text)) {
          return key.error("the name of a --web.listen-address: expected another");
        }
        ListenerOptions listener;
        listener.name = key.node.text;
        if (auto read = read_keys(value, kListenerKeys, listener); !read) return read;
        if (auto ok = check_together(value, listener); !ok) return ok;
        const ConfigField address = value_of(value, "address");
        const auto [owner, is_new] =
            owners.emplace(listener.endpoint, std::pair(listener.name, address.node.line));
        if (!is_new && listener.endpoint.port != 0) {
          return address.error(fmt::format("a second time: {} has it in line {}",
                                           owner->second.first, owner->second.second));
        }
        note_tls(value, listener.tls, out);
        out.backend_places.push_back(value_of(value, "backend").error("").message);
        out.listeners.push_back(std::move(listener));
        return {};
      });
}

Result<void> read_audit(const ConfigField& field, ServerConfig& out) {
  constexpr ConfigKey<ServerConfig> kKeys[] = {
      {"file",
       [](const ConfigField& f, ServerConfig& s) {
         s.audit_place = f.error("").message;
         return read_path(f, s.audit.path);
       }},
      {"buffer",
       [](const ConfigField& f, ServerConfig& s) {
         return read_number(f, std::size_t{128} << 10, std::size_t{kMaxBuffer},
                            s.audit.buffer_bytes);
       }},
  };
  if (auto read = read_keys(field, kKeys, out); !read) return read;
  if (out.audit.path.empty() && has_value(field, "buffer")) {
    return value_of(field, "buffer").error("expected a file beside it");
  }
  return {};
}

Result<void> read_drain(const ConfigField& field, DrainOptions& out) {
  constexpr ConfigKey<DrainOptions> kKeys[] = {
      {"wait",
       [](const ConfigField& f, DrainOptions& d) { return read_duration_or_off(f, d.wait); }},
      {"timeout",
       [](const ConfigField& f, DrainOptions& d) { return read_duration_or_off(f, d.timeout); }},
  };
  return read_keys(field, kKeys, out);
}

constexpr ConfigKey<ServerConfig> kServerKeys[] = {
    {"listeners", read_listeners},
    {"web", read_web},
    {"workers",
     [](const ConfigField& f, ServerConfig& s) {
       s.workers_place = f.error("").message;
       return read_number(f, 1U, 256U, s.workers);
     }},
    {"audit", read_audit},
    {"drain", [](const ConfigField& f, ServerConfig& s) { return read_drain(f, s.drain); }},
};

}  // namespace

// A scrape may take two minutes; then nobody waits any longer. Who has the answer has no more to
// say, and who does not take it keeps others from theirs. The usual answer waits whole for a slow
// client, and no thread with it.
ServerConfig::ServerConfig() {
  web.deadlines.idle = std::chrono::seconds(130);
  web.deadlines.half_closed = std::chrono::seconds(5);
  web.deadlines.write_stall = std::chrono::seconds(10);
  web.max_output_bytes = 1 << 20;
}

bool is_web_name(std::string_view name) { return name == "web" || name.starts_with("web-"); }

Result<void> read_server(const ConfigField& field, ServerConfig& out) {
  return read_keys(field, kServerKeys, out);
}

Result<void> check_relays(const ServerConfig& config,
                          const std::function<bool(const IpAddress&)>& is_own) {
  const auto circle = find_relay_circle(config.listeners, is_own);
  if (circle.empty()) return {};
  std::string others;
  for (std::size_t i = 1; i < circle.size(); ++i) {
    others += (i == 1 ? " through " : ", ") + config.listeners[circle[i]].name;
  }
  return Error{config.backend_places[circle.front()] + "leads back to this listener" + others +
               ": expected the address of another server"};
}

}  // namespace tcpvitals
