#include "tests/support/tls_testing.h"

#include <doctest/doctest.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <array>
#include <fstream>
#include <memory>

namespace tcpvitals::testing {
namespace {

template <auto Function>
struct Call {
  template <typename T>
  void operator()(T* object) const {
    Function(object);
  }
};
using BioPtr = std::unique_ptr<BIO, Call<BIO_free>>;
using X509Ptr = std::unique_ptr<X509, Call<X509_free>>;
using KeyPtr = std::unique_ptr<EVP_PKEY, Call<EVP_PKEY_free>>;
using ContextPtr = std::unique_ptr<SSL_CTX, Call<SSL_CTX_free>>;

std::string text_of(BIO* bio) {
  char* text = nullptr;
  const long size = BIO_get_mem_data(bio, &text);
  return {text, static_cast<std::size_t>(size)};
}

BioPtr reader(const std::string& text) {
  return BioPtr(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
}

X509Ptr certificate_of(const Identity& identity) {
  return X509Ptr(PEM_read_bio_X509(reader(identity.certificate).get(), nullptr, nullptr, nullptr));
}
KeyPtr key_of(const Identity& identity) {
  return KeyPtr(PEM_read_bio_PrivateKey(reader(identity.key).get(), nullptr, nullptr, nullptr));
}

KeyPtr make_key(const CertificateOptions& options) {
  return KeyPtr(options.rsa ? EVP_RSA_gen(2048) : EVP_EC_gen(options.curve));
}

}  // namespace

Identity make_identity(const CertificateOptions& options) {
  static long serial = 0;
  const KeyPtr key = make_key(options);
  const X509Ptr certificate(X509_new());
  X509_set_version(certificate.get(), X509_VERSION_3);
  ASN1_INTEGER_set(X509_get_serialNumber(certificate.get()), ++serial);
  X509_gmtime_adj(X509_getm_notBefore(certificate.get()), options.begins_s);
  X509_gmtime_adj(X509_getm_notAfter(certificate.get()), options.ends_s);
  X509_set_pubkey(certificate.get(), key.get());
  X509_NAME* const subject = X509_get_subject_name(certificate.get());
  X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_UTF8,
                             reinterpret_cast<const unsigned char*>(options.name.c_str()), -1, -1,
                             0);
  X509Ptr issuer;
  KeyPtr issuer_key;
  if (options.issuer != nullptr) {
    issuer = certificate_of(*options.issuer);
    issuer_key = key_of(*options.issuer);
  }
  if (options.issuer == nullptr || options.signs) {
    X509_EXTENSION* const authority =
        X509V3_EXT_conf_nid(nullptr, nullptr, NID_basic_constraints, "critical,CA:TRUE");
    X509_add_ext(certificate.get(), authority, -1);
    X509_EXTENSION_free(authority);
  }
  X509_set_issuer_name(certificate.get(), issuer ? X509_get_subject_name(issuer.get()) : subject);
  REQUIRE(X509_sign(certificate.get(), issuer_key ? issuer_key.get() : key.get(), EVP_sha256()) >
          0);

  const BioPtr certificate_out(BIO_new(BIO_s_mem()));
  const BioPtr key_out(BIO_new(BIO_s_mem()));
  PEM_write_bio_X509(certificate_out.get(), certificate.get());
  PEM_write_bio_PrivateKey(key_out.get(), key.get(), nullptr, nullptr, 0, nullptr, nullptr);
  return {text_of(certificate_out.get()), text_of(key_out.get())};
}

std::string encrypted_key(const Identity& identity) {
  const BioPtr out(BIO_new(BIO_s_mem()));
  char passphrase[] = "secret";
  PEM_write_bio_PrivateKey(out.get(), key_of(identity).get(), EVP_aes_256_cbc(), nullptr, 0,
                           nullptr, passphrase);
  return text_of(out.get());
}

Directory::Directory() {
  std::string name = std::filesystem::temp_directory_path() / "tcpvitals-tls-XXXXXX";
  REQUIRE(::mkdtemp(name.data()) != nullptr);
  path_ = name;
}

Directory::~Directory() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::string Directory::write(const std::string& name, std::string_view text) const {
  std::ofstream(path("new"), std::ios::binary) << text;
  std::filesystem::rename(path("new"), path(name));
  return path(name);
}

TlsClient::TlsClient(const TlsClientOptions& options) {
  const ContextPtr context(SSL_CTX_new(TLS_client_method()));
  SSL_CTX* const ssl = context.get();
  SSL_CTX_set_security_level(ssl, 0);  // so that it may offer what the server must refuse
  SSL_CTX_set_min_proto_version(ssl, options.version);
  SSL_CTX_set_max_proto_version(ssl, options.version);
  if (!options.suites.empty()) REQUIRE(SSL_CTX_set_cipher_list(ssl, options.suites.c_str()) == 1);
  if (!options.suites13.empty()) {
    REQUIRE(SSL_CTX_set_ciphersuites(ssl, options.suites13.c_str()) == 1);
  }
  if (!options.groups.empty()) REQUIRE(SSL_CTX_set1_groups_list(ssl, options.groups.c_str()) == 1);
  if (options.identity != nullptr) {
    REQUIRE(SSL_CTX_use_certificate(ssl, certificate_of(*options.identity).get()) == 1);
    REQUIRE(SSL_CTX_use_PrivateKey(ssl, key_of(*options.identity).get()) == 1);
  }
  session_ = SSL_new(ssl);
  REQUIRE(session_ != nullptr);
  SSL_set_bio(session_, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
  SSL_set_connect_state(session_);
}

TlsClient::~TlsClient() { SSL_free(session_); }

bool TlsClient::handshake() {
  const bool over = SSL_do_handshake(session_) == 1;
  ERR_clear_error();
  return over;
}

void TlsClient::write(std::string_view bytes) {
  REQUIRE(SSL_write(session_, bytes.data(), static_cast<int>(bytes.size())) ==
          static_cast<int>(bytes.size()));
}

std::string TlsClient::read() {
  std::string bytes;
  std::array<char, 8192> buffer;
  for (int n = 0; (n = SSL_read(session_, buffer.data(), buffer.size())) > 0;) {
    bytes.append(buffer.data(), static_cast<std::size_t>(n));
  }
  ERR_clear_error();
  return bytes;
}

void TlsClient::update_keys() {
  REQUIRE(SSL_key_update(session_, SSL_KEY_UPDATE_REQUESTED) == 1);
  REQUIRE(SSL_do_handshake(session_) == 1);
}

void TlsClient::notify() { SSL_shutdown(session_); }
bool TlsClient::notified() const {
  return (SSL_get_shutdown(session_) & SSL_RECEIVED_SHUTDOWN) != 0;
}

std::string TlsClient::take() {
  BIO* const out = SSL_get_wbio(session_);
  std::string bytes = text_of(out);
  BIO_reset(out);
  return bytes;
}

void TlsClient::give(std::string_view in) {
  BIO_write(SSL_get_rbio(session_), in.data(), static_cast<int>(in.size()));
}

}  // namespace tcpvitals::testing
