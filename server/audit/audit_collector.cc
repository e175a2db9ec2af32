#include "server/audit/audit_collector.h"

#include <array>

namespace tcpvitals {
namespace {

constexpr std::array kMetrics = std::to_array<MetricDesc>({
    {"tcpvitals_audit_lines_total",
     MetricType::kCounter,
     "Lines written to the audit log, those that tell of a gap included.",
     {},
     "audit log"},
    {"tcpvitals_audit_lines_lost_total",
     MetricType::kCounter,
     "Lines that were not written to the audit log because its buffer was full; a gap record in "
     "their place has their number.",
     {},
     "audit log"},
    {"tcpvitals_audit_written_bytes_total",
     MetricType::kCounter,
     "Bytes written to the audit log.",
     {},
     "audit log"},
    {"tcpvitals_audit_write_errors_total",
     MetricType::kCounter,
     "Times the audit log could not be written to, as when the disk is full; what was to be "
     "written "
     "waits in the buffer.",
     {},
     "audit log"},
    {"tcpvitals_audit_queued_bytes",
     MetricType::kGauge,
     "Bytes that wait to be written to the audit log; compare with "
     "tcpvitals_audit_queue_limit_bytes.",
     {},
     "audit log"},
    {"tcpvitals_audit_queue_limit_bytes",
     MetricType::kGauge,
     "Bytes that may wait to be written to the audit log; lines beyond that are lost.",
     {},
     "audit log"},
});

}  // namespace

std::span<const MetricDesc> audit_metrics() { return kMetrics; }

Result<void> AuditCollector::collect(Sink& sink, TimePoint /*deadline*/) {
  const AuditStatistics statistics = log_.statistics();
  if (statistics.queue_limit_bytes != 0) emit(statistics, sink);
  return {};
}

void emit(const AuditStatistics& statistics, Sink& sink) {
  const std::array<double, kMetrics.size()> values{
      double(statistics.lines),        double(statistics.lost),
      double(statistics.bytes),        double(statistics.write_errors),
      double(statistics.queued_bytes), double(statistics.queue_limit_bytes)};
  for (std::size_t i = 0; i < values.size(); ++i) sink.add(kMetrics[i], values[i]);
}

}  // namespace tcpvitals
