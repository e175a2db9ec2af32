// The collector `audit`: whether the audit log keeps up, tcpvitals_audit_*. Nothing of one that was
// never on.
#pragma once

#include "collectors/collector.h"
#include "server/audit/audit.h"

namespace tcpvitals {

std::span<const MetricDesc> audit_metrics();

class AuditCollector final : public Collector {
 public:
  // `log` outlives the collector.
  explicit AuditCollector(const AuditLog& log) : log_(log) {}

  std::string_view name() const override { return "audit"; }
  std::span<const MetricDesc> metrics() const override { return audit_metrics(); }
  Result<void> collect(Sink& sink, TimePoint deadline) override;  // never fails

 private:
  const AuditLog& log_;
};

// The pure part of collect().
void emit(const AuditStatistics& statistics, Sink& sink);

}  // namespace tcpvitals
