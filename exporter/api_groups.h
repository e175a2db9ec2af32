// What /api/v1/groups answers: the samples of /metrics, by group instead of by metric.
#pragma once

#include <span>
#include <string>

#include "collectors/metric.h"
#include "exporter/family.h"

namespace tcpvitals {

// A line of JSON, of the families of one scrape. `metrics` describes them: those of groups can have
// each label that groups may have. Groups are sorted by their labels. Pure.
std::string render_groups(const Families& families, std::span<const MetricDesc> metrics);

}  // namespace tcpvitals
