// What /api/v1/groups answers: the samples of /metrics, by group instead of by metric.
#pragma once

#include <prometheus/metric_family.h>

#include <span>
#include <string>
#include <vector>

#include "collectors/metric.h"

namespace tcpvitals {

// A line of JSON, of the families of one scrape. `metrics` describes them: those of groups can have
// each label that groups may have. Groups are sorted by their labels. Pure.
std::string render_groups(const std::vector<prometheus::MetricFamily>& families,
                          std::span<const MetricDesc> metrics);

}  // namespace tcpvitals
