// What /api/v1/groups answers: the samples of /metrics, by group instead of by metric.
#pragma once

#include <prometheus/metric_family.h>

#include <string>
#include <vector>

namespace tcpvitals {

// A line of JSON, of the families of one scrape. Groups are sorted by their labels' values. Pure.
std::string render_groups(const std::vector<prometheus::MetricFamily>& families);

}  // namespace tcpvitals
