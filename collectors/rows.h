// Rows: tables in which each metric of a record is one row: what it is, and how it is had. All of
// it static storage, read by collectors, METRICS.md and the golden tests alike.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <type_traits>

#include "collectors/metric.h"

namespace tcpvitals {

// One number of a T.
template <typename T>
struct Row {
  MetricDesc desc;
  double (*value)(const T&);
};

// A number of a T for each value of one more label, the last of the desc.
template <typename T>
struct LabelledRow {
  MetricDesc desc;
  std::span<const std::string_view> values;
  double (*value)(const T&, std::size_t i);  // of values[i]
};

// A distribution of a T.
template <typename T>
struct HistogramRow {
  MetricDesc desc;
  HistogramSample (*sample)(const T&);
  std::size_t needs = 0;  // leading bytes of tcp_info without which it is absent
};

constexpr double to_double(std::uint64_t v) { return static_cast<double>(v); }
constexpr double us_to_seconds(std::uint64_t us) { return static_cast<double>(us) * 1e-6; }

// The descs of several tables, one after the other, for Collector::metrics(). Each table is an
// array of rows with a desc.
template <typename... Tables>
constexpr auto descs_of(const Tables&... tables) {
  constexpr std::size_t kRows = (std::extent_v<Tables> + ...);
  std::array<MetricDesc, kRows> all{};
  auto out = all.begin();
  const auto append = [&out](const auto& table) {
    for (const auto& row : table) *out++ = row.desc;
  };
  (append(tables), ...);
  return all;
}

template <std::size_t... N>
constexpr auto joined(const std::array<MetricDesc, N>&... parts) {
  std::array<MetricDesc, (N + ...)> all{};
  auto out = all.begin();
  const auto append = [&out](const auto& part) { out = std::copy(part.begin(), part.end(), out); };
  (append(parts), ...);
  return all;
}

}  // namespace tcpvitals
