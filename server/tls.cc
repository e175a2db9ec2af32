#include "server/tls.h"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <cstdio>
#include <ctime>
#include <system_error>
#include <utility>

namespace tcpvitals {
namespace {

using std::chrono::sys_seconds;

constexpr char kSuites12[] = "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384";
constexpr char kSuites13[] = "TLS_AES_256_GCM_SHA384";
constexpr char kGroups[] = "X25519:P-256";
constexpr char kClientGroups[] = "X25519:P-256:P-384:P-521";
constexpr int kReadsPerCall = 16;  // two a record, and a flight of the client has up to five
// No RSA below 2048 bits, no SHA-1: Debian's default, but not OpenSSL's.
constexpr int kSecurityLevel = 2;

struct Free {
  void operator()(BIO* bio) const { BIO_free(bio); }
  void operator()(X509* certificate) const { X509_free(certificate); }
  void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
};
using BioPtr = std::unique_ptr<BIO, Free>;
using X509Ptr = std::unique_ptr<X509, Free>;
using KeyPtr = std::unique_ptr<EVP_PKEY, Free>;

// --- The files.

// What OpenSSL complained of first, and an empty queue.
std::string take_reason() {
  const char* reason = ERR_reason_error_string(ERR_peek_error());
  ERR_clear_error();
  return reason != nullptr ? reason : "unknown error";
}

std::string name_text(const X509_NAME* name) {
  const BioPtr out(BIO_new(BIO_s_mem()));
  X509_NAME_print_ex(out.get(), name, 0, XN_FLAG_RFC2253 & ~ASN1_STRFLGS_ESC_MSB);
  char* text = nullptr;
  const long size = BIO_get_mem_data(out.get(), &text);
  return {text, static_cast<std::size_t>(size)};
}

sys_seconds time_of(const ASN1_TIME* time) {
  std::tm tm{};
  ASN1_TIME_to_tm(time, &tm);
  return sys_seconds(std::chrono::seconds(::timegm(&tm)));
}

Error errno_reason() { return {std::generic_category().message(errno)}; }

sys_seconds now_seconds() {
  return std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now());
}

std::string time_text(sys_seconds time) {
  return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(time.time_since_epoch().count()));
}

Result<BioPtr> open_file(const std::string& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) return errno_reason();
  if (!S_ISREG(status.st_mode)) return Error{"not a regular file"};
  std::FILE* const file = std::fopen(path.c_str(), "re");
  if (file == nullptr) return errno_reason();
  return BioPtr(BIO_new_fp(file, BIO_CLOSE));
}

// In place of a prompt on the terminal.
int refuse_passphrase(char* /*buffer*/, int /*size*/, int /*writing*/, void* asked) {
  *static_cast<bool*>(asked) = true;
  return -1;
}

// At least one.
Result<std::vector<X509Ptr>> read_certificates(const std::string& path) {
  auto file = open_file(path);
  if (!file) return std::move(file.error());
  std::vector<X509Ptr> certificates;
  bool asked = false;
  for (;;) {
    X509Ptr next(PEM_read_bio_X509(file->get(), nullptr, refuse_passphrase, &asked));
    if (!next) break;
    certificates.push_back(std::move(next));
  }
  const bool at_end = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
  const std::string reason = take_reason();
  if (!at_end) return Error{fmt::format("certificate {}: {}", certificates.size() + 1, reason)};
  if (certificates.empty()) return Error{"no certificate in PEM form"};
  return certificates;
}

Result<KeyPtr> read_key(const std::string& path) {
  auto file = open_file(path);
  if (!file) return std::move(file.error());
  bool asked = false;
  KeyPtr key(PEM_read_bio_PrivateKey(file->get(), nullptr, refuse_passphrase, &asked));
  ERR_clear_error();
  if (asked) return Error{"the key is encrypted: a key without a passphrase is needed"};
  if (!key) return Error{"no private key in PEM form"};
  return key;
}

Result<void> use_certificates(SSL_CTX* context, const std::vector<X509Ptr>& chain) {
  bool used = SSL_CTX_use_certificate(context, chain[0].get()) == 1;
  for (std::size_t i = 1; used && i < chain.size(); ++i) {
    used = SSL_CTX_add1_chain_cert(context, chain[i].get()) == 1;
  }
  if (!used) return Error{take_reason()};
  return {};
}

Result<void> use_key(SSL_CTX* context, const std::string& file, X509* certificate,
                     const std::string& certificate_file) {
  const auto key = read_key(file);
  if (!key) return key.error();
  if (X509_check_private_key(certificate, key->get()) != 1) {
    ERR_clear_error();
    return Error{"not the key of the certificate in " + certificate_file};
  }
  if (SSL_CTX_use_PrivateKey(context, key->get()) != 1) return Error{take_reason()};
  return {};
}

// OpenSSL takes a client's certificate with TLS 1.2 only if its curve is one of those for the
// exchange of keys, which is over when the certificate comes.
int verify_client(X509_STORE_CTX* store, void* /*argument*/) {
  const int index = SSL_get_ex_data_X509_STORE_CTX_idx();
  SSL_set1_groups_list(static_cast<SSL*>(X509_STORE_CTX_get_ex_data(store, index)), kClientGroups);
  return X509_verify_cert(store);
}

// The names of the authorities are told to the client, which may have several certificates. Each of
// them is trusted for itself: an intermediate needs no root beside it.
Result<void> use_client_authorities(SSL_CTX* context, const std::vector<X509Ptr>& authorities,
                                    bool required) {
  for (const X509Ptr& authority : authorities) {
    if (X509_STORE_add_cert(SSL_CTX_get_cert_store(context), authority.get()) != 1 ||
        SSL_CTX_add_client_CA(context, authority.get()) != 1) {
      return Error{take_reason()};
    }
  }
  X509_VERIFY_PARAM_set_flags(SSL_CTX_get0_param(context), X509_V_FLAG_PARTIAL_CHAIN);
  SSL_CTX_set_cert_verify_callback(context, verify_client, nullptr);
  SSL_CTX_set_verify(context, SSL_VERIFY_PEER | (required ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0),
                     nullptr);
  return {};
}

bool apply_policy(SSL_CTX* context) {
  SSL_CTX_set_security_level(context, kSecurityLevel);
  SSL_CTX_set_options(context, SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_NO_TICKET |
                                   SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                                   SSL_OP_IGNORE_UNEXPECTED_EOF);  // the socket's flag tells
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                                SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  // Only the record at hand is taken from the socket, so that polling tells of all others.
  SSL_CTX_set_read_ahead(context, 0);
  return SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION) == 1 &&
         SSL_CTX_set_max_proto_version(context, TLS1_3_VERSION) == 1 &&
         SSL_CTX_set_cipher_list(context, kSuites12) == 1 &&
         SSL_CTX_set_ciphersuites(context, kSuites13) == 1 &&
         SSL_CTX_set1_groups_list(context, kGroups) == 1 &&
         SSL_CTX_set_num_tickets(context, 0) == 1;
}

// --- The socket, without SIGPIPE, which SSL_set_fd() would raise.

TlsSocket& socket_of(BIO* bio) { return *static_cast<TlsSocket*>(BIO_get_data(bio)); }

bool try_again(int error) { return error == EAGAIN || error == EWOULDBLOCK || error == EINTR; }

int socket_write(BIO* bio, const char* data, int size) {
  BIO_clear_retry_flags(bio);
  const ssize_t n = ::send(socket_of(bio).fd, data, static_cast<std::size_t>(size), MSG_NOSIGNAL);
  if (n < 0 && try_again(errno)) BIO_set_retry_write(bio);
  return static_cast<int>(n);
}

// OpenSSL answers attempts to renegotiate, and goes on, for as long as there is input: one peer
// could keep a thread for itself.
int socket_read(BIO* bio, char* data, int size) {
  BIO_clear_retry_flags(bio);
  TlsSocket& socket = socket_of(bio);
  if (socket.reads_left-- <= 0) {
    BIO_set_retry_read(bio);
    return -1;
  }
  const ssize_t n = ::recv(socket.fd, data, static_cast<std::size_t>(size), 0);
  if (n < 0 && try_again(errno)) BIO_set_retry_read(bio);
  socket.ended = n == 0;
  return static_cast<int>(n);
}

long socket_control(BIO* bio, int command, long /*number*/, void* /*pointer*/) {
  if (command == BIO_CTRL_EOF) return socket_of(bio).ended ? 1 : 0;
  return command == BIO_CTRL_FLUSH ? 1 : 0;
}

const BIO_METHOD* socket_method() {
  static const BIO_METHOD* const method = [] {
    BIO_METHOD* const made = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "socket");
    BIO_meth_set_write(made, socket_write);
    BIO_meth_set_read(made, socket_read);
    BIO_meth_set_ctrl(made, socket_control);
    return made;
  }();
  return method;
}

// One for all sessions of a thread, which begin each call with telling it their socket: between
// calls it keeps nothing, and one each would be 200 bytes.
BIO* thread_bio() {
  thread_local BioPtr bio;
  if (!bio) {
    bio.reset(BIO_new(socket_method()));
    if (bio) BIO_set_init(bio.get(), 1);
  }
  return bio.get();
}

// --- What went wrong.

TlsOutcome outcome_of(unsigned long error) {
  if (ERR_GET_LIB(error) != ERR_LIB_SSL) return TlsOutcome::kProtocol;
  switch (ERR_GET_REASON(error)) {
    case SSL_R_UNSUPPORTED_PROTOCOL:
    case SSL_R_UNKNOWN_PROTOCOL:
    case SSL_R_WRONG_SSL_VERSION:
    case SSL_R_VERSION_TOO_LOW:
    case SSL_R_VERSION_TOO_HIGH:
    case SSL_R_INAPPROPRIATE_FALLBACK:
    case SSL_R_TLSV1_ALERT_PROTOCOL_VERSION:
    case SSL_R_TLSV1_ALERT_INAPPROPRIATE_FALLBACK:
      return TlsOutcome::kVersion;
    case SSL_R_NO_SHARED_CIPHER:
    case SSL_R_NO_SHARED_GROUPS:
    case SSL_R_NO_SHARED_SIGNATURE_ALGORITHMS:
    case SSL_R_NO_CIPHERS_SPECIFIED:
    case SSL_R_MISSING_SUPPORTED_GROUPS_EXTENSION:
    case SSL_R_MISSING_SIGALGS_EXTENSION:
    case SSL_R_UNSUPPORTED_ELLIPTIC_CURVE:
    case SSL_R_NO_SUITABLE_GROUPS:
    case SSL_R_NO_SUITABLE_KEY_SHARE:
    case SSL_R_NO_SUITABLE_SIGNATURE_ALGORITHM:
    case SSL_R_SSLV3_ALERT_HANDSHAKE_FAILURE:
    case SSL_R_TLSV1_ALERT_INSUFFICIENT_SECURITY:
      return TlsOutcome::kCipher;
    case SSL_R_CERTIFICATE_VERIFY_FAILED:
    case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE:
    case SSL_R_NO_CERTIFICATES_RETURNED:
    case SSL_R_UNKNOWN_CERTIFICATE_TYPE:
    case SSL_R_WRONG_CERTIFICATE_TYPE:
    case SSL_R_WRONG_SIGNATURE_TYPE:
    case SSL_R_WRONG_CURVE:
    case SSL_R_BAD_SIGNATURE:
    case SSL_R_EE_KEY_TOO_SMALL:
    case SSL_R_CA_KEY_TOO_SMALL:
    case SSL_R_CA_MD_TOO_WEAK:
    case SSL_R_UNABLE_TO_FIND_PUBLIC_KEY_PARAMETERS:
    case SSL_R_SSLV3_ALERT_BAD_CERTIFICATE:
    case SSL_R_SSLV3_ALERT_CERTIFICATE_EXPIRED:
    case SSL_R_SSLV3_ALERT_CERTIFICATE_REVOKED:
    case SSL_R_SSLV3_ALERT_CERTIFICATE_UNKNOWN:
    case SSL_R_SSLV3_ALERT_UNSUPPORTED_CERTIFICATE:
    case SSL_R_TLSV1_ALERT_ACCESS_DENIED:
    case SSL_R_TLSV1_ALERT_UNKNOWN_CA:
    case SSL_R_TLSV1_ALERT_DECRYPT_ERROR:
    case SSL_R_TLSV1_UNRECOGNIZED_NAME:
    case SSL_R_SSLV3_ALERT_NO_CERTIFICATE:
    case SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED:
      return TlsOutcome::kCertificate;
    default:
      return TlsOutcome::kProtocol;
  }
}

}  // namespace

void TlsFree::operator()(ssl_ctx_st* context) const { SSL_CTX_free(context); }
void TlsFree::operator()(ssl_st* session) const { SSL_free(session); }

std::string TlsContext::Validity::wrong_at(sys_seconds now) const {
  if (now < begin) return which + "not valid before " + time_text(begin);
  return now > end ? which + "expired at " + time_text(end) : "";
}

// Fills a context from the files, and keeps which of them was at fault.
class TlsLoader {
 public:
  explicit TlsLoader(const TlsOptions& options) : options_(options), context_(new TlsContext) {
    context_->context_.reset(SSL_CTX_new(TLS_server_method()));
  }

  Result<std::shared_ptr<const TlsContext>> load() {
    auto loaded = use_all();
    if (!loaded) return std::move(loaded.error());
    return std::shared_ptr<const TlsContext>(std::move(context_));
  }

  std::string TlsOptions::*file() const { return file_; }

 private:
  SSL_CTX* ssl() const { return context_->context_.get(); }

  Result<void> use_all() {
    if (ssl() == nullptr || !apply_policy(ssl())) return Error{"OpenSSL: " + take_reason()};
    auto used = use_pair(&TlsOptions::certificate_file, &TlsOptions::key_file);
    if (!used) return used;
    if (!options_.second_certificate_file.empty()) {
      used = use_pair(&TlsOptions::second_certificate_file, &TlsOptions::second_key_file);
      if (!used) return used;
    }
    return options_.client_certificate == ClientCertificate::kNone ? used : use_authorities();
  }

  Result<void> use_pair(std::string TlsOptions::*certificate, std::string TlsOptions::*key) {
    file_ = certificate;
    const auto chain = read_certificates(options_.*certificate);
    if (!chain) return chain.error();
    X509* const leaf = chain->front().get();
    if (SSL_CTX_get0_certificate(ssl()) == nullptr) {
      context_->subject_ = name_text(X509_get_subject_name(leaf));
    } else if (kind_of(leaf) == kind_of(SSL_CTX_get0_certificate(ssl()))) {
      return Error{"a key of the same kind as the first certificate's: one would never be used"};
    }
    if (auto used = use_certificates(ssl(), *chain); !used) return used;
    note(*chain, context_->sent_);
    file_ = key;
    return use_key(ssl(), options_.*key, leaf, options_.*certificate);
  }

  Result<void> use_authorities() {
    file_ = &TlsOptions::client_ca_file;
    const auto authorities = read_certificates(options_.client_ca_file);
    if (!authorities) return authorities.error();
    note(*authorities, context_->authorities_);
    return use_client_authorities(ssl(), *authorities,
                                  options_.client_certificate == ClientCertificate::kRequire);
  }

  static int kind_of(X509* certificate) {
    return EVP_PKEY_get_base_id(X509_get0_pubkey(certificate));
  }

  void note(const std::vector<X509Ptr>& certificates, std::vector<TlsContext::Validity>& out) {
    for (std::size_t i = 0; i < certificates.size(); ++i) {
      const X509* const one = certificates[i].get();
      const std::string which = i == 0 ? ""
                                       : fmt::format("certificate {}, {}: ", i + 1,
                                                     name_text(X509_get_subject_name(one)));
      out.push_back(
          {file_, which, time_of(X509_get0_notBefore(one)), time_of(X509_get0_notAfter(one))});
    }
  }

  const TlsOptions& options_;
  std::shared_ptr<TlsContext> context_;
  std::string TlsOptions::*file_ = &TlsOptions::certificate_file;  // that is being read
};

Result<std::shared_ptr<const TlsContext>> TlsContext::load(const TlsOptions& options,
                                                           TlsFault* fault) {
  ERR_clear_error();
  TlsLoader loader(options);
  auto context = loader.load();
  if (context) return context;
  if (fault != nullptr) *fault = {loader.file(), context.error().message};
  return std::move(context.error()).in(options.*loader.file());
}

sys_seconds TlsContext::not_after() const {
  sys_seconds first = sys_seconds::max();
  for (const Validity& one : sent_) first = std::min(first, one.end);
  return first;
}

std::optional<TlsFault> TlsContext::doubt(sys_seconds now) const {
  for (const Validity& one : sent_) {
    if (auto wrong = one.wrong_at(now); !wrong.empty()) return TlsFault{one.file, std::move(wrong)};
  }
  std::string wrong;
  for (const Validity& one : authorities_) {
    wrong = one.wrong_at(now);
    if (wrong.empty()) return std::nullopt;
  }
  if (wrong.empty()) return std::nullopt;
  return TlsFault{&TlsOptions::client_ca_file, "no client can be accepted: " + wrong};
}

TlsStore::TlsStore(TlsOptions options, const TlsStoreStatistics& before)
    : options_(std::move(options)) {
  (void)reload();
  statistics_.reloads = before.reloads;
  statistics_.reload_failures = before.reload_failures;
}

std::shared_ptr<const TlsContext> TlsStore::current() const {
  const std::lock_guard lock(mutex_);
  return current_;
}

// The stamps are taken first: what changes while the files are read is seen as a change.
Result<void> TlsStore::reload() {
  std::vector<Stamp> read = stamps();
  auto context = TlsContext::load(options_);
  const std::lock_guard lock(mutex_);
  stamps_ = std::move(read);
  statistics_.usable = context.ok();
  statistics_.error = context ? "" : context.error().message;
  ++(context ? statistics_.reloads : statistics_.reload_failures);
  if (!context) return std::move(context.error());
  current_ = std::move(*context);
  statistics_.not_after = current_->not_after();
  statistics_.loaded = now_seconds();
  return {};
}

bool TlsStore::changed() const {
  const std::vector<Stamp> now = stamps();
  const std::lock_guard lock(mutex_);
  return now != stamps_;
}

TlsStoreStatistics TlsStore::statistics() const {
  const std::lock_guard lock(mutex_);
  return statistics_;
}

std::vector<TlsStore::Stamp> TlsStore::stamps() const {
  std::vector<Stamp> stamps;
  for (const std::string* path :
       {&options_.certificate_file, &options_.key_file, &options_.second_certificate_file,
        &options_.second_key_file, &options_.client_ca_file}) {
    struct stat status {};
    Stamp& stamp = stamps.emplace_back();
    if (::stat(path->c_str(), &status) != 0) continue;
    stamp.device = status.st_dev;
    stamp.inode = status.st_ino;
    stamp.size = status.st_size;
    stamp.changed_ns = status.st_ctim.tv_sec * 1'000'000'000 + status.st_ctim.tv_nsec;
  }
  return stamps;
}

Result<std::unique_ptr<TlsSession>> TlsSession::accept(const TlsContext& context, int fd) {
  ERR_clear_error();
  std::unique_ptr<TlsSession> session(new TlsSession(fd));
  session->session_.reset(SSL_new(context.context_.get()));
  BIO* const bio = thread_bio();
  if (!session->session_ || bio == nullptr) return Error{"TLS session: " + take_reason()};
  BIO_up_ref(bio);
  SSL_set_bio(session->session_.get(), bio, bio);
  SSL_set_accept_state(session->session_.get());
  return session;
}

// Every call into OpenSSL stands between these two, and leaves no error in its queue.
void TlsSession::begin_call() {
  ERR_clear_error();
  errno = 0;
  socket_.reads_left = kReadsPerCall;
  BIO_set_data(SSL_get_rbio(session_.get()), &socket_);
}

TlsStep TlsSession::step_after(int result) {
  const int error = errno;
  switch (SSL_get_error(session_.get(), result)) {
    case SSL_ERROR_WANT_READ:
      return TlsStep::kWantRead;
    case SSL_ERROR_WANT_WRITE:
      return TlsStep::kWantWrite;
    case SSL_ERROR_ZERO_RETURN:
      failure_ = {TlsOutcome::kClosed, 0, "closed by the peer"};
      return socket_.ended ? TlsStep::kTruncated : TlsStep::kEnd;
    case SSL_ERROR_SYSCALL:
      failure_ = {TlsOutcome::kClosed, error, errno_error("socket", error).message};
      ERR_clear_error();
      return TlsStep::kFailed;
    default:
      break;
  }
  failure_ = {outcome_of(ERR_peek_error()), 0, take_reason()};
  const long verified = SSL_get_verify_result(session_.get());
  if (verified != X509_V_OK) {
    failure_.outcome = TlsOutcome::kCertificate;
    failure_.text += ": ";
    failure_.text += X509_verify_cert_error_string(verified);
  }
  return TlsStep::kFailed;
}

TlsStep TlsSession::handshake() {
  begin_call();
  const int result = SSL_do_handshake(session_.get());
  if (result == 1) return TlsStep::kDone;
  const TlsStep step = step_after(result);
  const bool waits = step == TlsStep::kWantRead || step == TlsStep::kWantWrite;
  return waits ? step : TlsStep::kFailed;
}

TlsIo TlsSession::read(std::span<char> bytes) {
  assert(!bytes.empty());
  begin_call();
  std::size_t n = 0;
  const int result = SSL_read_ex(session_.get(), bytes.data(), bytes.size(), &n);
  return result == 1 ? TlsIo{TlsStep::kDone, n} : TlsIo{step_after(result)};
}

TlsIo TlsSession::write(std::span<const char> bytes) {
  assert(!bytes.empty());
  begin_call();
  std::size_t n = 0;
  const int result = SSL_write_ex(session_.get(), bytes.data(), bytes.size(), &n);
  return result == 1 ? TlsIo{TlsStep::kDone, n} : TlsIo{step_after(result)};
}

// Once it is sent SSL_shutdown() would read, and take the peer's data for an error.
TlsStep TlsSession::shutdown() {
  if (notified_) return TlsStep::kDone;
  begin_call();
  if (SSL_in_init(session_.get()) == 1) {  // the answer to a KeyUpdate waits to be written
    if (const int result = SSL_do_handshake(session_.get()); result != 1) return step_after(result);
  }
  const int result = SSL_shutdown(session_.get());
  if (result < 0) return step_after(result);
  notified_ = true;
  return TlsStep::kDone;
}

bool TlsSession::pending() const { return SSL_has_pending(session_.get()) == 1; }

std::string_view TlsSession::version() const { return SSL_get_version(session_.get()); }

std::string_view TlsSession::cipher() const {
  const char* name = SSL_get_cipher_name(session_.get());
  return name != nullptr ? name : "";
}

std::string TlsSession::peer_subject() const {
  const X509* const certificate = SSL_get0_peer_certificate(session_.get());
  return certificate != nullptr ? name_text(X509_get_subject_name(certificate)) : "";
}

}  // namespace tcpvitals
