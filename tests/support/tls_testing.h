// Certificates made while a test runs, files to load them from, and the client of a TLS session.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

#include "base/fd.h"

struct ssl_st;

namespace tcpvitals::testing {

// A certificate and its key, in PEM.
struct Identity {
  std::string certificate;
  std::string key;
};

struct CertificateOptions {
  std::string name = "server.test";  // the CN
  bool rsa = false;                  // 2048 bits; else ECDSA
  const char* curve = "P-256";
  long begins_s = -3600;  // from now
  long ends_s = 3600;
  const Identity* issuer = nullptr;  // null: signs itself, and may sign others
  bool signs = false;                // may sign others though it has an issuer
};

Identity make_identity(const CertificateOptions& options);
// The key of `identity` under the passphrase "secret".
std::string encrypted_key(const Identity& identity);

// A directory that ends with the object.
class Directory {
 public:
  Directory();
  ~Directory();
  Directory(const Directory&) = delete;
  Directory& operator=(const Directory&) = delete;

  // Replaces the file by renaming a new one over it; its path.
  std::string write(const std::string& name, std::string_view text) const;
  std::string path(const std::string& name) const { return path_ / name; }

 private:
  std::filesystem::path path_;
};

struct TlsClientOptions {
  int version = 0;       // the only one, as TLS1_2_VERSION; 0: any
  std::string suites;    // of TLS up to 1.2; empty: OpenSSL's own
  std::string suites13;  // of 1.3
  std::string groups;    // empty: OpenSSL's own
  const Identity* identity = nullptr;
};

// One client in memory: what it sends and receives is moved by whoever tests.
class TlsClient {
 public:
  explicit TlsClient(const TlsClientOptions& options = {});
  ~TlsClient();
  TlsClient(const TlsClient&) = delete;
  TlsClient& operator=(const TlsClient&) = delete;

  bool handshake();  // a step of it; true: it is over
  void write(std::string_view bytes);
  std::string read();     // what there is
  void notify();          // close_notify
  void update_keys();     // a KeyUpdate that asks for one
  bool notified() const;  // by the server

  std::string take();              // bytes for the server
  void give(std::string_view in);  // bytes from it

  ssl_st* get() const { return session_; }

 private:
  ssl_st* session_;
};

}  // namespace tcpvitals::testing
