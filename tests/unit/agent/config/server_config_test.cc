#include "agent/config/server_config.h"

#include <doctest/doctest.h>

#include <chrono>
#include <string>
#include <vector>

#include "agent/config/config.h"
#include "agent/config/host_check.h"
#include "tests/support/tls_testing.h"

using namespace tcpvitals;
using namespace tcpvitals::testing;
using namespace std::chrono_literals;

namespace {

ServerConfig good(const std::string& text) {
  const auto config = parse_config(text, "t.yml");
  REQUIRE_MESSAGE(config.ok(), config.error().message);
  return config->server;
}

// Of a listener that has this line beside its address.
ListenerOptions listener(const std::string& line) {
  const ServerConfig config =
      good("server:\n  listeners:\n    a:\n      address: 127.0.0.1:1\n      " + line + "\n");
  REQUIRE(config.listeners.size() == 1);
  return config.listeners[0];
}

std::string complaint(const std::string& text) {
  const auto config = parse_config(text, "t.yml");
  return config ? "ok" : config.error().message;
}

std::vector<IpPrefix> prefixes(std::initializer_list<const char*> texts) {
  std::vector<IpPrefix> list;
  for (const char* text : texts) list.push_back(*parse_ip_prefix(text));
  return list;
}

}  // namespace

TEST_CASE("a listener is an address; all else has the defaults of the server") {
  const ListenerOptions l = listener("");
  const ListenerOptions standard;
  CHECK(l.name == "a");
  CHECK(to_string(l.endpoint) == "127.0.0.1:1");
  CHECK(l.handler == HandlerKind::kEcho);
  CHECK(l.backlog == standard.backlog);
  CHECK(l.max_connections == 0);
  CHECK(l.keepalive == KeepAlive{7200s, 150s, 9});
  CHECK(l.user_timeout == 0ms);
  CHECK(l.nodelay);
  CHECK(l.fast_open == 0);
  CHECK(l.allow.empty());
  CHECK(l.deny.empty());
  CHECK_FALSE(l.per_peer.limits());
  CHECK(l.accept_rate == AcceptRateOptions{5000, 0});
  CHECK(l.deadlines == Deadlines{});
  CHECK_FALSE(l.tls.enabled());
  CHECK(l.proxy_from.empty());
  CHECK(l.audit);
}

TEST_CASE("each key of a listener sets its field") {
  CHECK(listener("handler: discard").handler == HandlerKind::kDiscard);
  const ListenerOptions relay =
      listener("handler: relay\n      backend: '[2001:db8::1]:5432'\n      send_proxy: v1");
  CHECK(relay.handler == HandlerKind::kRelay);
  CHECK(to_string(relay.backend) == "[2001:db8::1]:5432");
  CHECK(relay.send_proxy == ProxyVersion::kV1);
  CHECK(listener("backlog: 7").backlog == 7);
  CHECK(listener("max_connections: 8").max_connections == 8);
  CHECK(listener("max_output: 4096").max_output_bytes == 4096);
  CHECK(listener("keepalive: {idle: 1s, interval: 2s, count: 3}").keepalive ==
        KeepAlive{1s, 2s, 3});
  CHECK(listener("keepalive: {count: 3}").keepalive == KeepAlive{7200s, 150s, 3});
  CHECK(listener("keepalive: off").keepalive.idle == 0s);
  CHECK(listener("user_timeout: 30s").user_timeout == 30'000ms);
  CHECK_FALSE(listener("nodelay: false").nodelay);
  CHECK(listener("fast_open: 128").fast_open == 128);
  CHECK(listener("defer_accept: 3s").defer_accept == 3s);
  CHECK(listener("receive_buffer: 65536").receive_buffer == 65536);
  CHECK(listener("send_buffer: 32768").send_buffer == 32768);
  CHECK(listener("congestion_control: bbr").congestion_control == "bbr");
  CHECK(listener("allow: [10.0.0.0/8, 'fc00::/7']").allow == prefixes({"10.0.0.0/8", "fc00::/7"}));
  CHECK(listener("deny: 192.0.2.1").deny == prefixes({"192.0.2.1/32"}));
  CHECK(listener("per_peer: {connections: 9, rate: 2.5, burst: 5, ipv4_prefix: 24, "
                 "ipv6_prefix: 48, peers: 1000}")
            .per_peer == PeerLimitOptions{9, 2.5, 5, 24, 48, 1000});
  CHECK(listener("accept_rate: {soft: 10, hard: 20}").accept_rate == AcceptRateOptions{10, 20});
  CHECK(listener("deadlines: {proxy: 1s, handshake: 2s, connect: 3s, idle: 4s, half_closed: 5s, "
                 "write_stall: 6s, lifetime: 7s}")
            .deadlines == Deadlines{1s, 2s, 3s, 4s, 5s, 6s, 7s});
  CHECK(listener("deadlines: {write_stall: off}").deadlines.write_stall == 0s);
  CHECK(listener("proxy_protocol: {trusted: 192.0.2.0/24}").proxy_from ==
        prefixes({"192.0.2.0/24"}));
  CHECK_FALSE(listener("audit: false").audit);
  TlsOptions tls{.certificate_file = "/c.pem", .key_file = "/k.pem", .max_handshakes = 50};
  CHECK(listener("tls: {certificate: /c.pem, key: /k.pem, max_handshakes: 50}").tls == tls);
}

TEST_CASE("whoever names who signs clients' certificates wants to see one, unless he says less") {
  const auto wish = [](const std::string& more) {
    return listener("tls: {certificate: /c, key: /k, client_ca: /a" + more + "}")
        .tls.client_certificate;
  };
  CHECK(wish("") == ClientCertificate::kRequire);
  CHECK(wish(", client_certificate: request") == ClientCertificate::kRequest);
  CHECK(wish(", client_certificate: none") == ClientCertificate::kNone);
  // In any order.
  CHECK(listener("tls: {client_certificate: request, client_ca: /a, key: /k, certificate: /c}")
            .tls.client_certificate == ClientCertificate::kRequest);
}

TEST_CASE("what is the server's own") {
  const ServerConfig nothing = good("server:\n");
  CHECK(nothing.listeners.empty());
  CHECK(nothing.workers == 0);
  CHECK(nothing.audit.path.empty());
  CHECK(nothing.audit.buffer_bytes == AuditOptions{}.buffer_bytes);
  CHECK(nothing.drain.wait == 0s);
  CHECK(nothing.drain.timeout == 20s);
  const ServerConfig all = good(
      "server: {workers: 3, audit: {file: /a.log, buffer: 131072}, drain: {wait: 5s, timeout: "
      "off}}");
  CHECK(all.workers == 3);
  CHECK(all.workers_place == "1:19: server.workers: \"3\": ");
  CHECK(nothing.workers_place.empty());
  CHECK(all.audit.path == "/a.log");
  CHECK(all.audit.buffer_bytes == 131072);
  CHECK(all.drain.wait == 5s);
  CHECK(all.drain.timeout == 0s);
}

TEST_CASE("listeners keep the order of the file, and what is read passes the server's own check") {
  const ServerConfig config = good(
      "server:\n  listeners:\n    b: {address: ':7'}\n    a: {address: '[::1]:9', handler: "
      "discard}\n"
      "    c: {address: 127.0.0.1:0}\n    d: {address: 127.0.0.1:0}\n");
  REQUIRE(config.listeners.size() == 4);
  CHECK(config.listeners[0].name == "b");
  CHECK(config.listeners[1].name == "a");
  ServerOptions options;
  options.listeners = config.listeners;
  CHECK(validate(options).ok());
}

TEST_CASE("the names of listeners that serve the metrics are reserved") {
  CHECK(is_web_name("web"));
  CHECK(is_web_name("web-2"));
  CHECK_FALSE(is_web_name("website"));
  for (const char* name : {"web", "web-2"}) {
    CHECK(complaint(std::string("server: {listeners: {") + name + ": {address: ':7'}}}") ==
          std::string("t.yml:1:22: server.listeners: \"") + name +
              "\": the name of a --web.listen-address: expected another");
  }
}

TEST_CASE("lists and maps have an end") {
  std::string listeners;
  for (int i = 0; i < 101; ++i) listeners += "    l" + std::to_string(i) + ": {address: ':7'}\n";
  CHECK(complaint("server:\n  listeners:\n" + listeners) ==
        "t.yml:3:5: server.listeners: a map: expected at most 100 listeners");
  std::string deny;
  for (int i = 0; i < 10'001; ++i) deny += "10.0.0.1, ";
  CHECK(complaint("server: {listeners: {a: {address: ':7', deny: [" + deny + "]}}}") ==
        "t.yml:1:47: server.listeners.a.deny: a list: expected at most 10000 prefixes");
}

TEST_CASE("relays that lead back to themselves are refused, with place and way out") {
  const auto is_own = [](const IpAddress& address) {
    return to_string(address).starts_with("127.") || to_string(address) == "192.0.2.9";
  };
  using Relay = std::pair<const char*, const char*>;
  const auto told = [&](std::initializer_list<Relay> relays) {
    std::string text = "server:\n  listeners:\n";
    char name = 'a';
    for (const Relay& relay : relays) {
      text += std::string("    ") + name++ + ": {address: '" + relay.first + "'";
      if (*relay.second != '\0') {
        text += std::string(", handler: relay, backend: '") + relay.second + "'";
      }
      text += "}\n";
    }
    const auto checked = check_relays(good(text), is_own);
    return checked ? "ok" : checked.error().message;
  };
  const std::string end = ": expected the address of another server";
  CHECK(told({{"127.0.0.1:7", "127.0.0.1:7"}}) ==
        "3:58: server.listeners.a.backend: \"127.0.0.1:7\": leads back to this listener" + end);
  CHECK(told({{":7", "127.0.0.2:7"}}) ==
        "3:49: server.listeners.a.backend: \"127.0.0.2:7\": leads back to this listener" + end);
  CHECK(told({{"0.0.0.0:7", "192.0.2.9:7"}}) ==
        "3:56: server.listeners.a.backend: \"192.0.2.9:7\": leads back to this listener" + end);
  CHECK(told({{"127.0.0.1:6", "127.0.0.1:7"}, {":7", "127.0.0.1:8"}, {"[::]:8", "192.0.2.9:7"}}) ==
        "4:49: server.listeners.b.backend: \"127.0.0.1:8\": leads back to this listener through c" +
            end);

  CHECK(told({{":7", "192.0.2.1:7"}}) == "ok");                       // another host
  CHECK(told({{":7", "127.0.0.1:8"}}) == "ok");                       // another port
  CHECK(told({{"0.0.0.0:7", "[::1]:7"}}) == "ok");                    // of the other family
  CHECK(told({{"127.0.0.1:7", "127.0.0.2:7"}}) == "ok");              // another address
  CHECK(told({{":7", "127.0.0.1:8"}, {"127.0.0.1:8", ""}}) == "ok");  // an echo
  CHECK(told({{":7", "127.0.0.1:7"}, {"127.0.0.1:7", ""}}) == "ok");  // one on the address itself
}

TEST_CASE("a file with a relay to itself is refused when it is read") {
  const Directory directory;
  const std::string path = directory.path("t.yml");
  directory.write(
      "t.yml", "server: {listeners: {a: {address: ':7', handler: relay, backend: '127.0.0.1:7'}}}");
  const auto config = read_config(path);
  REQUIRE_FALSE(config.ok());
  CHECK(config.error().message ==
        path +
            ":1:66: server.listeners.a.backend: \"127.0.0.1:7\": leads back to this listener: "
            "expected the address of another server");
}

TEST_CASE("a file of TLS that cannot be used is told with its place, key, path and reason") {
  const Directory directory;
  const Identity one = make_identity({});
  const std::string certificate = directory.write("crt", one.certificate);
  const std::string key = directory.write("key", one.key);
  const std::string other = directory.write("other", make_identity({}).key);
  const std::string gone = directory.path("gone");
  const std::string path = directory.path("t.yml");
  const auto told = [&](const std::string& listener, const std::string& tls) {
    directory.write("t.yml", "server:\n  " + listener + "\n      tls: " + tls + "\n");
    const auto config = read_config(path);
    if (!config) return config.error().message;
    const auto problems = check_host(config->server, path);
    return problems.empty() ? "ok" : problems.at(0).message;
  };
  const auto files = [](const std::string& crt, const std::string& k,
                        const std::string& more = "") {
    return "{certificate: " + crt + ", key: " + k + more + "}";
  };
  CHECK(told("web:", files(certificate, key)) == "ok");
  CHECK(told("web:", files(gone, key)) ==
        path + ":3:26: server.web.tls.certificate: \"" + gone + "\": No such file or directory");
  CHECK(told("listeners:\n    a:\n      address: ':7'", files(certificate, other)) ==
        path + ":5:" + std::to_string(26 + certificate.size() + 7) +
            ": server.listeners.a.tls.key: \"" + other + "\": not the key of the certificate in " +
            certificate);
  CHECK(told("web:", files(certificate, key, ",\n       client_ca: " + key)) ==
        path + ":4:19: server.web.tls.client_ca: \"" + key + "\": no certificate in PEM form");
  const std::string ended =
      directory.write("ended", make_identity({.begins_s = -7200, .ends_s = -3600}).certificate);
  CHECK(told("web:", files(certificate, key, ",\n       client_ca: " + ended))
            .starts_with(path + ":4:19: server.web.tls.client_ca: \"" + ended +
                         "\": no client can be accepted: expired at 20"));
}

TEST_CASE("an ECDSA and an RSA certificate may stand side by side, each with its key") {
  const auto tls = [](const std::string& text) { return "server: {web: {tls: {" + text + "}}}"; };
  const ServerConfig both = good(tls("certificate: [/a, /b], key: [/c, /d]"));
  CHECK(both.web.tls.certificate_file == "/a");
  CHECK(both.web.tls.key_file == "/c");
  CHECK(both.web.tls.second_certificate_file == "/b");
  CHECK(both.web.tls.second_key_file == "/d");
  CHECK(complaint(tls("certificate: [/a, /b], key: /c"))
            .ends_with("expected as many keys as certificates, in the same order"));
  CHECK(
      complaint(tls("certificate: /a, key: [/c, /d, /e]")).ends_with("expected at most two files"));
}

TEST_CASE("an audit log that cannot be opened is told with its place, and stops a start") {
  const Directory directory;
  const auto told = [&](const std::string& path) {
    const auto problems = check_host(good("server: {audit: {file: " + path + "}}"), "t.yml");
    if (problems.empty()) return std::string("ok");
    CHECK(problems[0].stops);
    return problems[0].message;
  };
  CHECK(told(directory.path("audit.jsonl")) == "ok");
  CHECK(told("/dev/stdout") == "ok");
  const std::string missing = directory.path("gone/audit.jsonl");
  CHECK(told(missing) == "t.yml:1:24: server.audit.file: \"" + missing +
                             "\": " + directory.path("gone") +
                             ": No such file or directory: make the directory, for the agent's "
                             "user to write");
}
