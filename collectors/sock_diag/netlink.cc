#include "collectors/sock_diag/netlink.h"

#include <libmnl/libmnl.h>
#include <linux/inet_diag.h>
#include <linux/sock_diag.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include "collectors/sock_diag/event_shards.h"
#include "collectors/sock_diag/exclude.h"

namespace tcpvitals {
namespace {

// The kernel fills at most this much of a dump per receive.
constexpr std::size_t kDumpBytes = 32 * 1024;
// Pieces of a full dump that one turn of the sampler reads, a sixth of a millisecond: with one, the
// system calls of a turn cost 1 % of a dump.
constexpr std::size_t kDumpBatch = 2;
// An event is about 380 bytes, one to a datagram.
constexpr std::size_t kEventBytes = 1024;

// The kernel's type of the control message is the option's own number.
constexpr int kNsidMessage = NETLINK_LISTEN_ALL_NSID;
using NsidControl = std::array<std::byte, CMSG_SPACE(sizeof(int))>;

constexpr unsigned group_bit(unsigned group) { return 1U << (group - 1); }

constexpr std::uint8_t extension(unsigned attribute) {
  return static_cast<std::uint8_t>(1U << (attribute - 1));
}

// The attributes to ask for; what no bit stands for comes unasked, as far as we may see it.
std::uint8_t extensions(DumpDetail detail) {
  switch (detail) {
    case DumpDetail::kNone:
      break;
    case DumpDetail::kCounters:
      return extension(INET_DIAG_INFO);
    case DumpDetail::kEverything:  // VEGASINFO: of whichever congestion control has something to
                                   // say
      return extension(INET_DIAG_INFO) | extension(INET_DIAG_VEGASINFO) |
             extension(INET_DIAG_CONG) | extension(INET_DIAG_TOS) | extension(INET_DIAG_TCLASS) |
             extension(INET_DIAG_SKMEMINFO) | extension(INET_DIAG_SHUTDOWN);
  }
  return 0;
}

// What socket() answers where there is no sock_diag, or where a sandbox hides netlink; what the
// kernel answers to a dump where its TCP part is not there. To a request without a filter EINVAL is
// such an answer too.
bool has_no_sock_diag(int error) {
  return error == EPROTONOSUPPORT || error == EAFNOSUPPORT || error == ESOCKTNOSUPPORT;
}
bool has_no_tcp(int error) {
  return error == ENOENT || error == EOPNOTSUPP || error == EPROTONOSUPPORT || error == EINVAL;
}

Error no_sock_diag(int error) {
  return Error::absent(
      errno_error("sock_diag", error).message +
      ": load the modules inet_diag and tcp_diag, or build the kernel with CONFIG_INET_DIAG and "
      "CONFIG_INET_TCP_DIAG; a sandbox must allow AF_NETLINK; gVisor has none");
}

struct MnlClose {
  void operator()(mnl_socket* s) const { mnl_socket_close(s); }
};

// What one receive() may bring, and the events that are subscribed to.
struct Reading {
  std::size_t datagram_bytes = kDumpBytes;
  std::size_t batch = 1;
  unsigned groups = 0;  // of multicast; 0: dumps only
  EventShard shard{};
};

class MnlDiagSocket final : public DiagSocket {
 public:
  // `enter`: empty for the namespace of the calling thread.
  static Result<std::unique_ptr<MnlDiagSocket>> open(const Reading& reading,
                                                     EnterNamespace enter = {}) {
    std::unique_ptr<MnlDiagSocket> opened(new MnlDiagSocket(reading, std::move(enter)));
    auto result = opened->reopen();
    if (!result) return std::move(result.error());
    return opened;
  }

  Result<void> reopen() override {
    if (!enter_) return open_here();
    return enter_([this] { return open_here(); });
  }

  Result<void> open_here() {
    socket_.reset(mnl_socket_open2(NETLINK_SOCK_DIAG, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!socket_) {
      const int error = errno;
      return has_no_sock_diag(error) ? no_sock_diag(error)
                                     : errno_error("open netlink sock_diag", error);
    }
    auto filtered = filter_events(excluded_.events);  // before the first event can come
    if (!filtered) return filtered;
    if (mnl_socket_bind(socket_.get(), reading_.groups, MNL_SOCKET_AUTOPID) < 0) {
      return errno_error("bind netlink sock_diag", errno);
    }
    return {};
  }

  int fd() const override { return mnl_socket_get_fd(socket_.get()); }

  Result<void> request_dump(std::uint32_t states, DumpDetail detail) override {
    // The legacy type: one walk returns IPv4 and IPv6, where the newer one needs a walk each.
    const std::vector<std::byte>& filter = excluded_.dump;
    std::vector<char> buffer(MNL_NLMSG_HDRLEN + MNL_ALIGN(sizeof(inet_diag_req)) + MNL_ATTR_HDRLEN +
                             MNL_ALIGN(filter.size()));
    nlmsghdr* header = mnl_nlmsg_put_header(buffer.data());
    header->nlmsg_type = TCPDIAG_GETSOCK;
    header->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
    header->nlmsg_seq = ++sequence_;
    auto* request =
        static_cast<inet_diag_req*>(mnl_nlmsg_put_extra_header(header, sizeof(inet_diag_req)));
    request->idiag_family = AF_INET;
    request->idiag_ext = extensions(detail);
    request->idiag_states = states;
    if (!filter.empty()) {
      mnl_attr_put(header, INET_DIAG_REQ_BYTECODE, filter.size(), filter.data());
    }
    if (mnl_socket_sendto(socket_.get(), header, header->nlmsg_len) < 0) {
      return errno_error("request a sock_diag dump", errno);
    }
    return {};
  }

  Result<void> exclude(const Excludes& excludes) override {
    auto programs = compile_excludes(excludes);
    if (!programs) return std::move(programs.error());
    auto filtered = filter_events(programs->events);
    if (!filtered) return filtered;
    excluded_ = std::move(*programs);
    return {};
  }

  Result<void> listen_all_namespaces(int own_nsid) override {
    own_nsid_ = own_nsid;
    const int on = 1;
    if (::setsockopt(fd(), SOL_NETLINK, NETLINK_LISTEN_ALL_NSID, &on, sizeof on) < 0) {
      return errno_error("listen to all namespaces", errno);
    }
    controls_.resize(messages_.size());
    for (std::size_t i = 0; i < messages_.size(); ++i) {
      messages_[i].msg_hdr.msg_control = controls_[i].data();
    }
    return {};
  }

  Result<void> listen_own_namespace() override {
    const int off = 0;
    if (::setsockopt(fd(), SOL_NETLINK, NETLINK_LISTEN_ALL_NSID, &off, sizeof off) < 0) {
      return errno_error("listen to our own namespace", errno);
    }
    return {};
  }

  Result<Received> receive() override {
    Received received;
    for (std::size_t i = 0; i < controls_.size(); ++i) {
      messages_[i].msg_hdr.msg_controllen = controls_[i].size();
    }
    const int n = ::recvmmsg(fd(), messages_.data(), static_cast<unsigned>(messages_.size()),
                             MSG_DONTWAIT, nullptr);
    if (n < 0) {
      if (errno == EAGAIN || errno == EINTR) return received;
      if (errno == ENOBUFS) {
        received.overrun = true;
        return received;
      }
      return errno_error("receive from sock_diag", errno);
    }
    for (std::size_t i = 0; i < static_cast<std::size_t>(n); ++i) {
      if ((messages_[i].msg_hdr.msg_flags & MSG_TRUNC) != 0) {
        return Error{"receive from sock_diag: datagram larger than the buffer"};
      }
      datagrams_[i] =
          std::span(static_cast<const std::byte*>(vectors_[i].iov_base), messages_[i].msg_len);
      if (!controls_.empty()) nsids_[i] = nsid(messages_[i].msg_hdr);
    }
    received.datagrams = std::span(datagrams_.data(), static_cast<std::size_t>(n));
    received.nsids = std::span(nsids_.data(), static_cast<std::size_t>(n));
    return received;
  }

  std::uint64_t dropped() override {
    std::array<std::uint32_t, SK_MEMINFO_VARS> memory{};
    socklen_t length = sizeof memory;
    if (::getsockopt(fd(), SOL_SOCKET, SO_MEMINFO, memory.data(), &length) < 0) return dropped_;
    // A 32-bit counter that may wrap: the difference since the last look is what is added.
    const std::uint32_t now = memory[SK_MEMINFO_DROPS];
    dropped_ += static_cast<std::uint32_t>(now - last_drops_);
    last_drops_ = now;
    return dropped_;
  }

  std::size_t buffer_bytes() const override {
    int bytes = 0;
    socklen_t length = sizeof bytes;
    ::getsockopt(fd(), SOL_SOCKET, SO_RCVBUF, &bytes, &length);
    return static_cast<std::size_t>(bytes);
  }

  void grow_buffer(std::size_t bytes) const {
    const int wished = static_cast<int>(bytes);
    if (::setsockopt(fd(), SOL_SOCKET, SO_RCVBUFFORCE, &wished, sizeof wished) < 0) {
      ::setsockopt(fd(), SOL_SOCKET, SO_RCVBUF, &wished, sizeof wished);
    }
  }

 private:
  MnlDiagSocket(const Reading& reading, EnterNamespace enter)
      : reading_(reading),
        enter_(std::move(enter)),
        buffer_(
            std::make_unique_for_overwrite<std::byte[]>(reading.datagram_bytes * reading.batch)),
        vectors_(reading.batch),
        messages_(reading.batch),
        datagrams_(reading.batch),
        nsids_(reading.batch, kOwnNamespace) {
    for (std::size_t i = 0; i < reading.batch; ++i) {
      vectors_[i] = {buffer_.get() + i * reading.datagram_bytes, reading.datagram_bytes};
      messages_[i].msg_hdr.msg_iov = &vectors_[i];
      messages_[i].msg_hdr.msg_iovlen = 1;
    }
  }

  // Events of our own namespace carry no number, unless somebody gave us one.
  int nsid(msghdr& message) const {
    const cmsghdr* control = CMSG_FIRSTHDR(&message);
    if (control == nullptr || control->cmsg_level != SOL_NETLINK ||
        control->cmsg_type != kNsidMessage || control->cmsg_len < CMSG_LEN(sizeof(int))) {
      return kOwnNamespace;
    }
    int nsid = 0;
    std::memcpy(&nsid, CMSG_DATA(control), sizeof nsid);
    return nsid == own_nsid_ ? kOwnNamespace : nsid;
  }

  Result<void> filter_events(const std::vector<sock_filter>& excludes) const {
    if (reading_.groups == 0) return {};
    std::vector<sock_filter> filter = shard_filter(reading_.shard);
    filter.insert(filter.end(), excludes.begin(), excludes.end());
    if (excludes.empty()) filter.push_back(BPF_STMT(BPF_RET | BPF_K, ~0U));
    const sock_fprog program{static_cast<unsigned short>(filter.size()), filter.data()};
    if (::setsockopt(fd(), SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) < 0) {
      // ENOMEM: the kernel bounds a socket's filter by that.
      return errno_error("exclude from DESTROY events, within net.core.optmem_max", errno);
    }
    return {};
  }

  const Reading reading_;
  ExcludePrograms excluded_;
  EnterNamespace enter_;  // empty: it stays where it was opened
  std::unique_ptr<mnl_socket, MnlClose> socket_;
  std::unique_ptr<std::byte[]> buffer_;  // a namespace with few sockets touches little of it
  std::vector<iovec> vectors_;
  std::vector<mmsghdr> messages_;
  std::vector<std::span<const std::byte>> datagrams_;
  std::vector<int> nsids_;
  std::vector<NsidControl> controls_;  // empty: only our own namespace
  int own_nsid_ = kOwnNamespace;
  std::uint32_t sequence_ = 0;
  std::uint32_t last_drops_ = 0;
  std::uint64_t dropped_ = 0;
};

}  // namespace

Result<void> expect_dumps(DiagSocket& socket) {
  auto requested =
      socket.request_dump(1U << static_cast<unsigned>(TcpState::kListen), DumpDetail::kNone);
  if (!requested) return requested;
  for (;;) {
    const auto received = socket.receive();
    if (!received) return received.error();
    if (received->datagrams.empty()) return Error{"sock_diag: no answer to a dump"};
    for (const auto& datagram : received->datagrams) {
      InetDiagReader reader(datagram);
      SocketRow row;
      InetDiagReader::Next next;
      do next = reader.next(row);
      while (next == InetDiagReader::Next::kRow);
      if (next == InetDiagReader::Next::kDone) return {};
      if (has_no_tcp(reader.refusal())) return no_sock_diag(reader.refusal());
      if (next == InetDiagReader::Next::kError) return Error(reader.error());
    }
  }
}

Result<DiagSockets> open_diag_sockets(std::size_t event_buffer_bytes) {
  auto dumps = open_dump_sockets({});
  if (!dumps) return std::move(dumps.error());
  if (auto answered = expect_dumps(*dumps->listeners); !answered)
    return std::move(answered.error());
  std::vector<std::unique_ptr<DiagSocket>> shards;
  for (std::uint32_t i = 0; i < kEventShards; ++i) {
    auto shard = MnlDiagSocket::open(
        {.datagram_bytes = kEventBytes,
         .batch = kEventBatch,
         .groups = group_bit(SKNLGRP_INET_TCP_DESTROY) | group_bit(SKNLGRP_INET6_TCP_DESTROY),
         .shard = {i, kEventShards}});
    if (!shard) return std::move(shard.error());
    (*shard)->grow_buffer(event_buffer_bytes / kEventShards);
    shards.push_back(std::move(*shard));
  }
  auto events = EventShards::join(std::move(shards));
  if (!events) return std::move(events.error());
  return DiagSockets{std::move(*events), std::move(dumps->listeners), std::move(dumps->dump)};
}

Result<DumpSockets> open_dump_sockets(EnterNamespace enter) {
  auto listeners = MnlDiagSocket::open({}, enter);
  if (!listeners) return std::move(listeners.error());
  auto dump = MnlDiagSocket::open({.batch = kDumpBatch}, std::move(enter));
  if (!dump) return std::move(dump.error());
  return DumpSockets{std::move(*listeners), std::move(*dump)};
}

}  // namespace tcpvitals
