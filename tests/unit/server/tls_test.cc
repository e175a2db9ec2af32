// Loading, replacing and speaking TLS, with certificates made here and clients in memory.
#include "server/tls.h"

#include <doctest/doctest.h>
#include <fmt/format.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <atomic>
#include <cerrno>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/tls_testing.h"

using namespace tcpvitals;
using namespace tcpvitals::testing;
using namespace std::chrono_literals;

namespace {

const Identity& ecdsa() {
  static const Identity identity = make_identity({});
  return identity;
}
const Identity& rsa() {
  static const Identity identity = make_identity({.rsa = true});
  return identity;
}
const Identity& authority() {
  static const Identity identity = make_identity({.name = "clients.test"});
  return identity;
}

// A directory with one identity as server.pem and server.key, and the options that name them.
struct Files {
  Directory directory;
  TlsOptions options;

  explicit Files(const Identity& identity = ecdsa()) { put(identity); }

  void put(const Identity& identity) {
    options.certificate_file = directory.write("server.pem", identity.certificate);
    options.key_file = directory.write("server.key", identity.key);
  }
  void ask_clients(ClientCertificate how, const Identity& signer = authority()) {
    options.client_certificate = how;
    options.client_ca_file = directory.write("clients.pem", signer.certificate);
  }

  std::shared_ptr<const TlsContext> load() const {
    auto context = TlsContext::load(options);
    if (!context) FAIL(context.error().message);
    return *context;
  }
  // What load() says is wrong, with the directory's name taken out.
  std::string error() const {
    const auto context = TlsContext::load(options);
    REQUIRE(!context);
    CHECK(ERR_peek_error() == 0);
    std::string message = context.error().message;
    const std::string prefix = directory.path("");
    for (std::size_t at; (at = message.find(prefix)) != std::string::npos;) {
      message.erase(at, prefix.size());
    }
    return message;
  }
};

// A session, the client it speaks with, and the wire between them.
class Link {
 public:
  explicit Link(const TlsContext& context, const TlsClientOptions& options = {},
                int kind = SOCK_STREAM)
      : client(options) {
    int ends[2];
    REQUIRE(::socketpair(AF_UNIX, kind | SOCK_NONBLOCK, 0, ends) == 0);
    server_end = Fd(ends[0]);
    client_end = Fd(ends[1]);
    auto accepted = TlsSession::accept(context, server_end.get());
    REQUIRE(accepted.ok());
    session = std::move(*accepted);
  }

  // Moves what either has for the other; what the client sends, `chunk` bytes at a time with a
  // handshake step after each.
  TlsStep handshake(std::size_t chunk = 1 << 20) {
    TlsStep step = TlsStep::kWantRead;
    for (bool moved = true; moved && step == TlsStep::kWantRead;) {
      client.handshake();
      const std::string bytes = client.take();
      for (std::size_t at = 0; at < bytes.size() && step == TlsStep::kWantRead; at += chunk) {
        put(std::string_view(bytes).substr(at, chunk));
        step = session->handshake();
        CHECK(ERR_peek_error() == 0);
      }
      moved = deliver() || !bytes.empty();
    }
    client.handshake();  // reads what came last
    return step;
  }

  // The session's bytes to the client; false if there are none.
  bool deliver() {
    char buffer[4096];
    bool any = false;
    for (ssize_t n; (n = ::recv(client_end.get(), buffer, sizeof buffer, 0)) > 0; any = true) {
      client.give({buffer, static_cast<std::size_t>(n)});
    }
    return any;
  }
  void put(std::string_view bytes) {
    REQUIRE(::send(client_end.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL) ==
            static_cast<ssize_t>(bytes.size()));
  }
  void send(std::string_view text) {
    client.write(text);
    put(client.take());
  }

  // What the session reads until it has no more, and in `last` why not.
  std::string read() {
    std::string text;
    char buffer[4096];
    for (;;) {
      const TlsIo io = session->read(buffer);
      CHECK(ERR_peek_error() == 0);
      last = io.step;
      if (io.step != TlsStep::kDone) return text;
      text.append(buffer, io.bytes);
    }
  }
  bool carries(std::string_view text) {
    send(text);
    if (read() != text) return false;
    const TlsIo io = session->write(text);
    deliver();
    return io.step == TlsStep::kDone && io.bytes == text.size() && client.read() == text;
  }

  TlsClient client;
  Fd server_end;
  Fd client_end;
  std::unique_ptr<TlsSession> session;
  TlsStep last = TlsStep::kDone;
};

struct Ended {
  TlsOutcome outcome;
  std::string text;
};

// How a handshake with that client ends.
Ended attempt(const TlsContext& context, const TlsClientOptions& options) {
  Link link(context, options);
  const TlsStep step = link.handshake();
  if (step == TlsStep::kDone) {
    CHECK(link.carries("hello"));
    return {TlsOutcome::kOk, fmt::format("{} {}", link.session->version(), link.session->cipher())};
  }
  CHECK(step == TlsStep::kFailed);
  return {link.session->failure().outcome, link.session->failure().text};
}

// How a handshake ends in which the client sends those bytes.
Ended attempt(const TlsContext& context, std::string_view bytes) {
  Link link(context);
  link.put(bytes);
  CHECK(link.session->handshake() == TlsStep::kFailed);
  CHECK(ERR_peek_error() == 0);
  return {link.session->failure().outcome, link.session->failure().text};
}

std::chrono::sys_seconds now() {
  return std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now());
}

}  // namespace

TEST_SUITE_BEGIN("tls");

TEST_CASE("a context knows its certificate's subject and when it ends") {
  const Files files(make_identity({.name = "é, \"x\"", .ends_s = 7200}));
  const auto context = files.load();
  CHECK(context->subject() == R"(CN=é\, \"x\")");
  const auto left = context->not_after() - now();
  CHECK(left <= 7200s);
  CHECK(left > 7100s);
}

TEST_CASE("a certificate may be for ever, which is written as the year 9999") {
  const std::chrono::hours years(7900 * 8766);
  const Files files(make_identity({.ends_s = std::chrono::seconds(years).count()}));
  CHECK(files.load()->not_after() > now() + years - 24h);
}

TEST_CASE("a file that cannot be used is named, with what is wrong with it") {
  Files files;
  const auto check = [&](const std::string& message) { CHECK(files.error() == message); };

  SUBCASE("a missing certificate") {
    files.options.certificate_file = files.directory.path("none.pem");
    check("none.pem: No such file or directory");
  }
  SUBCASE("a missing key") {
    files.options.key_file = files.directory.path("none.key");
    check("none.key: No such file or directory");
  }
  SUBCASE("a directory") {
    files.options.key_file = files.directory.path(".");
    check(".: not a regular file");
  }
  SUBCASE("a certificate that is not PEM") {
    files.directory.write("server.pem", "\x30\x82\x01\x0a");
    check("server.pem: no certificate in PEM form");
  }
  SUBCASE("a key where the certificate should be") {
    files.directory.write("server.pem", ecdsa().key);
    check("server.pem: no certificate in PEM form");
  }
  SUBCASE("a chain whose second certificate is cut off") {
    files.directory.write("server.pem", ecdsa().certificate + rsa().certificate.substr(0, 300));
    check("server.pem: certificate 2: bad end line");
  }
  SUBCASE("an empty key file") {
    files.directory.write("server.key", "");
    check("server.key: no private key in PEM form");
  }
  SUBCASE("an encrypted key") {
    files.directory.write("server.key", encrypted_key(ecdsa()));
    check("server.key: the key is encrypted: a key without a passphrase is needed");
  }
  SUBCASE("another certificate's key, of the same kind") {
    files.directory.write("server.key", authority().key);
    check("server.key: not the key of the certificate in server.pem");
  }
  SUBCASE("another certificate's key, of another kind") {
    files.directory.write("server.key", rsa().key);
    check("server.key: not the key of the certificate in server.pem");
  }
  SUBCASE("a second certificate of the same kind as the first") {
    files.options.second_certificate_file =
        files.directory.write("second.pem", authority().certificate);
    files.options.second_key_file = files.directory.write("second.key", authority().key);
    check("second.pem: a key of the same kind as the first certificate's: one would never be used");
  }
  SUBCASE("a second certificate without its key") {
    files.options.second_certificate_file = files.directory.write("second.pem", rsa().certificate);
    files.options.second_key_file = files.options.key_file;
    check("server.key: not the key of the certificate in second.pem");
  }
  SUBCASE("missing client authorities") {
    files.ask_clients(ClientCertificate::kRequest);
    files.options.client_ca_file = files.directory.path("none.pem");
    check("none.pem: No such file or directory");
  }
  SUBCASE("client authorities without a certificate") {
    files.ask_clients(ClientCertificate::kRequire);
    files.directory.write("clients.pem", "# none yet\n");
    check("clients.pem: no certificate in PEM form");
  }
}

TEST_CASE("what has ended is served and doubted, whichever certificate of the chain it is") {
  Files files;
  const auto doubt = [&](std::chrono::sys_seconds at) {
    const auto fault = files.load()->doubt(at);
    return fault ? fault->reason : "";
  };
  CHECK(doubt(now()) == "");
  files.put(make_identity({.begins_s = -7200, .ends_s = -3600}));
  CHECK(doubt(now()).starts_with("expired at 20"));
  Link link(*files.load());
  CHECK(link.handshake() == TlsStep::kDone);
  files.put(make_identity({.begins_s = 86400, .ends_s = 90000}));
  CHECK(doubt(now()).starts_with("not valid before 20"));

  const Identity inter = make_identity({.name = "inter", .ends_s = 100, .signs = true});
  Identity leaf = make_identity({.ends_s = 3600, .issuer = &inter});
  leaf.certificate += inter.certificate;
  files.put(leaf);
  CHECK(files.load()->not_after() <= now() + 100s);
  CHECK(doubt(now()) == "");
  CHECK(doubt(now() + 101s).starts_with("certificate 2, CN=inter: expired at 20"));
}

TEST_CASE("client authorities are doubted once all of them have ended") {
  Files files;
  const Identity ended = make_identity({.begins_s = -7200, .ends_s = -3600});
  files.ask_clients(ClientCertificate::kRequire, ended);
  const auto fault = files.load()->doubt(now());
  REQUIRE(fault.has_value());
  CHECK(fault->file == &TlsOptions::client_ca_file);
  CHECK(fault->reason.starts_with("no client can be accepted: expired at 20"));
  files.directory.write("clients.pem", ended.certificate + authority().certificate);
  CHECK_FALSE(files.load()->doubt(now()).has_value());
}

TEST_CASE("a client gets the certificate whose kind of key it can use") {
  Files files(ecdsa());
  files.options.second_certificate_file = files.directory.write("rsa.pem", rsa().certificate);
  files.options.second_key_file = files.directory.write("rsa.key", rsa().key);
  const auto context = files.load();
  for (const char* kind : {"ECDSA", "RSA"}) {
    const std::string suite = "ECDHE-" + std::string(kind) + "-AES256-GCM-SHA384";
    CHECK(attempt(*context, {.version = TLS1_2_VERSION, .suites = suite}).text ==
          "TLSv1.2 " + suite);
  }
}

TEST_CASE("certificate, chain and key may stand in one file") {
  Files files;
  const Identity leaf = make_identity({.name = "leaf.test", .issuer = &authority()});
  files.options.certificate_file = files.options.key_file =
      files.directory.write("all.pem", leaf.key + leaf.certificate + authority().certificate);
  const auto context = files.load();
  CHECK(context->subject() == "CN=leaf.test");
  Link link(*context);
  REQUIRE(link.handshake() == TlsStep::kDone);
  CHECK(sk_X509_num(SSL_get_peer_cert_chain(link.client.get())) == 2);
}

TEST_CASE("only the two suites of TLS 1.2 and the one of TLS 1.3 are spoken") {
  const auto with_ecdsa = Files(ecdsa()).load();
  const auto with_rsa = Files(rsa()).load();
  const std::string suite13 = "TLSv1.3 TLS_AES_256_GCM_SHA384";
  struct Row {
    const TlsContext& context;
    TlsClientOptions client;
    TlsOutcome outcome;
    std::string text;
  };
  const std::string version = "unsupported protocol";
  const std::string cipher = "no shared cipher";
  const Row rows[] = {
      {*with_ecdsa, {}, TlsOutcome::kOk, suite13},
      {*with_rsa, {}, TlsOutcome::kOk, suite13},
      {*with_ecdsa, {.version = TLS1_3_VERSION, .groups = "P-256"}, TlsOutcome::kOk, suite13},
      {*with_ecdsa,
       {.version = TLS1_2_VERSION},
       TlsOutcome::kOk,
       "TLSv1.2 ECDHE-ECDSA-AES256-GCM-SHA384"},
      {*with_rsa,
       {.version = TLS1_2_VERSION},
       TlsOutcome::kOk,
       "TLSv1.2 ECDHE-RSA-AES256-GCM-SHA384"},
      {*with_rsa, {.version = TLS1_VERSION}, TlsOutcome::kVersion, version},
      {*with_rsa, {.version = TLS1_1_VERSION}, TlsOutcome::kVersion, version},
      {*with_ecdsa,
       {.version = TLS1_2_VERSION, .suites = "ECDHE-RSA-AES256-GCM-SHA384"},
       TlsOutcome::kCipher,
       cipher},
      {*with_rsa,
       {.version = TLS1_2_VERSION, .suites = "ALL:!AESGCM:!eNULL"},
       TlsOutcome::kCipher,
       cipher},
      {*with_rsa,
       {.version = TLS1_2_VERSION, .suites = "DHE-RSA-AES256-GCM-SHA384:AES256-GCM-SHA384"},
       TlsOutcome::kCipher,
       cipher},
      {*with_rsa,
       {.version = TLS1_2_VERSION, .suites = "ECDHE-RSA-AES128-GCM-SHA256"},
       TlsOutcome::kCipher,
       cipher},
      {*with_rsa,
       {.version = TLS1_3_VERSION,
        .suites13 = "TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256"},
       TlsOutcome::kCipher,
       cipher},
      {*with_rsa,
       {.version = TLS1_3_VERSION, .groups = "P-384"},
       TlsOutcome::kCipher,
       "no suitable key share"},
      {*with_rsa, {.version = TLS1_2_VERSION, .groups = "P-384"}, TlsOutcome::kCipher, cipher},
  };
  for (const Row& row : rows) {
    CAPTURE(row.client.version);
    CAPTURE(row.client.suites);
    CAPTURE(row.client.suites13);
    CAPTURE(row.client.groups);
    const Ended ended = attempt(row.context, row.client);
    CHECK(ended.text == row.text);
    CHECK(ended.outcome == row.outcome);
  }
}

TEST_CASE("a handshake goes on with every byte that comes") {
  const auto context = Files().load();
  for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    Link link(*context, {.version = version});
    CHECK(link.handshake(1) == TlsStep::kDone);
    link.client.write("record");
    for (const char byte : link.client.take()) {
      CHECK(link.read() == "");
      CHECK(link.last == TlsStep::kWantRead);
      link.put({&byte, 1});
    }
    CHECK(link.read() == "record");
  }
}

TEST_CASE("what is not a handshake is told apart from one that was given up") {
  const auto context = Files().load();
  CHECK(attempt(*context, "GET / HTTP/1.1\r\n\r\n").outcome == TlsOutcome::kProtocol);
  CHECK(attempt(*context, "GET / HTTP/1.1\r\n\r\n").text == "http request");
  CHECK(attempt(*context, std::string(300, '\xff')).outcome == TlsOutcome::kProtocol);
  CHECK(
      attempt(*context, std::string_view("\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00", 10)).outcome ==
      TlsOutcome::kProtocol);

  Link link(*context);
  link.client.handshake();
  link.put(link.client.take().substr(0, 50));
  CHECK(link.session->handshake() == TlsStep::kWantRead);
  SUBCASE("the peer's end") { link.client_end.reset(); }
  SUBCASE("a reset") {
    link.session->handshake();
    ::send(link.server_end.get(), "x", 1, 0);  // unread when its receiver closes
    link.client_end.reset();
  }
  CHECK(link.session->handshake() == TlsStep::kFailed);
  CHECK(link.session->failure().outcome == TlsOutcome::kClosed);
}

TEST_CASE("the socket's error is kept apart from the protocol's") {
  const auto context = Files().load();
  Link link(*context);
  REQUIRE(link.handshake() == TlsStep::kDone);
  REQUIRE(link.session->write(std::string_view("unread")).step == TlsStep::kDone);
  link.client_end.reset();
  SUBCASE("of a read") {
    link.read();
    CHECK(link.session->failure().error == ECONNRESET);
    CHECK(link.session->failure().text == "socket: Connection reset by peer");
  }
  SUBCASE("of a write, which raises no SIGPIPE") {
    link.last = link.session->write(std::string_view("more")).step;
    CHECK(link.session->failure().error == EPIPE);
  }
  CHECK(link.last == TlsStep::kFailed);
  CHECK(link.session->failure().outcome == TlsOutcome::kClosed);
}

TEST_CASE("a broken record ends the session with the reason") {
  const auto context = Files().load();
  Link link(*context);
  REQUIRE(link.handshake() == TlsStep::kDone);
  link.client.write("secret");
  std::string record = link.client.take();
  record.back() ^= 1;
  link.put(record);
  CHECK(link.read() == "");
  CHECK(link.last == TlsStep::kFailed);
  CHECK(link.session->failure().outcome == TlsOutcome::kProtocol);
  CHECK(link.session->failure().text == "decryption failed or bad record mac");
}

TEST_CASE("what others left in OpenSSL's queue of errors is not taken for one of the session") {
  const auto context = Files().load();
  Link link(*context);
  REQUIRE(link.handshake() == TlsStep::kDone);
  ERR_raise(ERR_LIB_SSL, SSL_R_BAD_LENGTH);
  CHECK(link.read() == "");
  CHECK(link.last == TlsStep::kWantRead);
}

TEST_CASE("a client certificate that is required must be there, and good") {
  Files files;
  files.ask_clients(ClientCertificate::kRequire);
  const auto context = files.load();
  const Identity good = make_identity({.name = "client.test", .issuer = &authority()});
  const Identity expired =
      make_identity({.begins_s = -7200, .ends_s = -3600, .issuer = &authority()});
  const Identity foreign = make_identity({.name = "client.test"});
  for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    Ended ended = attempt(*context, {.version = version});
    CHECK(ended.outcome == TlsOutcome::kCertificate);
    CHECK(ended.text == "peer did not return a certificate");
    ended = attempt(*context, {.version = version, .identity = &expired});
    CHECK(ended.outcome == TlsOutcome::kCertificate);
    CHECK(ended.text == "certificate verify failed: certificate has expired");
    ended = attempt(*context, {.version = version, .identity = &foreign});
    CHECK(ended.outcome == TlsOutcome::kCertificate);
    CHECK(ended.text == "certificate verify failed: self-signed certificate");

    Link link(*context, {.version = version, .identity = &good});
    REQUIRE(link.handshake() == TlsStep::kDone);
    CHECK(link.session->peer_subject() == "CN=client.test");
  }
}

TEST_CASE("client certificates of larger curves are good, with either version") {
  Files files;
  files.ask_clients(ClientCertificate::kRequire);
  const auto context = files.load();
  for (const char* curve : {"P-256", "P-384", "P-521"}) {
    const Identity client = make_identity({.curve = curve, .issuer = &authority()});
    for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
      CAPTURE(curve);
      CAPTURE(version);
      CHECK(attempt(*context, {.version = version, .identity = &client}).outcome ==
            TlsOutcome::kOk);
    }
  }
}

TEST_CASE("an intermediate is trusted without the root that signed it") {
  Files files;
  const Identity inter = make_identity({.name = "inter", .issuer = &authority(), .signs = true});
  files.ask_clients(ClientCertificate::kRequire, inter);
  const auto context = files.load();
  const Identity client = make_identity({.issuer = &inter});
  CHECK(attempt(*context, {.identity = &client}).outcome == TlsOutcome::kOk);
  const Identity other = make_identity({.issuer = &authority()});
  CHECK(attempt(*context, {.identity = &other}).outcome == TlsOutcome::kCertificate);
}

TEST_CASE("files that cannot be used yet are no context; once they can be, they are one") {
  Files files;
  ::unlink(files.options.key_file.c_str());
  TlsStore tls(files.options);
  CHECK(tls.current() == nullptr);
  CHECK_FALSE(tls.statistics().usable);
  CHECK(tls.statistics().error.ends_with("server.key: No such file or directory"));
  CHECK_FALSE(tls.changed());
  files.put(ecdsa());
  CHECK(tls.changed());
  REQUIRE(tls.reload().ok());
  CHECK(tls.current() != nullptr);
  CHECK(tls.statistics().usable);
}

TEST_CASE("a client certificate that is asked for may be missing, but not bad") {
  Files files;
  files.ask_clients(ClientCertificate::kRequest);
  const auto context = files.load();
  const Identity foreign = make_identity({.name = "client.test"});
  CHECK(attempt(*context, {.identity = &foreign}).outcome == TlsOutcome::kCertificate);
  Link link(*context);
  REQUIRE(link.handshake() == TlsStep::kDone);
  CHECK(link.session->peer_subject() == "");
}

TEST_CASE("a client that refuses our certificate is told apart") {
  const auto context = Files().load();
  Link link(*context);
  SSL_set_verify(link.client.get(), SSL_VERIFY_PEER, nullptr);
  CHECK(link.handshake() == TlsStep::kFailed);
  CHECK(link.session->failure().outcome == TlsOutcome::kCertificate);
}

TEST_CASE("the peer's end with close_notify is an end, and the other direction stays open") {
  const auto context = Files().load();
  for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    CAPTURE(version);
    Link link(*context, {.version = version});
    REQUIRE(link.handshake() == TlsStep::kDone);
    link.client.write("last words");
    link.client.notify();
    link.put(link.client.take());
    CHECK(link.read() == "last words");
    CHECK(link.last == TlsStep::kEnd);
    CHECK(link.session->write(std::string_view("answer")).step == TlsStep::kDone);
    CHECK(link.session->shutdown() == TlsStep::kDone);
    link.deliver();
    CHECK(link.client.read() == "answer");
    CHECK(link.client.notified());
  }
}

TEST_CASE("the peer's end without close_notify may have cut its stream short") {
  const auto context = Files().load();
  for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    CAPTURE(version);
    Link link(*context, {.version = version});
    REQUIRE(link.handshake() == TlsStep::kDone);
    link.send("last words");
    ::shutdown(link.client_end.get(), SHUT_WR);
    CHECK(link.read() == "last words");
    CHECK(link.last == TlsStep::kTruncated);
    CHECK(link.session->write(std::string_view("answer")).step == TlsStep::kDone);
    link.deliver();
    CHECK(link.client.read() == "answer");
  }
}

TEST_CASE("after our end reading goes on") {
  const auto context = Files().load();
  Link link(*context);
  REQUIRE(link.handshake() == TlsStep::kDone);
  CHECK(link.session->shutdown() == TlsStep::kDone);
  link.send("still here");
  CHECK(link.session->shutdown() == TlsStep::kDone);
  CHECK(link.read() == "still here");
  CHECK(link.last == TlsStep::kWantRead);
  link.deliver();
  CHECK(link.client.read() == "");
  CHECK(link.client.notified());
}

TEST_CASE("a blocked write goes on where it stopped, from a buffer that moved") {
  const auto context = Files().load();
  Link link(*context);
  REQUIRE(link.handshake() == TlsStep::kDone);
  std::string output(1 << 20, '\0');
  for (std::size_t i = 0; i < output.size(); ++i) output[i] = static_cast<char>(i * 7 >> 3);
  const std::string sent = output;
  std::string received;
  bool blocked = false;
  while (!output.empty()) {
    const TlsIo io = link.session->write(output);
    CHECK(ERR_peek_error() == 0);
    if (io.step == TlsStep::kWantWrite) {
      CHECK(io.bytes == 0);
      blocked = true;
      link.deliver();
      received += link.client.read();
    } else {
      REQUIRE(io.step == TlsStep::kDone);
    }
    output = std::string(output.begin() + static_cast<std::ptrdiff_t>(io.bytes), output.end());
  }
  CHECK(blocked);
  link.deliver();
  received += link.client.read();
  CHECK(received == sent);
}

TEST_CASE("a close_notify that the socket did not take is sent later") {
  const auto context = Files().load();
  Link link(*context);
  REQUIRE(link.handshake() == TlsStep::kDone);
  const std::string filler(4096, 'x');  // straight into the socket, behind the session's back
  while (::send(link.server_end.get(), filler.data(), filler.size(), 0) > 0) {
  }
  while (::send(link.server_end.get(), "x", 1, 0) > 0) {
  }
  CHECK(link.session->shutdown() == TlsStep::kWantWrite);
  CHECK(link.session->shutdown() == TlsStep::kWantWrite);
  char drain[4096];
  while (::recv(link.client_end.get(), drain, sizeof drain, 0) > 0) {
  }
  CHECK(link.session->shutdown() == TlsStep::kDone);
  link.deliver();
  CHECK(link.client.read() == "");
  CHECK(link.client.notified());
}

TEST_CASE("what came before a write that failed may still be read") {
  const auto context = Files().load();
  for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    Link link(*context, {.version = version});
    REQUIRE(link.handshake() == TlsStep::kDone);
    link.send("last words");
    link.client_end.reset();
    CHECK(link.session->write("answer").step == TlsStep::kFailed);
    CHECK(link.session->failure().error == EPIPE);
    CHECK(link.read() == "last words");
  }
}

TEST_CASE("the rest of a record is pending; the next record stays in the socket") {
  const auto context = Files().load();
  Link link(*context);
  REQUIRE(link.handshake() == TlsStep::kDone);
  CHECK(!link.session->pending());
  link.client.write("one");
  link.client.write("two");
  link.put(link.client.take());
  char buffer[2];
  CHECK(link.session->read(buffer).bytes == 2);
  CHECK(link.session->pending());
  CHECK(link.session->read(buffer).bytes == 1);
  CHECK(!link.session->pending());
  CHECK(link.read() == "two");
}

TEST_CASE("a peer that never pauses does not keep a call from returning") {
  const auto context = Files().load();
  Link link(*context, {}, SOCK_SEQPACKET);  // each read takes what one send gave
  link.client.handshake();
  const std::string hello = link.client.take();
  const std::size_t sent = 200;
  for (std::size_t i = 0; i < sent; ++i) link.put(std::string_view(hello).substr(i, 1));
  std::size_t calls = 0;
  for (int left = 1; left > 0 && calls < sent; ++calls) {
    CHECK(link.session->handshake() == TlsStep::kWantRead);
    REQUIRE(::ioctl(link.server_end.get(), FIONREAD, &left) == 0);
  }
  CHECK(calls >= sent / 32);
  CHECK(calls <= sent / 8);
}

TEST_CASE("no session is ever resumed") {
  const auto context = Files().load();
  for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    Link first(*context, {.version = version});
    REQUIRE(first.handshake() == TlsStep::kDone);
    REQUIRE(first.carries("hello"));
    SSL_SESSION* const remembered = SSL_get1_session(first.client.get());
    CHECK(SSL_SESSION_has_ticket(remembered) == 0);
    Link second(*context, {.version = version});
    SSL_set_session(second.client.get(), remembered);
    SSL_SESSION_free(remembered);
    REQUIRE(second.handshake() == TlsStep::kDone);
    CHECK(SSL_session_reused(second.client.get()) == 0);
  }
}

TEST_CASE("a client that wants to renegotiate is told no, and may go on") {
  const auto context = Files().load();
  Link link(*context, {.version = TLS1_2_VERSION});
  REQUIRE(link.handshake() == TlsStep::kDone);
  REQUIRE(SSL_renegotiate(link.client.get()) == 1);
  link.client.handshake();
  link.put(link.client.take());
  CHECK(link.read() == "");
  CHECK(link.last == TlsStep::kWantRead);
  link.deliver();
  CHECK(SSL_do_handshake(link.client.get()) != 1);
  CHECK(ERR_GET_REASON(ERR_peek_error()) == SSL_R_NO_RENEGOTIATION);
  ERR_clear_error();
}

TEST_CASE("a reload is for those who come later; sessions that live keep what they have") {
  Files files;
  TlsStore tls(files.options);
  REQUIRE(tls.current() != nullptr);
  Link before(*tls.current());
  REQUIRE(before.handshake() == TlsStep::kDone);
  Link during(*tls.current());  // its handshake is still to come
  CHECK(!tls.changed());

  files.put(make_identity({.name = "second.test", .ends_s = 9000}));
  CHECK(tls.changed());
  REQUIRE(tls.reload().ok());
  CHECK(!tls.changed());
  CHECK(tls.current()->subject() == "CN=second.test");
  CHECK(tls.statistics().not_after == tls.current()->not_after());
  CHECK(tls.statistics().reloads == 1);
  CHECK(before.carries("hello"));
  CHECK(during.handshake() == TlsStep::kDone);
  CHECK(during.carries("hello"));
  Link after(*tls.current());
  CHECK(after.handshake() == TlsStep::kDone);
}

TEST_CASE("a reload that fails leaves what was there, and says why") {
  Files files;
  TlsStore tls(files.options);
  REQUIRE(tls.current() != nullptr);
  const auto first = tls.current();
  const auto loaded = tls.statistics().loaded;

  files.directory.write("server.pem", rsa().certificate);  // as when the key comes a moment later
  CHECK(tls.changed());
  const auto failed = tls.reload();
  REQUIRE(!failed);
  CHECK(failed.error().message.find("not the key of the certificate") != std::string::npos);
  CHECK(tls.current() == first);
  CHECK(tls.statistics().reload_failures == 1);
  CHECK(tls.statistics().reloads == 0);
  CHECK(tls.statistics().error == failed.error().message);
  CHECK(tls.statistics().loaded == loaded);
  CHECK(tls.statistics().not_after == first->not_after());
  CHECK(!tls.changed());  // once is enough, until something else changes

  files.directory.write("server.key", rsa().key);
  CHECK(tls.changed());
  CHECK(tls.reload().ok());
  CHECK(tls.current() != first);
  CHECK(tls.statistics().error == "");
}

TEST_CASE("workers may begin sessions while their context is replaced") {
  Files files;
  TlsStore tls(files.options);
  REQUIRE(tls.current() != nullptr);
  std::atomic<bool> stop = false;
  std::atomic<int> failed = 0;
  std::vector<std::thread> workers;
  for (int i = 0; i < 2; ++i) {
    workers.emplace_back([&] {
      while (!stop) {
        const bool good =
            TlsSession::accept(*tls.current(), -1).ok() && tls.statistics().not_after > now();
        failed += good ? 0 : 1;
      }
    });
  }
  for (int i = 0; i < 20; ++i) CHECK(tls.reload().ok());
  stop = true;
  for (std::thread& worker : workers) worker.join();
  CHECK(failed == 0);
  CHECK(tls.statistics().reloads == 20);
}

TEST_CASE("every way in which a file can change is seen") {
  Files files;
  files.ask_clients(ClientCertificate::kRequire);
  TlsStore tls(files.options);
  REQUIRE(tls.current() != nullptr);
  REQUIRE(!tls.changed());
  SUBCASE("another one in its place") { files.directory.write("clients.pem", rsa().certificate); }
  SUBCASE("its mode") { ::chmod(files.options.key_file.c_str(), 0); }
  SUBCASE("that it is gone") { ::unlink(files.options.certificate_file.c_str()); }
  CHECK(tls.changed());
}

TEST_SUITE_END();
