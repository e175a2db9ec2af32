// Family: a metric family that nobody changes any more, and that all scrapes of one run share: its
// samples are many, and copies of them would be most of what concurrent scrapes hold.
#pragma once

#include <prometheus/metric_family.h>

#include <memory>
#include <utility>
#include <vector>

namespace tcpvitals {

class Family {
 public:
  Family(prometheus::MetricFamily family)  // NOLINT(google-explicit-constructor)
      : family_(std::make_shared<const prometheus::MetricFamily>(std::move(family))) {}

  const prometheus::MetricFamily& operator*() const { return *family_; }
  const prometheus::MetricFamily* operator->() const { return family_.get(); }
  operator const prometheus::MetricFamily&() const { return *family_; }  // NOLINT

 private:
  std::shared_ptr<const prometheus::MetricFamily> family_;
};

using Families = std::vector<Family>;

}  // namespace tcpvitals
