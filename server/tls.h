// TLS for the server's listeners: what is loaded from files, what replaces it at run time, and one
// connection's session.
//
// TLS 1.2 with ECDHE and AES-256-GCM, in the server's order, or TLS 1.3 with AES-256-GCM; keys are
// exchanged by X25519 or P-256. Clients' certificates may be of P-384 and P-521 too. No tickets, no
// session cache, no early data, no renegotiation, no compression: a handshake is always a whole
// one, and nothing secret outlives a connection.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "server/options.h"

struct ssl_ctx_st;  // OpenSSL's SSL_CTX and SSL: its headers stay in tls.cc
struct ssl_st;

namespace tcpvitals {

struct TlsFree {
  void operator()(ssl_ctx_st* context) const;
  void operator()(ssl_st* session) const;
};

// Which file cannot be used, by the option that names it, and why.
struct TlsFault {
  std::string TlsOptions::*file = &TlsOptions::certificate_file;
  std::string reason;
};

// One set of files, loaded and checked. Immutable, any thread; sessions hold what they need of it.
class TlsContext {
 public:
  // Never asks for a passphrase. The error names the file and what is wrong with it: it cannot be
  // read, is not PEM, has an encrypted key or one that is another certificate's, ... `fault`, if
  // given, is told the same.
  static Result<std::shared_ptr<const TlsContext>> load(const TlsOptions& options,
                                                        TlsFault* fault = nullptr);

  // When the first certificate of all that are sent ends, those of the chains included. Seconds: it
  // may be for 8,000 years.
  std::chrono::sys_seconds not_after() const;
  const std::string& subject() const { return subject_; }  // "CN=www.example.org,O=Example"

  // What is used, and clients or we will refuse at that time: a certificate that is sent has ended
  // or has not begun, or all that sign clients' certificates have.
  std::optional<TlsFault> doubt(std::chrono::sys_seconds now) const;

 private:
  friend class TlsSession;
  TlsContext() = default;

  struct Validity {  // of one certificate
    std::string TlsOptions::*file;
    std::string which;  // "certificate 2, CN=…: "; empty: the only one that the file is about
    std::chrono::sys_seconds begin;
    std::chrono::sys_seconds end;

    std::string wrong_at(std::chrono::sys_seconds now) const;  // empty: nothing
  };
  friend class TlsLoader;

  std::unique_ptr<ssl_ctx_st, TlsFree> context_;
  std::vector<Validity> sent_;
  std::vector<Validity> authorities_;
  std::string subject_;
};

struct TlsStoreStatistics {
  bool usable = false;                 // the files as they are now
  std::chrono::sys_seconds not_after;  // of what is in use; 1970: nothing is
  std::chrono::sys_seconds loaded;     // when that was
  std::uint64_t reloads = 0;           // that succeeded
  std::uint64_t reload_failures = 0;
  std::string error;  // why they are not usable
};

// The context that new sessions of one listener begin with. Any thread.
class TlsStore {
 public:
  // Reads the files; that they cannot be used is told by statistics(), whose counters go on from
  // those of `before`: of the store that this one replaces.
  explicit TlsStore(TlsOptions options, const TlsStoreStatistics& before = {});

  // Null until the files could be used once.
  std::shared_ptr<const TlsContext> current() const;

  // Reads the files again. If they cannot be used, what was goes on. Sessions that live keep what
  // they began with.
  Result<void> reload();

  // True if a file is not what it was when it was last read. One stat() a file: content, mode, a
  // rename over it and another target of a symbolic link are all seen.
  bool changed() const;

  TlsStoreStatistics statistics() const;

 private:
  struct Stamp {  // of a file; all zero: there is none, or it may not be looked at
    std::uint64_t device = 0;
    std::uint64_t inode = 0;
    std::int64_t size = 0;
    std::int64_t changed_ns = 0;

    bool operator==(const Stamp&) const = default;
  };

  std::vector<Stamp> stamps() const;

  const TlsOptions options_;

  mutable std::mutex mutex_;
  std::shared_ptr<const TlsContext> current_;  // these three under mutex_
  std::vector<Stamp> stamps_;                  // from before the files were read
  TlsStoreStatistics statistics_;
};

// How a handshake ended; the values of label `outcome`.
enum class TlsOutcome : std::uint8_t {
  kOk,
  kVersion,      // no version of TLS in common
  kCipher,       // no suite, group or signature algorithm in common
  kCertificate,  // the client's is missing, not good or not its own, or it does not like ours
  kProtocol,     // what came is not TLS, or is broken
  kTimeout,      // the deadline: known to whoever waits, never to a session
  kClosed,       // the connection ended first
};
inline constexpr std::array<std::string_view, 7> kTlsOutcomes{
    "ok", "version", "cipher", "certificate", "protocol", "timeout", "closed"};

enum class TlsStep : std::uint8_t {
  kDone,
  kWantRead,   // again when the socket is readable
  kWantWrite,  // again when it is writable; a read may want this too
  kEnd,        // the peer ended its stream, as it should
  kTruncated,  // the peer's end came without close_notify: what was received may be cut short
  kFailed,     // see failure(); what came before a failed write may still be read
};

struct TlsIo {
  TlsStep step;
  std::size_t bytes = 0;  // more than 0 if, and only if, kDone
};

struct TlsSocket {  // what OpenSSL reads and writes through
  int fd;
  int reads_left = 0;  // in this call
  bool ended = false;  // by the peer's FIN
};

struct TlsFailure {
  TlsOutcome outcome = TlsOutcome::kOk;
  int error = 0;  // errno, if it was the socket that failed
  std::string text;
};

// The server's side of one connection, on a nonblocking socket that it does not own. It belongs to
// the thread that made it.
// A call takes a few records of input at most, whatever the peer sends: for level-triggered
// polling. Never raises SIGPIPE. Memory: 14 KB while idle; while data is on its way up to 34 KB
// more.
class TlsSession {
 public:
  // Fails for want of memory only.
  static Result<std::unique_ptr<TlsSession>> accept(const TlsContext& context, int fd);
  TlsSession(const TlsSession&) = delete;
  TlsSession& operator=(const TlsSession&) = delete;
  ~TlsSession() = default;

  // To be called until it is kDone, before anything below. Never kEnd or kTruncated.
  TlsStep handshake();

  // At least one byte and at most a record, or the reason why not. `bytes` is not empty.
  TlsIo read(std::span<char> bytes);
  // May take less than all. After kWantWrite the next write must begin with the same bytes.
  TlsIo write(std::span<const char> bytes);
  // Sends close_notify: our end of the stream; reading goes on. kDone once the socket has taken it.
  TlsStep shutdown();

  // The rest of a record waits here, of which the socket does not tell: read before polling.
  bool pending() const;

  std::string_view version() const;  // "TLSv1.3"
  std::string_view cipher() const;   // "TLS_AES_256_GCM_SHA384"
  // Of the client's certificate, which was verified; empty: it showed none.
  std::string peer_subject() const;

  const TlsFailure& failure() const { return failure_; }
  TimePoint began() const { return began_; }

 private:
  explicit TlsSession(int fd) : socket_{fd} {}
  void begin_call();
  TlsStep step_after(int result);

  TlsSocket socket_;
  bool notified_ = false;
  const TimePoint began_ = Clock::now();
  std::unique_ptr<ssl_st, TlsFree> session_;
  TlsFailure failure_;
};

}  // namespace tcpvitals
