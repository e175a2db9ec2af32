// The vital signs of connections that another server owns: here one with a thread for each, which
// does nothing for its metrics but to say when a connection begins and when it ends.
//
//   watched_sockets 10080 127.0.0.1:10081     until it is killed
#include <netinet/in.h>
#include <prometheus/exposer.h>
#include <sys/socket.h>
#include <tcpvitals/collectors/exposed.h>
#include <tcpvitals/server/vitals.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

using namespace tcpvitals;

namespace {

// A metric is written once, here, and served as it stands.
constexpr MetricDesc kMetrics[] = {
    {"chat_connections", MetricType::kGauge, "Connections that live."},
    {"chat_connections_total", MetricType::kCounter, "Connections that were accepted."},
    {"chat_received_bytes_total", MetricType::kCounter, "Payload bytes received."},
    {"chat_sent_bytes_total", MetricType::kCounter, "Payload bytes sent, repeats included."},
    {"chat_data_segments_sent_total", MetricType::kCounter, "Segments sent, repeats included."},
    {"chat_retransmitted_segments_total", MetricType::kCounter,
     "Segments sent again; divide by chat_data_segments_sent_total."},
    {"chat_rtt_seconds", MetricType::kHistogram, "Smoothed round-trip times."},
    {"chat_connection_rtt_seconds",
     MetricType::kGauge,
     "Smoothed round-trip time of a connection that lives.",
     {"connection"}},
    {"chat_connection_retransmit_ratio",
     MetricType::kGauge,
     "Share of a live connection's data segments that were repeats.",
     {"connection"}},
};

// Thread-safe. A socket is watched from begin() to end(), which its owner calls before it closes
// it.
class WatchedSockets final : public Collector {
 public:
  void begin(int fd) {
    const std::lock_guard lock(mutex_);
    watched_[fd].id = std::to_string(++accepted_);
  }
  void end(int fd) {
    const std::lock_guard lock(mutex_);
    ConnectionVitals& vitals = watched_[fd].vitals;
    vitals.finish(fd, totals_);
    watched_.erase(fd);
  }

  std::string_view name() const override { return "chat"; }
  std::span<const MetricDesc> metrics() const override { return kMetrics; }
  Result<void> collect(Sink& sink, TimePoint /*deadline*/) override {
    const std::lock_guard lock(mutex_);
    for (auto& [fd, socket] : watched_) socket.vitals.sample(fd, totals_);
    sink.add(kMetrics[0], double(watched_.size()));
    sink.add(kMetrics[1], double(accepted_));
    sink.add(kMetrics[2], double(totals_.received_bytes));
    sink.add(kMetrics[3], double(totals_.sent_bytes));
    sink.add(kMetrics[4], double(totals_.data_segments_sent));
    sink.add(kMetrics[5], double(totals_.retransmitted_segments));
    sink.add_histogram(kMetrics[6], {}, totals_.rtt.sample());
    for (const auto& [fd, socket] : watched_) {
      sink.add(kMetrics[7], {socket.id}, socket.vitals.rtt_us / 1e6);
      sink.add(kMetrics[8], {socket.id}, socket.vitals.retransmit_ratio());
    }
    return {};
  }

 private:
  struct Watched {
    std::string id;
    ConnectionVitals vitals;
  };

  std::mutex mutex_;
  std::map<int, Watched> watched_;  // by descriptor
  TcpTotals totals_;
  std::uint64_t accepted_ = 0;
};

void echo(int fd, WatchedSockets& sockets) {
  char bytes[4096];
  for (ssize_t n; (n = ::recv(fd, bytes, sizeof bytes, 0)) > 0;) {
    if (::send(fd, bytes, static_cast<std::size_t>(n), MSG_NOSIGNAL) != n) break;
  }
  sockets.end(fd);
  ::close(fd);
}

int listen_on(const char* port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<std::uint16_t>(std::atoi(port)));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
  const bool bound = ::bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
  return bound && ::listen(fd, 128) == 0 ? fd : -1;
}

}  // namespace

int main(int argc, char** argv) {
  const int listener = argc == 3 ? listen_on(argv[1]) : -1;
  if (listener < 0) {
    std::perror("watched_sockets PORT METRICS_ADDRESS");
    return 2;
  }
  WatchedSockets sockets;
  const auto exposed = std::make_shared<ExposedCollectors>(std::vector<Collector*>{&sockets});
  prometheus::Exposer exposer(argv[2]);
  exposer.RegisterCollectable(exposed);
  for (;;) {
    const int fd = ::accept(listener, nullptr, nullptr);
    if (fd < 0) continue;
    sockets.begin(fd);
    std::thread(echo, fd, std::ref(sockets)).detach();
  }
}
