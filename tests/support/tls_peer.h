// A TLS client over a blocking socket.
#pragma once

#include <string>
#include <utility>

#include "tests/support/serving.h"
#include "tests/support/tls_testing.h"

namespace tcpvitals::testing {

struct TlsFiles {
  Directory directory;
  Identity identity = make_identity({});
  TlsOptions options{.certificate_file = directory.write("crt", identity.certificate),
                     .key_file = directory.write("key", identity.key)};
};

struct TlsPeer {
  explicit TlsPeer(const Endpoint& endpoint, const TlsClientOptions& options = {})
      : socket(Client::to(endpoint)), tls(options) {}
  TlsPeer(Client connected, const TlsClientOptions& options = {})
      : socket(std::move(connected)), tls(options) {}

  bool handshake() {
    bool done = false;
    while (!(done = tls.handshake()) && exchange()) {
    }
    socket.send(tls.take());
    return done;
  }
  bool exchange() {
    socket.send(tls.take());
    const std::string bytes = socket.receive_some();
    tls.give(bytes);
    return !bytes.empty();
  }
  std::string ask(const std::string& bytes) {
    tls.write(bytes);
    std::string answer;
    do answer += tls.read();
    while (answer.size() < bytes.size() && exchange());
    return answer;
  }

  Client socket;
  TlsClient tls;
};

}  // namespace tcpvitals::testing
